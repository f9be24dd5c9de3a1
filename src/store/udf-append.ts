/**
 * A trailer appended to a tar in place, and taken off again. docs/decisions/0042.
 *
 * The file grows in place, so a crash could leave it longer than it was. Before the first byte is written, a
 * journal beside it says how long the tar is, and is durable; it goes when the trailer is, or when the file has
 * its old length again. What a crash leaves, by the moment:
 *
 * - before the journal has its name: the tar as it was, at most a stray `.NAME.veneer-append.new`
 * - after it, up to the anchor: the tar and part of the trailer, whose last block is no anchor, so nothing mounts
 *   it; it is a tar like before for every reader of tars. The next run cuts it off
 * - after the anchor: the tar and its whole trailer, and a journal; the next run sees that all is there
 *
 * A journal is obeyed only when what stands behind the tar is part of the very trailer that belongs there: a
 * file that was replaced or written to meanwhile loses nothing.
 */
import {
  closeSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { ByteSink } from '../bytes/io.ts';
import { VeneerError } from '../errors.ts';
import { flock } from '../sys/flock.ts';
import { findTrailer, type Trailer, UDF_BLOCK } from '../udf/index.ts';
import { syncPathNow } from './atomic.ts';
import { fileSource } from './data-files.ts';
import { isMissing, storeError } from './io-errors.ts';
import {
  type BuiltTrailer,
  buildTrailer,
  compareTail,
  prefixOf,
  type TrailerOptions,
  writeTrailer,
} from './udf-build.ts';

export interface AppendOptions extends TrailerOptions {
  readonly signal: AbortSignal;
  /** Called when everything is planned and nothing is written yet. */
  readonly onPlanned?: (built: BuiltTrailer) => Promise<void>;
}

export interface AppendedTrailer extends BuiltTrailer {
  /** False when the same trailer was there already. */
  readonly appended: boolean;
}

/** Where the journal of `tar` stands. */
export const journalPath = (tar: string): string => join(dirname(tar), `.${basename(tar)}.veneer-append`);

/** The journal's text: which file, and how long it is without a trailer. */
interface Journal {
  readonly inode: number;
  readonly tarLength: number;
}

/**
 * Appends the trailer of a tar to it; a tar that has this trailer stays as it is, one with a trailer of other
 * options gets a new one. Throws `udf/foreign-trailer` for a tar that ends in a trailer which is not its own.
 */
export async function appendTrailer(path: string, options: AppendOptions): Promise<AppendedTrailer> {
  const fd = openForAppend(path);
  try {
    const old = await restoreTar(path, fd, options);
    if (old?.state === 'whole') return { ...old.built, appended: false };
    const tar = fileSource(fd, path);
    const built = old?.built ?? buildTrailer(tar, path, options, options.signal);
    await options.onPlanned?.(built);
    options.signal.throwIfAborted();
    append(path, fd, built);
    return { ...built, appended: true };
  } catch (error) {
    throw storeError(`index ${path}`, error);
  } finally {
    closeSync(fd);
  }
}

export interface StrippedTar {
  /** Bytes of the tar. */
  readonly tarLength: number;
  readonly digest: string;
  /** Bytes that were cut off. */
  readonly removed: number;
}

/**
 * Takes the trailer off: the tar is, bit for bit, what it was. Throws `udf/no-trailer` when it has none,
 * `udf/foreign-trailer` when the tar in front of it is not the one that the trailer was made for.
 */
export async function stripTrailer(path: string, options: { signal: AbortSignal }): Promise<StrippedTar> {
  const fd = openForAppend(path);
  try {
    const source = fileSource(fd, path);
    const journal = readJournal(path, fd);
    if (journal !== null) {
      const built = obeyJournal(path, fd, journal, DEFAULTS, options.signal);
      if (built !== null) {
        cutOff(path, fd, built.tarLength);
        const removed = source.size - built.tarLength;
        return { tarLength: built.tarLength, digest: built.digest, removed };
      }
    }
    const trailer = findTrailer(source);
    if (trailer === null) {
      throw new VeneerError('udf/no-trailer', `Cannot strip ${path}: it does not end in a UDF trailer`);
    }
    const digest = hashPrefix(source, trailer.tarLength, options.signal);
    if (digest !== trailer.digest) throw foreign(path, 'strip', `the tar in front of it is now ${digest}`);
    cutOff(path, fd, trailer.tarLength);
    return { tarLength: trailer.tarLength, digest, removed: source.size - trailer.tarLength };
  } catch (error) {
    throw storeError(`strip ${path}`, error);
  } finally {
    closeSync(fd);
  }
}
