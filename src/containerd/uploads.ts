/**
 * Blobs on their way into containerd's content store: each is a file that grows, in a folder of its own beside notes of
 * its name and size (containerd, plugins/content/local). Pulls and imports name them by the digest that they will have.
 *
 * What such a name claims is worth nothing until the digest is checked, as always.
 */
import { existsSync, type FSWatcher, readdirSync, readFileSync, statSync, watch } from 'node:fs';
import { dirname, join } from 'node:path';
import { DETECT_BYTES, detectCompression } from '../compress/index.ts';
import { OCI_LAYER } from '../oci/media-type.ts';
import type { BlobRef } from '../store/records.ts';
import { readHead } from './content-root.ts';

/** A blob that is being written. */
export interface Upload {
  /** What it will be, as the uploader says. */
  readonly blob: BlobRef;
  /** The file. */
  readonly path: string;
  readonly inode: number;
  /** Where the file goes when it is whole and has the digest. */
  readonly target: string;
}

export interface UploadsListener {
  /** Asked again and again until it takes the upload, or that is over. */
  onUpload(upload: Upload): boolean;
  onProblem(what: string, error: unknown): void;
}

const INGEST = 'ingest';
/** Smaller ones are whole before anybody has looked. */
const MIN_BYTES = 1 << 20;
/** A new one is looked at after so many milliseconds, */
const FIRST_PAUSE = 25;
/** then after twice as many each time, so many in the end. */
const LONGEST_PAUSE = 5000;
/** So many wait at a time; the oldest go first. */
const KEPT = 256;
/** Nobody writes to a file that has not changed for so many milliseconds. */
const RESTING = 10_000;
/** Namespace and number, which containerd's metadata store puts before the name, and what its clients call a layer. */
const LAYER_REF = /^[^/]+\/\d+\/(?:layer-(?:.*@)?sha256:|tar-(?:.*\/)?blobs\/sha256\/)([0-9a-f]{64})$/;

export class Uploads {
  readonly #listener: UploadsListener;
  /** By folder, when it is their turn. */
  readonly #waiting = new Map<string, { due: number; pause: number }>();
  #root = '';
  #watcher: FSWatcher | null = null;
  #timer: NodeJS.Timeout | null = null;

  constructor(listener: UploadsListener) {
    this.#listener = listener;
  }

  /** Watches the content store in the folder `root` from now on, or for it to be made: that is with the first upload. */
  open(root: string): void {
    this.close();
    this.#root = root;
    try {
      this.#watch();
    } catch (error) {
      this.#listener.onProblem(`watch uploads in ${root}`, error);
    }
  }

  close(): void {
    this.#watcher?.close();
    this.#watcher = null;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#waiting.clear();
  }

  #watch(): void {
    const ingest = join(this.#root, INGEST);
    const there = nearest(ingest);
    this.#watcher = watch(there, { persistent: false }, (_, name) => {
      if (there === ingest && name !== null) this.#add(join(ingest, name));
      else if (nearest(ingest) !== there) this.open(this.#root);
    });
    this.#watcher.on('error', () => this.close());
    // It may have been made before it was watched.
    if (there === ingest) for (const name of readdirSync(ingest)) this.#add(join(ingest, name));
    else if (nearest(ingest) !== there) this.open(this.#root);
  }

  #add(directory: string): void {
    if (this.#waiting.has(directory)) return;
    if (this.#waiting.size >= KEPT) this.#waiting.delete(this.#waiting.keys().next().value!);
    this.#waiting.set(directory, { due: performance.now() + FIRST_PAUSE, pause: FIRST_PAUSE });
    this.#wait();
  }

  #wait(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#waiting.size === 0) return;
    const next = Math.min(...[...this.#waiting.values()].map(({ due }) => due));
    this.#timer = setTimeout(() => this.#look(), Math.max(1, next - performance.now())).unref();
  }

  #look(): void {
    const now = performance.now();
    for (const [directory, turn] of this.#waiting) {
      if (turn.due > now) continue;
      turn.pause = Math.min(turn.pause * 2, LONGEST_PAUSE);
      turn.due = now + turn.pause;
      if (this.#isSettled(directory)) this.#waiting.delete(directory);
    }
    this.#wait();
  }

  /** True when it is taken, over, or none to take. */
  #isSettled(directory: string): boolean {
    try {
      const found = readUpload(this.#root, directory);
      return found === null || (found !== 'later' && this.#listener.onUpload(found));
    } catch (error) {
      this.#listener.onProblem(`look at ${directory}`, error);
      return true;
    }
  }
}

/** The lowest folder on the way to `path` that is there. */
function nearest(path: string): string {
  return existsSync(path) ? path : nearest(dirname(path));
}

/** Null for what is over, or no layer to begin with while it comes. */
function readUpload(root: string, directory: string): Upload | 'later' | null {
  const path = join(directory, 'data');
  try {
    const head = readHead(path);
    const { ino: inode, mtimeMs } = statSync(path);
    const hex = LAYER_REF.exec(readFileSync(join(directory, 'ref'), 'utf8'))?.[1];
    const size = Number(readFileSync(join(directory, 'total'), 'utf8'));
    if (hex === undefined || !Number.isSafeInteger(size) || size < MIN_BYTES) return null;
    if (head.length < DETECT_BYTES || Date.now() - mtimeMs > RESTING) return 'later';
    const compression = detectCompression(head);
    if (compression === 'none') return null;
    const blob = { digest: `sha256:${hex}`, size, mediaType: `${OCI_LAYER}+${compression}` };
    return { blob, path, inode, target: join(root, 'blobs', 'sha256', hex) };
  } catch {
    // The file comes behind the notes, and goes before its folder.
    return existsSync(directory) && !existsSync(path) ? 'later' : null;
  }
}
