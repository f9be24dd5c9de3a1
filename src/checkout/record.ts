/**
 * What the store knows of checkouts: `ROOT/checkouts/HEX/`, HEX being the hash of the path.
 *
 *   checkout.json    which directory, what is in it, and what is to be in it while an update is under way
 *   CHAIN.erofs      the tree of each of the two: the merged image's metadata, kept whatever `gc` removes
 *   RANDOM.index     what the kernel said of every name when it was made
 *
 * checkout.json is replaced as a whole; files that it does not name are left from the dead. Who works on a checkout
 * holds the flock of the directory.
 */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  copyFileSync,
  existsSync,
  fstatSync,
  linkSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import * as v from 'valibot';
import { VeneerError } from '../errors.ts';
import { syncPath, syncPathNow, writeFileAtomic } from '../store/atomic.ts';
import { listDirectory } from '../store/catalog.ts';
import { storeError } from '../store/io-errors.ts';
import { digestHex, HEX64, isDigest } from '../store/layout.ts';
import type { Store } from '../store/store.ts';
import { flock } from '../sys/flock.ts';
import { makeDirectory } from '../sys/make-directory.ts';

const FACTS = 'checkout.json';

const digest = v.custom<string>(isDigest, 'not a sha256 digest');
const fileName = v.pipe(v.string(), v.regex(/^[0-9a-f]{1,64}\.(erofs|index)$/));
const stateSchema = v.object({
  /** Name of the image when it was checked out. */
  image: v.string(),
  chainId: digest,
  layers: v.array(digest),
  /** Digest of the tree's file, which data inside that file goes by. */
  treeDigest: digest,
});
const recordSchema = v.object({
  version: v.literal(1),
  /** Absolute, symlinks resolved. */
  path: v.string(),
  device: v.string(),
  inode: v.string(),
  /** Regular files are hard links into the store's objects. */
  link: v.boolean(),
  /** Null until the first time is done. */
  current: v.nullable(v.object({ ...stateSchema.entries, index: fileName })),
  /** What an update that is not done leads to. */
  next: v.nullable(stateSchema),
  /** Name of the directory in the checkout in which an update makes files. */
  staging: v.nullable(v.pipe(v.string(), v.regex(/^\.veneer-[0-9a-f]{12}$/))),
});

export type CheckoutState = v.InferOutput<typeof stateSchema>;
export type CheckoutRecord = v.InferOutput<typeof recordSchema>;

/** The record of one directory, locked. */
export class RecordFolder {
  readonly #store: Store;
  readonly path: string;
  readonly #fd: number;

  private constructor(store: Store, path: string, fd: number) {
    this.#store = store;
    this.path = path;
    this.#fd = fd;
  }

  /** Throws `checkout/busy` when somebody is at it. */
  static lock(store: Store, path: string): RecordFolder {
    makeDirectory(path, 0o700);
    const fd = openSync(path, constants.O_RDONLY);
    // The one who held it before may have removed it, and another may have made it anew: then the lock is of nothing.
    if (!flock(fd, 'exclusive', { block: false }) || !leadsTo(path, fd)) {
      closeSync(fd);
      throw new VeneerError(
        'checkout/busy',
        `Cannot work on the checkout of ${path}: another veneer is at it`,
        {
          hint: 'wait until it is done',
        },
      );
    }
    return new RecordFolder(store, path, fd);
  }

  read(): CheckoutRecord | null {
    return readRecord(this.path);
  }

  async write(record: CheckoutRecord): Promise<void> {
    const { fsync } = this.#store;
    const path = join(this.path, FACTS);
    await writeFileAtomic(path, `${JSON.stringify(record, null, 2)}\n`, { work: this.#store.work(), fsync });
    if (fsync) await syncPath(this.path);
    this.#sweep(record);
  }

  /** The file of a tree. */
  tree(state: CheckoutState): string {
    return join(this.path, `${digestHex(state.chainId)}.erofs`);
  }

  /** Keeps the metadata image at `from` as the tree of `state`. */
  keepTree(state: CheckoutState, from: string): void {
    const path = this.tree(state);
    if (existsSync(path)) return;
    try {
      linkSync(from, path);
    } catch {
      // An immutable file takes no links; neither do some file systems.
      const temporary = join(this.#store.work(), randomBytes(9).toString('hex'));
      copyFileSync(from, temporary);
      if (this.#store.fsync) syncPathNow(temporary);
      renameSync(temporary, path);
    }
  }

  /** Writes an index; returns its name. */
  async writeIndex(bytes: Buffer): Promise<string> {
    const name = `${randomBytes(9).toString('hex')}.index`;
    const { fsync } = this.#store;
    await writeFileAtomic(join(this.path, name), bytes, { work: this.#store.work(), fsync });
    return name;
  }

  readIndex(name: string): Buffer | null {
    try {
      return readFileSync(join(this.path, name));
    } catch {
      return null;
    }
  }

  /** Takes the record away. */
  remove(): void {
    rmSync(this.path, { recursive: true, force: true });
  }

  /** A checkout that was moved keeps its record. */
  moveTo(path: string): void {
    renameSync(this.path, path);
    (this as { path: string }).path = path;
  }

  close(): void {
    // An empty folder stands for nothing.
    if (existsSync(this.path) && readdirSync(this.path).length === 0) this.remove();
    closeSync(this.#fd);
  }

  #sweep({ current, next }: CheckoutRecord): void {
    const kept = new Set([FACTS]);
    for (const state of [current, next]) if (state !== null) kept.add(basename(this.tree(state)));
    if (current !== null) kept.add(current.index);
    for (const name of readdirSync(this.path))
      if (!kept.has(name)) rmSync(join(this.path, name), { force: true });
  }
}

function leadsTo(path: string, fd: number): boolean {
  const mine = fstatSync(fd, { bigint: true });
  const named = statSync(path, { bigint: true, throwIfNoEntry: false });
  return named?.ino === mine.ino && named.dev === mine.dev;
}

function readRecord(folder: string): CheckoutRecord | null {
  const path = join(folder, FACTS);
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw storeError(`read ${path}`, error);
  }
  try {
    return v.parse(recordSchema, JSON.parse(text));
  } catch (cause) {
    throw new VeneerError('store/corrupt', `Cannot read ${path}: it is no record of a checkout`, {
      hint: `remove ${folder}: the checkout stays, but cannot be updated any more`,
      cause,
    });
  }
}

/** What tells a directory from all others. */
export function identityOf(path: string): { device: string; inode: string } | null {
  const facts = statSync(path, { bigint: true, throwIfNoEntry: false });
  return facts?.isDirectory() ? { device: String(facts.dev), inode: String(facts.ino) } : null;
}

/** The folder of the record of the directory at `path`, which may have been moved there. */
export function findFolder(store: Store, path: string): string {
  const own = store.layout.checkout(path);
  const here = identityOf(path);
  if (here === null || existsSync(own)) return own;
  for (const { folder, record } of listRecords(store)) {
    const same = record.device === here.device && record.inode === here.inode;
    if (same && identityOf(record.path) === null) return folder;
  }
  return own;
}

/** All records that can be read. */
export function listRecords(store: Store): { readonly folder: string; readonly record: CheckoutRecord }[] {
  const found: { folder: string; record: CheckoutRecord }[] = [];
  for (const name of listDirectory(store.layout.checkouts)) {
    if (!HEX64.test(name)) continue;
    const folder = join(store.layout.checkouts, name);
    try {
      const record = readRecord(folder);
      if (record !== null) found.push({ folder, record });
    } catch (error) {
      if (!(error instanceof VeneerError)) throw error;
    }
  }
  return found;
}
