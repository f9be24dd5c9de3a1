/**
 * Writing into an OCI layout. Blobs and index.json appear under their names complete or not at all: each is written
 * into a folder `.umoci-RANDOM` of the layout, made durable, and renamed. Whoever changes a layout holds a lock on its
 * folder, so that no two writers replace each other's index.json.
 */
import {
  closeSync,
  constants,
  fchownSync,
  fstatSync,
  fsyncSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, sep } from 'node:path';
import { VeneerError } from '../errors.ts';
import { digestOf } from '../oci/digest.ts';
import { encodeDocument, INDEX, type JsonObject } from '../oci/encode-json.ts';
import { blobPath } from '../oci/layout.ts';
import { OCI_INDEX } from '../oci/media-type.ts';
import { type Lock, waitForLock } from '../store/locks.ts';
import { flock } from '../sys/flock.ts';
import { makeDirectory } from '../sys/make-directory.ts';
import { type LayoutFolder, openLayoutFolder } from './layout-folder.ts';

/** umoci's name: its `gc` removes what a crash left of us, and ours what one left of it. */
const WORK = '.umoci-';
const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY;

/** A layout while it is being changed by nobody else. */
export interface LayoutChange extends LayoutFolder {
  /** Stores a small blob; one that is there already is replaced, which heals a damaged one. */
  putBlob(bytes: Buffer): BlobFacts;
  /** The path of a file that may be made in the work folder; what is not stored goes with it. */
  workFile(): string;
  /** Stores a file made under such a path; `digest` was taken while it was written. */
  storeFile(path: string, digest: string): void;
  /** Replaces index.json. */
  putIndex(index: JsonObject): void;
  /** The folder of the blobs of an algorithm, or null when there is none. */
  blobFolder(algorithm: string): string | null;
}

export interface BlobFacts {
  readonly digest: string;
  readonly size: number;
}

/**
 * Makes an empty layout; parents that are missing are made too. Throws `oci/exists` when there is anything at `path`.
 *
 * oci-layout comes last: a crash before it leaves a folder that nobody takes for a layout.
 */
export function createLayout(path: string): void {
  makeDirectory(dirname(path), 0o755);
  try {
    mkdirSync(path, 0o755);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw cause;
    throw new VeneerError('oci/exists', `Cannot make a layout in ${path}: there is something already`, {
      cause,
    });
  }
  mkdirSync(join(path, 'blobs'), 0o755);
  mkdirSync(join(path, 'blobs/sha256'), 0o755);
  writeFileSync(
    join(path, 'index.json'),
    encodeDocument({ schemaVersion: 2, mediaType: OCI_INDEX, manifests: [] }, INDEX),
  );
  writeFileSync(join(path, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}\n');
}

/** The lock of a folder goes when that is closed. */
const HELD: Lock = { release() {} };

/**
 * Runs `change` on the layout in `path`, alone: waits for other writers to end, in this process too. A crash leaves a
 * work folder that the next `gc` removes, and perhaps blobs that nothing names. `io/cancelled`: the signal fired while
 * it waited.
 */
export async function changeLayout<T>(
  path: string,
  change: (layout: LayoutChange) => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  // Checked first, for the better message; and again behind the lock, for what may have changed.
  await openLayoutFolder(path);
  const root = realpathSync(path);
  const lock = openSync(root, DIRECTORY);
  const writer = new Writer(root, lock);
  try {
    await waitForLock(() => (flock(lock, 'exclusive', { block: false }) ? HELD : null), { signal });
    const layout = await openLayoutFolder(path);
    return await change({
      ...layout,
      putBlob: (bytes) => writer.putBlob(bytes),
      workFile: () => writer.workFile(),
      storeFile: (path, digest) => writer.storeFile(path, digest),
      putIndex: (index) =>
        writer.put('index.json', encodeDocument({ ...index, mediaType: OCI_INDEX }, INDEX)),
      blobFolder: (algorithm) => blobFolder(root, algorithm),
    });
  } finally {
    writer.close();
    closeSync(lock);
  }
}

class Writer {
  readonly #root: string;
  readonly #folder: number;
  #work: { readonly path: string; readonly lock: number } | null = null;
  #count = 0;

  /** `folder` is the open folder `root`. */
  constructor(root: string, folder: number) {
    this.#root = root;
    this.#folder = folder;
  }

  putBlob(bytes: Buffer): BlobFacts {
    const digest = digestOf(bytes);
    this.#makeBlobFolder();
    this.put(blobPath(digest), bytes);
    return { digest, size: bytes.length };
  }

  workFile(): string {
    return join(this.#workFolder(), String(this.#count++));
  }

  storeFile(path: string, digest: string): void {
    this.#makeBlobFolder();
    this.#publish(openSync(path, constants.O_RDONLY), path, blobPath(digest));
  }

  /** Writes `name` in the layout; durable when it returns. */
  put(name: string, bytes: Buffer): void {
    const temporary = this.workFile();
    const file = openSync(temporary, 'wx', 0o644);
    try {
      writeFileSync(file, bytes);
    } catch (error) {
      closeSync(file);
      throw error;
    }
    this.#publish(file, temporary, name);
  }

  #makeBlobFolder(): void {
    if (blobFolder(this.#root, 'sha256') !== null) return;
    makeDirectory(join(this.#root, 'blobs/sha256'), 0o755);
    fsyncSync(this.#folder);
  }

  /** Closes `file`, which stands at `temporary`. */
  #publish(file: number, temporary: string, name: string): void {
    const final = join(this.#root, name);
    try {
      // What root writes into somebody's layout stays theirs.
      const { uid, gid } = fstatSync(this.#folder);
      if (process.geteuid?.() === 0) fchownSync(file, uid, gid);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, final);
    const folder = openSync(dirname(final), DIRECTORY);
    try {
      fsyncSync(folder);
    } finally {
      closeSync(folder);
    }
  }

  /** Locked as umoci locks its own, so that a `umoci gc` beside us leaves it alone. */
  #workFolder(): string {
    if (this.#work === null) {
      const path = mkdtempSync(join(this.#root, WORK));
      const lock = openSync(path, DIRECTORY);
      this.#work = { path, lock };
      flock(lock, 'exclusive', { block: false });
    }
    return this.#work.path;
  }

  close(): void {
    if (this.#work === null) return;
    rmSync(this.#work.path, { recursive: true, force: true });
    closeSync(this.#work.lock);
  }
}

/** Nothing is made, written or deleted behind a symlink that leaves the layout. */
function blobFolder(root: string, algorithm: string): string | null {
  for (const name of ['blobs', `blobs/${algorithm}`]) {
    const path = join(root, name);
    if (statSync(path, { throwIfNoEntry: false }) === undefined) return null;
    if (realpathSync(path).startsWith(root === sep ? sep : root + sep)) continue;
    throw new VeneerError(
      'oci/invalid',
      `Cannot change ${root}: ${name} is a symlink that leaves the directory`,
    );
  }
  return join(root, 'blobs', algorithm);
}

/** Removes the work folders that crashed writers left in a layout, ours and umoci's; a live one holds its lock. */
export function removeWorkFolders(path: string): number {
  let removed = 0;
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    if (!entry.name.startsWith(WORK) || !entry.isDirectory()) continue;
    const folder = join(path, entry.name);
    const lock = openSync(folder, DIRECTORY | constants.O_NOFOLLOW);
    try {
      if (!flock(lock, 'exclusive', { block: false })) continue;
      rmSync(folder, { recursive: true, force: true });
      removed++;
    } finally {
      closeSync(lock);
    }
  }
  return removed;
}
