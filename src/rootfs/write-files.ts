/** Writes batches of directories and files below an open root directory that is ours alone meanwhile. */
import { createHash, hash } from 'node:crypto';
import { chmodSync, closeSync, fchmodSync, fchownSync, ftruncateSync, readSync, writeSync } from 'node:fs';
import { VeneerError } from '../errors.ts';
import { BlockSharer } from '../sys/block-sharer.ts';
import {
  createFileAt,
  makeDirectoryAt,
  makeNodeAt,
  openDirectoryAt,
  setOwnerAt,
  setTimesAt,
  setXattrOf,
  symlinkAt,
} from '../sys/make-at.ts';
import { statAt } from '../sys/stat.ts';
import { setXattr } from '../sys/xattr.ts';
import { fillPiece, type ReadData } from '../tree/file-data.ts';
import { type Extent, S_IFLNK, S_IFMT, S_IFREG, TreeNode } from '../tree/node.ts';
import { joinPath, showPath, splitPath } from '../tree/path.ts';
import { type FileFactsRow, readFacts, type WriteBatch, type WrittenBatch } from './write-batch.ts';
import { Attempts } from './write-problems.ts';

export interface WriterOptions {
  /** Open directory that becomes the root. */
  readonly root: number;
  /** Open files, one a data source of the tree. */
  readonly sources: readonly number[];
  /** Give every file its owner; otherwise all stay ours. */
  readonly owners: boolean;
  /** Note digests, inode numbers and change times. */
  readonly inspect: boolean;
  /** Share blocks with the sources where that can be done. */
  readonly share: boolean;
  /** Of this process: a thread cannot ask. */
  readonly umask: number;
}

/** Nobody but us gets into a directory before all is there. */
const WHILE_WRITING = 0o700;
/** Larger files go through in pieces. */
const PIECE = 1 << 20;
/** Below it a copy is cheaper than to ask the kernel to share. */
const SHARED_FROM = 16 << 10;
const SPECIAL_BITS = 0o7000;
const EMPTY_DIGEST = hash('sha256', '');

export class FileWriter {
  readonly #options: WriterOptions;
  readonly #uid = process.geteuid!();
  readonly #gid = process.getegid!();
  /** The open directories from the root to where we are, and their names. */
  readonly #dirs: number[];
  readonly #names: string[] = [];
  readonly #buffer = Buffer.allocUnsafeSlow(PIECE);
  readonly #sharer = new BlockSharer();
  #shared = 0;
  #attempts = new Attempts();

  constructor(options: WriterOptions) {
    this.#options = options;
    this.#dirs = [options.root];
  }

  write(batch: WriteBatch): WrittenBatch {
    this.#attempts = new Attempts();
    this.#shared = 0;
    const count = this.#options.inspect ? batch.names.length : 0;
    const digests: string[] = [];
    const inodes = new BigUint64Array(count);
    const ctimes = new Float64Array(2 * count);
    let index = 0;
    batch.paths.forEach((path, at) => {
      const dir = this.#enter(path);
      for (const end = index + batch.counts[at]!; index < end; index++) {
        const name = batch.names[index]!;
        const digest = this.#make(dir, name, joinPath(path, name), batch, index);
        if (count === 0) continue;
        digests.push(digest);
        // Null: it could not be made, and the caller knows.
        const facts = statAt(dir, name);
        if (facts === null) continue;
        inodes[index] = facts.inode;
        ctimes[2 * index] = facts.ctime;
        ctimes[2 * index + 1] = facts.ctimeNsec;
      }
    });
    return { digests, inodes, ctimes, shared: this.#shared, problems: this.#attempts.problems };
  }

  close(): void {
    while (this.#dirs.length > 1) this.#leave();
  }

  /** Goes to a directory, making what is missing on the way. */
  #enter(path: string): number {
    const parts = splitPath(path);
    let shared = 0;
    while (shared < this.#names.length && this.#names[shared] === parts[shared]) shared++;
    while (this.#names.length > shared) this.#leave();
    for (const name of parts.slice(shared)) {
      const parent = this.#dirs.at(-1)!;
      makeDirectoryAt(parent, name, WHILE_WRITING);
      this.#dirs.push(openDirectoryAt(parent, name));
      this.#names.push(name);
    }
    return this.#dirs.at(-1)!;
  }

  #leave(): void {
    closeSync(this.#dirs.pop()!);
    this.#names.pop();
  }

  /** Returns the digest of a regular file. */
  #make(dir: number, name: string, path: string, batch: WriteBatch, index: number): string {
    const facts = readFacts(batch, index);
    const xattrs = batch.xattrs.get(index) ?? null;
    if ((facts.mode & S_IFMT) === S_IFREG) return this.#makeFile(dir, name, path, facts, batch, index);
    const made = this.#attempts.attempt(path, 'file', () => {
      if ((facts.mode & S_IFMT) === S_IFLNK) symlinkAt(batch.targets.get(index)!, dir, name);
      else makeNodeAt(dir, name, facts.mode, facts.devMajor, facts.devMinor);
    });
    if (!made) return '';
    const here = Buffer.from(`/proc/self/fd/${dir}/${name}`, 'latin1');
    if (this.#isOthers(facts))
      this.#attempts.attempt(path, 'owner', () => setOwnerAt(dir, name, facts.uid, facts.gid));
    if ((facts.mode & S_IFMT) !== S_IFLNK && this.#needsMode(facts)) {
      this.#attempts.attempt(path, 'mode', () => chmodSync(here, facts.mode & 0o7777));
    }
    for (const [key, value] of xattrs ?? [])
      this.#attempts.attempt(path, `xattr ${key}`, () => setXattr(here, key, value));
    this.#attempts.attempt(path, 'times', () => setTimesAt(dir, name, facts.mtime, facts.mtimeNsec));
    return '';
  }

  #makeFile(
    dir: number,
    name: string,
    path: string,
    facts: FileFactsRow,
    batch: WriteBatch,
    index: number,
  ): string {
    const file = createFileAt(dir, name, facts.mode & 0o777);
    try {
      const digest = this.#fill(file, path, facts, batch, index);
      // chown(2) takes setuid bits and capabilities away, everything takes the time.
      if (this.#isOthers(facts))
        this.#attempts.attempt(path, 'owner', () => fchownSync(file, facts.uid, facts.gid));
      if (this.#needsMode(facts))
        this.#attempts.attempt(path, 'mode', () => fchmodSync(file, facts.mode & 0o7777));
      for (const [key, value] of batch.xattrs.get(index) ?? []) {
        this.#attempts.attempt(path, `xattr ${key}`, () => setXattrOf(file, key, value));
      }
      this.#attempts.attempt(path, 'times', () => setTimesAt(file, null, facts.mtime, facts.mtimeNsec));
      return digest;
    } finally {
      closeSync(file);
    }
  }

  #isOthers({ uid, gid }: FileFactsRow): boolean {
    return this.#options.owners && (uid !== this.#uid || gid !== this.#gid);
  }

  /** Whether the file does not have its mode from being made. */
  #needsMode({ mode }: FileFactsRow): boolean {
    return (mode & (SPECIAL_BITS | this.#options.umask)) !== 0;
  }

  /** Writes the data; returns its digest when that is wanted. */
  #fill(file: number, path: string, facts: FileFactsRow, batch: WriteBatch, index: number): string {
    const { size } = facts;
    if (size === 0) return EMPTY_DIGEST;
    const { inspect } = this.#options;
    const extents = batch.extents.get(index);
    if (extents === undefined && facts.source >= 0 && size <= PIECE) {
      const shared = this.#share(file, { offset: 0, length: size, source: facts.source, at: facts.at });
      const bytes = this.#read(facts.source, facts.at, size, path);
      writeAll(file, bytes.subarray(shared), shared, path);
      return inspect ? hash('sha256', bytes) : '';
    }
    const node = new TreeNode(facts.mode);
    node.size = size;
    node.source = facts.source;
    node.at = facts.at;
    node.extents = extents ?? null;
    const read: ReadData = (source, at, length) => this.#read(source, at, length, path);
    const runs =
      extents ?? (facts.source < 0 ? [] : [{ offset: 0, length: size, source: facts.source, at: facts.at }]);
    // What no run covers becomes a hole.
    ftruncateSync(file, size);
    const whole = inspect && extents === undefined && facts.source >= 0 ? createHash('sha256') : null;
    for (const run of runs) {
      const shared = this.#share(file, run);
      for (let done = 0; done < run.length; done += PIECE) {
        const bytes = this.#read(run.source, run.at + done, Math.min(PIECE, run.length - done), path);
        const have = Math.min(Math.max(shared - done, 0), bytes.length);
        writeAll(file, bytes.subarray(have), run.offset + done + have, path);
        whole?.update(bytes);
      }
    }
    if (!inspect) return '';
    return whole === null ? digestOfSparse(node, read) : whole.digest('hex');
  }

  /** Returns how many bytes of the run are in the file already, from its start. */
  #share(file: number, { offset, length, source, at }: Extent): number {
    const from = this.#options.sources[source];
    if (!this.#options.share || length < SHARED_FROM || from === undefined) return 0;
    const shared = this.#sharer.share(from, at, length, file, offset);
    this.#shared += shared;
    return shared;
  }

  /** The bytes are good until the next read. */
  #read(source: number, at: number, length: number, path: string): Buffer {
    const bytes = this.#buffer.subarray(0, length);
    const file = this.#options.sources[source];
    if (file === undefined) throw new RangeError(`no data source ${source}`);
    for (let done = 0; done < length; ) {
      const got = readSync(file, bytes, done, length - done, at + done);
      if (got === 0) {
        throw new VeneerError(
          'io/failed',
          `Cannot write ${showPath(path)}: its data ends at byte ${at + done} of the layer`,
        );
      }
      done += got;
    }
    return bytes;
  }
}

function digestOfSparse(node: TreeNode, read: ReadData): string {
  const sum = createHash('sha256');
  const piece = Buffer.alloc(PIECE);
  for (let at = 0; at < node.size; at += PIECE) {
    const part = piece.subarray(0, Math.min(PIECE, node.size - at));
    fillPiece(node, at, part, read);
    sum.update(part);
  }
  return sum.digest('hex');
}

function writeAll(file: number, bytes: Buffer, at: number, path: string): void {
  try {
    for (let done = 0; done < bytes.length; ) {
      done += writeSync(file, bytes, done, bytes.length - done, at + done);
    }
  } catch (cause) {
    const noSpace = ['ENOSPC', 'EDQUOT'].includes((cause as NodeJS.ErrnoException).code ?? '');
    throw new VeneerError(
      noSpace ? 'io/no-space' : 'io/failed',
      `Cannot write ${showPath(path)}: ${(cause as Error).message}`,
      { cause },
    );
  }
}
