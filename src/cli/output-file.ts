/** A file that a command writes: under a temporary name beside its place until it is whole. */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  ftruncateSync,
  linkSync,
  lstatSync,
  openSync,
  readSync,
  renameSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { ByteSink } from '../bytes/io.ts';
import { VeneerError } from '../errors.ts';
import { usageError } from './parse.ts';

export class OutputFile implements ByteSink {
  readonly path: string;
  readonly fd: number;
  readonly #temporary: string;
  readonly #force: boolean;
  #open = true;

  /**
   * Throws `cli/exists` when `path` is there and `force` is not set. A crash leaves a file `.NAME.MARK.unfinished`,
   * which {@link removeUnfinished} removes.
   */
  constructor(path: string, force: boolean, mark = newMark()) {
    if (!force && lstatSync(path, { throwIfNoEntry: false }) !== undefined) throw exists(path);
    this.path = path;
    this.#force = force;
    this.#temporary = temporaryName(path, mark);
    this.fd = openSync(this.#temporary, 'wx+');
  }

  write(chunk: Buffer, at: number): void {
    for (let done = 0; done < chunk.length; )
      done += writeSync(this.fd, chunk, done, chunk.length - done, at + done);
  }

  /** Reads back what was written. */
  read(at: number, length: number): Buffer {
    const bytes = Buffer.alloc(length);
    for (let done = 0; done < length; ) {
      const count = readSync(this.fd, bytes, done, length - done, at + done);
      if (count === 0)
        throw new VeneerError('io/failed', `Cannot read ${this.path} back at ${at + done}: nothing is there`);
      done += count;
    }
    return bytes;
  }

  /** Takes back what was written from `size` on. */
  truncate(size: number): void {
    ftruncateSync(this.fd, size);
  }

  /** Gives the file its name. */
  commit(): void {
    this.#close();
    if (this.#force) {
      renameSync(this.#temporary, this.path);
      return;
    }
    try {
      // Unlike rename(2), link(2) never replaces what came up meanwhile.
      linkSync(this.#temporary, this.path);
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'EEXIST') throw exists(this.path);
      // A file system without hard links.
      if (lstatSync(this.path, { throwIfNoEntry: false }) !== undefined) throw exists(this.path);
      renameSync(this.#temporary, this.path);
      return;
    }
    unlinkSync(this.#temporary);
  }

  /** Leaves nothing behind. Harmless after {@link commit}. */
  discard(): void {
    this.#close();
    removeFile(this.#temporary);
  }

  #close(): void {
    if (this.#open) closeSync(this.fd);
    this.#open = false;
  }
}

/** What tells the unfinished files of one piece of work from all others. */
export const newMark = (): string => randomBytes(6).toString('hex');

/** For a thread that died at its work, what {@link OutputFile.discard} would have done. */
export function removeUnfinished(path: string, mark: string): void {
  removeFile(temporaryName(path, mark));
}

const temporaryName = (path: string, mark: string): string =>
  join(dirname(path), `.${basename(path)}.${mark}.unfinished`);

function removeFile(path: string): void {
  if (lstatSync(path, { throwIfNoEntry: false }) !== undefined) unlinkSync(path);
}

/** Runs `work` with the files it writes; all get their names when it succeeds, none when it fails. */
export async function withOutputs<T>(
  paths: readonly string[],
  { force, signal, mark }: { force: boolean; signal: AbortSignal; mark?: string },
  work: (files: readonly OutputFile[]) => Promise<T>,
): Promise<T> {
  const files: OutputFile[] = [];
  try {
    for (const path of paths) files.push(new OutputFile(path, force, mark));
    const result = await work(files);
    // Work that never waits does not hear Ctrl-C: let a pending signal in before the names appear.
    await new Promise((resolve) => setImmediate(resolve));
    signal.throwIfAborted();
    for (const file of files) file.commit();
    return result;
  } finally {
    for (const file of files) file.discard();
  }
}

/** `NAME.erofs` beside each input, or in the folder `output`, or `output` itself for a single input. */
export function imageNames(command: string, inputs: readonly string[], output: string | undefined): string[] {
  if (output === undefined) return inputs.map((input) => `${input}.erofs`);
  const isFolder = statSync(output, { throwIfNoEntry: false })?.isDirectory() ?? false;
  if (!isFolder && inputs.length === 1) return [output];
  if (!isFolder) throw usageError(command, `-o has to be a folder for several inputs, and ${output} is none`);
  const names = inputs.map((input) => join(output, `${basename(input)}.erofs`));
  const twice = names.find((name, index) => names.indexOf(name) < index);
  if (twice !== undefined) throw usageError(command, `two inputs would both become ${twice}`);
  return names;
}

function exists(path: string): VeneerError {
  return new VeneerError('cli/exists', `Cannot write ${path}: it is there already`, {
    hint: '--force replaces it',
  });
}

export const FORCE_FLAG = {
  force: {
    kind: 'boolean',
    brief: 'Replace output files that are there',
    withNegated: false,
    default: false,
  },
} as const;
