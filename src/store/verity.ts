/**
 * Hash trees for dm-verity, kept beside what they protect: `verity/disk/HEX` for the flat disk that begins with the
 * metadata image of digest HEX (its device table names all layers by digest, so HEX stands for the whole disk), and
 * `verity/file/HEX` for one file alone, which images share.
 *
 * A tree can always be made anew; what counts is its root hash, which may have been signed.
 */
import { createHash, randomBytes } from 'node:crypto';
import { closeSync, mkdirSync, openSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { VeneerError } from '../errors.ts';
import { HASH_BLOCK_SIZE } from '../verity/index.ts';
import { discard, publishDirectory, syncPath, writeNewFile } from './atomic.ts';
import { openStored, readExactly } from './data-files.ts';
import { hashFile } from './hash-file.ts';
import { storeError } from './io-errors.ts';
import { digestHex } from './layout.ts';
import { readVerityRecord, recordText, type VerityRecord } from './records.ts';
import type { Store } from './store.ts';

export const VERITY_TREE = 'tree';
export const VERITY_FACTS = 'verity.json';

export type VerityScope = 'disk' | 'file';
export const VERITY_SCOPES: readonly VerityScope[] = ['disk', 'file'];

export interface StoredTree extends VerityRecord {
  /** Superblock and hash blocks. */
  readonly path: string;
}

/** What the maker of a tree tells. */
export type TreeFacts = Pick<VerityRecord, 'dataBlockSize' | 'dataBlocks' | 'salt' | 'rootHash'>;

/** Null when it was not made yet. Throws `store/corrupt` and `store/mismatch`. */
export function findTree(store: Store, scope: VerityScope, digest: string): StoredTree | null {
  const directory = store.layout.verityTree(scope, digest);
  let record: VerityRecord;
  try {
    record = readVerityRecord(join(directory, VERITY_FACTS));
  } catch (error) {
    if (error instanceof VeneerError && error.code === 'store/missing') return null;
    throw error;
  }
  const path = join(directory, VERITY_TREE);
  const problem = treeProblem(record, scope, digest, path);
  if (problem === null) return { ...record, path };
  throw new VeneerError('store/mismatch', `Cannot use ${directory}: ${problem}`, { hint: REMAKE });
}

const REMAKE = 'run `veneer fsck --repair`: hash trees are made anew when they are needed';

/** What is wrong with a record by itself: that it is about something else, or not the root of its own tree. */
export function treeProblem(
  record: VerityRecord,
  scope: VerityScope,
  digest: string,
  path: string,
): string | null {
  if (record.scope !== scope || record.digest !== digest)
    return `it is about ${record.scope} ${record.digest}`;
  const size = statSync(path, { throwIfNoEntry: false })?.size;
  if (size === undefined) return 'its tree is missing';
  if (size !== record.tree.size) return `its tree has ${size} bytes, not ${record.tree.size}`;
  // One data block has no tree: its own digest is the root.
  if (size < 2 * HASH_BLOCK_SIZE) return null;
  const fd = openStored(path);
  try {
    const top = readExactly(fd, HASH_BLOCK_SIZE, HASH_BLOCK_SIZE, path);
    const root = createHash('sha256').update(Buffer.from(record.salt, 'hex')).update(top).digest('hex');
    return root === record.rootHash
      ? null
      : `the root hash of its tree is ${root}, the record says ${record.rootHash}`;
  } finally {
    closeSync(fd);
  }
}

/**
 * The tree of a file or disk, made when it is missing: `make` writes it to the descriptor. Two that make the same one
 * at once write the same bytes, and the first wins. A crash leaves a work directory, which is swept, or the whole tree.
 */
export async function ensureTree(
  store: Store,
  scope: VerityScope,
  digest: string,
  make: (fd: number) => Promise<TreeFacts>,
): Promise<StoredTree> {
  const found = findTree(store, scope, digest);
  if (found !== null) return found;
  store.prepare();
  const target = store.layout.verityTree(scope, digest);
  const work = join(store.work(), `verity-${randomBytes(9).toString('hex')}`);
  try {
    mkdirSync(work, { mode: 0o700 });
    const path = join(work, VERITY_TREE);
    const fd = openSync(path, 'wx', 0o444);
    let facts: TreeFacts;
    try {
      facts = await make(fd);
    } finally {
      closeSync(fd);
    }
    const { size } = statSync(path);
    const { dataBlockSize, dataBlocks, salt, rootHash } = facts;
    const tree = { digest: await hashFile(path), size };
    const record: VerityRecord = {
      version: 1,
      scope,
      digest,
      dataBlockSize,
      dataBlocks,
      salt,
      rootHash,
      tree,
    };
    await writeNewFile(join(work, VERITY_FACTS), recordText(record), { fsync: false });
    const files = [VERITY_TREE, VERITY_FACTS];
    if (!(await publishDirectory(work, target, { fsync: store.fsync, files }))) await discard(work);
    if (store.fsync) await syncPath(dirname(target));
    return { ...record, path: join(target, VERITY_TREE) };
  } catch (error) {
    await discard(work);
    throw storeError(`write the hash tree of ${digestHex(digest)}`, error);
  }
}
