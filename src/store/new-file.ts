/** A file of the store while it is written: from begin to end, and read again meanwhile. */
import { createHash, type Hash } from 'node:crypto';
import { writeSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { ByteSource } from '../bytes/io.ts';
import { beginWriteback } from '../sys/sync.ts';
import { readExactly } from './data-files.ts';
import { storeError } from './io-errors.ts';

/** With fsync: so many bytes are sent to the disk at a time, so that making the file durable takes a moment. */
const WRITEBACK_BYTES = 8 << 20;

/**
 * Sequential writes. They are synchronous, because waking a thread for each costs more than the copy into the page
 * cache; what goes to disk goes there behind our back.
 */
export class NewFile implements ByteSource {
  readonly #file: FileHandle;
  readonly #path: string;
  readonly #fsync: boolean;
  readonly #hash: Hash | null;
  /** Up to here it is on its way to the disk. */
  #sent = 0;
  size = 0;

  private constructor(file: FileHandle, path: string, options: { fsync: boolean; hash: boolean }) {
    this.#file = file;
    this.#path = path;
    this.#fsync = options.fsync;
    this.#hash = options.hash ? createHash('sha256') : null;
  }

  /** Makes the file, which must not exist. */
  static async create(path: string, options: { fsync: boolean; hash: boolean }): Promise<NewFile> {
    try {
      return new NewFile(await open(path, 'wx+', 0o444), path, options);
    } catch (error) {
      throw storeError(`write ${path}`, error);
    }
  }

  append(chunk: Buffer): void {
    try {
      for (let done = 0; done < chunk.length; ) {
        done += writeSync(this.#file.fd, chunk, done, chunk.length - done, this.size + done);
      }
    } catch (error) {
      throw storeError(`write ${this.#path}`, error);
    }
    this.#hash?.update(chunk);
    this.size += chunk.length;
    if (!this.#fsync || this.size - this.#sent < WRITEBACK_BYTES) return;
    beginWriteback(this.#file.fd, this.#sent, this.size - this.#sent);
    this.#sent = this.size;
  }

  read(offset: number, length: number, scratch?: Buffer): Buffer {
    return readExactly(this.#file.fd, offset, length, this.#path, scratch);
  }

  /** `sha256:…` of all bytes so far; nothing can be appended then. */
  digest(): string {
    return `sha256:${this.#hash!.digest('hex')}`;
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}
