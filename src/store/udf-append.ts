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
  existsSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { ByteSink, ByteSource } from '../bytes/io.ts';
import { VeneerError } from '../errors.ts';
import { flock } from '../sys/flock.ts';
import { findTrailer } from '../udf/index.ts';
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
  /** A trailer of somebody else's that the file ends in is part of the tar. */
  readonly asIs?: boolean;
  /** Called when everything is planned and nothing is written yet. */
  readonly onPlanned?: (built: BuiltTrailer, tar: ByteSource) => Promise<void>;
}

export interface AppendedTrailer extends BuiltTrailer {
  /** False when the same trailer was there already. */
  readonly appended: boolean;
}

/** Where the journal of `tar` stands: the file has one, whatever symbolic link leads to it. */
export function journalPath(tar: string): string {
  const path = realpathSync(tar);
  return join(dirname(path), `.${basename(path)}.veneer-append`);
}

/** What a journal says: which file, how long it is without a trailer, and which trailer it gets. */
interface Journal extends TrailerOptions {
  readonly inode: number;
  readonly tarLength: number;
}

/**
 * Appends the trailer of a tar to it; a tar that has this trailer stays as it is, one with its trailer of other
 * options gets the new one instead. Throws `udf/foreign-trailer` for a tar that ends in a trailer not its own.
 */
export async function appendTrailer(path: string, options: AppendOptions): Promise<AppendedTrailer> {
  return withTar(path, 'index', async (fd) => {
    const old = inspectTail(path, fd, 'index', options);
    const same = old !== null && old.names === options.names && old.whiteouts === options.whiteouts;
    const source = fileSource(fd, path);
    const tar = prefixOf(source, old?.built.tarLength ?? source.size);
    const built = same ? old.built : buildTrailer(tar, path, options, options.signal);
    await options.onPlanned?.(built, tar);
    options.signal.throwIfAborted();
    if (same && old.state === 'whole') {
      removeJournal(path);
      return { ...built, appended: false };
    }
    append(path, fd, built, options);
    return { ...built, appended: true };
  });
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
  return withTar(path, 'strip', async (fd) => {
    const old = inspectTail(path, fd, 'strip', options);
    if (old === null) {
      throw new VeneerError('udf/no-trailer', `Cannot strip ${path}: it does not end in a UDF trailer`);
    }
    const { tarLength, digest } = old.built;
    const removed = fstatSync(fd).size - tarLength;
    cutOff(fd, tarLength);
    removeJournal(path);
    return { tarLength, digest, removed };
  });
}

/** Runs `work` with the file open for writing and locked against others who append and strip. */
async function withTar<T>(path: string, verb: string, work: (fd: number) => Promise<T>): Promise<T> {
  let fd: number;
  try {
    fd = openSync(path, 'r+');
  } catch (error) {
    throw storeError(`${verb} ${path}`, error);
  }
  try {
    const stats = fstatSync(fd);
    if (!stats.isFile()) throw new VeneerError('cli/not-a-file', `Cannot ${verb} ${path}: it is not a file`);
    if ((stats.mode & 0o222) === 0) {
      // root may write to it all the same, for example into a store
      throw new VeneerError('udf/read-only', `Cannot ${verb} ${path} in place: it is read-only`, {
        hint: 'Make it writable, or write a copy with -o FILE.',
      });
    }
    if (!flock(fd, 'exclusive', { block: false })) {
      throw new VeneerError('udf/busy', `Cannot ${verb} ${path}: another veneer is at work on it`);
    }
    // Of a run that was killed before its journal had its name; nobody else is at work, the lock is ours.
    rmSync(`${journalPath(path)}.new`, { force: true });
    return await work(fd);
  } catch (error) {
    throw storeError(`${verb} ${path}`, error);
  } finally {
    closeSync(fd);
  }
}

/** With the trailer that belongs behind the tar. */
interface OldTail extends OwnTrailer {
  readonly state: 'whole' | 'partial';
}

/** What stands behind the tar already; null when nothing does. Throws rather than taking foreign bytes for a trailer. */
function inspectTail(
  path: string,
  fd: number,
  verb: 'index' | 'strip',
  { signal, asIs }: { signal: AbortSignal; asIs?: boolean },
): OldTail | null {
  const source = fileSource(fd, path);
  const journal = readJournal(path, fd);
  if (journal !== null) {
    const built = buildTrailer(prefixOf(source, journal.tarLength), path, journal, signal);
    const state = compareTail(built, source);
    if (state === 'foreign') {
      throw new VeneerError(
        'udf/foreign-trailer',
        `Cannot ${verb} ${path}: an append to it was interrupted, and it was written to since`,
        { hint: `Remove ${journalPath(path)} when the file is right as it is.` },
      );
    }
    return { state, built, names: journal.names, whiteouts: journal.whiteouts };
  }
  const own = ownTrailer(source, path, verb, { signal, asIs });
  return own === null ? null : { state: 'whole', ...own };
}

/** A tar's own trailer, and what it was made with. */
interface OwnTrailer extends TrailerOptions {
  readonly built: BuiltTrailer;
}

/**
 * The trailer that `source` ends in, when it is the one of the tar in front of it; null when it ends in none.
 * Throws `udf/foreign-trailer` for any other, or with `asIs` takes it for a part of the tar.
 */
export function ownTrailer(
  source: ByteSource,
  path: string,
  verb: 'index' | 'strip',
  { signal, asIs = false }: { signal: AbortSignal; asIs?: boolean | undefined },
): OwnTrailer | null {
  const trailer = findTrailer(source);
  if (trailer === null) return null;
  const { names, whiteouts } = trailer;
  const built = buildTrailer(prefixOf(source, trailer.tarLength), path, trailer, signal);
  const own = compareTail(built, source) === 'whole';
  // another version of veneer may lay it out in another way: to cut it off, the tar is what counts
  if (own || (verb === 'strip' && built.digest === trailer.digest)) return { built, names, whiteouts };
  if (asIs) return null;
  throw new VeneerError(
    'udf/foreign-trailer',
    `Cannot ${verb} ${path}: it ends in a UDF trailer that is not the one of the ${trailer.tarLength} bytes before it`,
    {
      hint:
        verb === 'strip'
          ? 'The tar was changed, or the trailer is part of it.'
          : 'It may be part of the tar: --force takes the file for a tar as it is.',
    },
  );
}

function append(path: string, fd: number, built: BuiltTrailer, options: TrailerOptions): void {
  const { tarLength } = built;
  // a trailer with other options, or part of one: until the next line the file is the tar
  cutOff(fd, tarLength);
  writeJournal(path, {
    inode: fstatSync(fd).ino,
    tarLength,
    names: options.names,
    whiteouts: options.whiteouts,
  });
  try {
    const sink: ByteSink = {
      write(chunk, at) {
        for (let done = 0; done < chunk.length; )
          done += writeSync(fd, chunk, done, chunk.length - done, at + done);
      },
    };
    // everything else is durable before the anchor makes it a volume
    writeTrailer(built, sink, fileSource(fd, path), () => fsyncSync(fd));
    fsyncSync(fd);
  } catch (error) {
    cutOff(fd, tarLength);
    removeJournal(path);
    throw error;
  }
  removeJournal(path);
}

/** Gives the file its old length, durably. */
function cutOff(fd: number, tarLength: number): void {
  if (fstatSync(fd).size === tarLength) return;
  ftruncateSync(fd, tarLength);
  fsyncSync(fd);
}

function writeJournal(path: string, journal: Journal): void {
  const final = journalPath(path);
  const fresh = `${final}.new`;
  const fd = openSync(fresh, 'w', 0o600);
  try {
    writeFileSync(fd, `${JSON.stringify(journal)}\n`);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(fresh, final);
  syncPathNow(dirname(final));
}

function removeJournal(path: string): void {
  const final = journalPath(path);
  rmSync(`${final}.new`, { force: true });
  if (!existsSync(final)) return;
  rmSync(final);
  syncPathNow(dirname(final));
}

/** The journal of this very file; null when there is none. One of a file that was replaced since says nothing. */
function readJournal(path: string, fd: number): Journal | null {
  let text: string;
  try {
    text = readFileSync(journalPath(path), 'utf8');
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
  const stats = fstatSync(fd);
  const journal = parseJournal(text);
  const { inode, tarLength, names, whiteouts } = journal;
  const sound =
    Number.isSafeInteger(tarLength) &&
    tarLength! >= 0 &&
    (names === 'bytes' || names === 'unicode') &&
    (whiteouts === 'sidecar' || whiteouts === 'literal');
  if (!sound || inode !== stats.ino || tarLength! > stats.size) return null;
  return journal as Journal;
}

function parseJournal(text: string): Partial<Journal> {
  try {
    return { ...JSON.parse(text) } as Partial<Journal>;
  } catch {
    return {};
  }
}
