/**
 * The files of a directory as one data source: one behind the other, in the order they were found. So whatever reads
 * file data through a tree's sources reads it from there too.
 */
import { closeSync, constants, openSync, readSync } from 'node:fs';
import type { ByteSource } from '../bytes/io.ts';
import { VeneerError } from '../errors.ts';
import { O_PATH, openBeneath } from '../sys/open-beneath.ts';
import { type FileFacts, statAt } from '../sys/stat.ts';
import { showPath } from '../tree/path.ts';
import { withAccess } from './lend-access.ts';

interface DataFile {
  /** From the root, a byte string. */
  readonly path: string;
  /** Where it begins in the source. */
  readonly begin: number;
  readonly facts: FileFacts;
}

const { O_RDONLY, O_DIRECTORY, O_NONBLOCK } = constants;

export class DirectoryData implements ByteSource {
  /** Descriptor of the directory, for paths that begin there. */
  readonly root: number;
  readonly #files: DataFile[] = [];
  #size = 0;
  #open: { readonly fd: number; readonly file: DataFile } | null = null;

  /** @param path where symlinks on the way are the user's own business */
  constructor(path: string | Buffer) {
    this.root = openSync(path, O_PATH | O_DIRECTORY);
  }

  get size(): number {
    return this.#size;
  }

  /** Puts a regular file behind the others; returns where it begins. */
  add(path: string, facts: FileFacts): number {
    const begin = this.#size;
    this.#size += facts.size;
    if (!Number.isSafeInteger(this.#size)) {
      throw new VeneerError('tree/limit', `Cannot read ${showPath(path)}: the files are too large together`);
    }
    this.#files.push({ path, begin, facts });
    return begin;
  }

  /** Throws `rootfs/changed` when the file is no longer what it was when it was found. */
  read(offset: number, length: number, scratch?: Buffer): Buffer {
    if (offset < 0 || length < 0 || offset + length > this.#size) {
      throw new RangeError(`Cannot read ${length} bytes at ${offset}: only ${this.#size} bytes are there`);
    }
    const bytes = scratch?.subarray(0, length) ?? Buffer.allocUnsafe(length);
    for (let done = 0; done < length; ) {
      const at = offset + done;
      const { fd, file } = this.#openAt(at);
      const wanted = Math.min(length - done, file.begin + file.facts.size - at);
      const got = readSync(fd, bytes, done, wanted, at - file.begin);
      if (got === 0) throw changed(file.path);
      done += got;
    }
    return bytes;
  }

  close(): void {
    this.#closeFile();
    closeSync(this.root);
  }

  #openAt(at: number): { readonly fd: number; readonly file: DataFile } {
    const open = this.#open;
    if (open !== null && at >= open.file.begin && at < open.file.begin + open.file.facts.size) return open;
    this.#closeFile();
    const file = this.#find(at);
    // A FIFO in its place must not make us wait.
    const fd = withAccess(this.root, file.path, () =>
      openBeneath(this.root, file.path, O_RDONLY | O_NONBLOCK),
    );
    const now = statAt(fd, '');
    if (now === null || !isSame(now, file.facts)) {
      closeSync(fd);
      throw changed(file.path);
    }
    this.#open = { fd, file };
    return this.#open;
  }

  /** The last file that begins at or before `at`; files without bytes are never added. */
  #find(at: number): DataFile {
    let low = 0;
    let high = this.#files.length;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (this.#files[middle]!.begin <= at) low = middle;
      else high = middle;
    }
    return this.#files[low]!;
  }

  #closeFile(): void {
    if (this.#open !== null) closeSync(this.#open.fd);
    this.#open = null;
  }
}

function isSame(now: FileFacts, then: FileFacts): boolean {
  return (
    now.mode === then.mode &&
    now.size === then.size &&
    now.inode === then.inode &&
    now.mtime === then.mtime &&
    now.mtimeNsec === then.mtimeNsec
  );
}

function changed(path: string): VeneerError {
  return new VeneerError('rootfs/changed', `Cannot read ${showPath(path)}: it changed meanwhile`, {
    hint: 'Stop or pause what writes there, and try again.',
  });
}
