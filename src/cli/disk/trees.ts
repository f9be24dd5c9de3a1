/** The hash trees of a disk: kept in the store for its images, else written to a file of the disk's. */
import { type DiskImage, planFlat } from '../../disk/image.ts';
import type { DiskFile } from '../../disk/segments.ts';
import { type DiskRun, DiskSource, planRuns } from '../../disk/source.ts';
import { type WriteTreeOptions, writeTree } from '../../disk/write-tree.ts';
import { ensureTree, type VerityScope } from '../../store/verity.ts';
import { HASH_BLOCK_SIZE, type VerityParameters } from '../../verity/index.ts';
import { type DiskInput, flatSize, readTail } from './input.ts';

/** A tree as a file for the disk. */
export interface MadeTree extends DiskFile {
  /** Hex. */
  readonly rootHash: string;
  /** Hex. */
  readonly salt: string;
  readonly dataBlockSize: number;
  readonly dataBlocks: number;
}

/** Where trees go that no store keeps: an open file, filled from its start. */
export interface TreeRoom {
  readonly fd: number;
  /** By this it can be read again. */
  readonly path: string;
  /** Bytes so far. */
  size: number;
}

export interface TreeOptions extends WriteTreeOptions {
  /** Whether the superblock stands in front of the tree. */
  readonly superblock: boolean;
}

/** The tree over the whole flat disk. `room` may be null for images of the store. */
export function flatTree(input: DiskInput, room: TreeRoom | null, options: TreeOptions): Promise<MadeTree> {
  const { image, digest } = input;
  const runs = (): DiskRun[] => planRuns(planFlat(image, null, readTail));
  return makeTree(input, room, 'disk', digest, runs, flatSize(image), options);
}

/** One tree a file: the metadata image's, then the devices'. */
export async function fileTrees(
  input: DiskInput,
  room: TreeRoom | null,
  options: TreeOptions,
): Promise<MadeTree[]> {
  const { image, digest, deviceDigests } = input;
  const files = [image.primary, ...image.devices];
  const trees: MadeTree[] = [];
  for (const [i, file] of files.entries()) {
    const name = i === 0 ? digest : deviceDigests[i - 1]!;
    const alone: DiskImage = { ...image, primary: file, devices: [] };
    const runs = (): DiskRun[] => planRuns(planFlat(alone, null, readTail));
    trees.push(await makeTree(input, room, 'file', name, runs, file.blocks * image.blockSize, options));
  }
  return trees;
}

/** The salt is the digest of what is protected: the same data always has the same root hash. */
export function treeParameters({ blockSize }: DiskImage, digest: string): VerityParameters {
  return { dataBlockSize: blockSize, salt: Buffer.from(digest.slice(digest.indexOf(':') + 1), 'hex') };
}

async function makeTree(
  { image, stored }: DiskInput,
  room: TreeRoom | null,
  scope: VerityScope,
  digest: string,
  runs: () => DiskRun[],
  size: number,
  options: TreeOptions,
): Promise<MadeTree> {
  const parameters = treeParameters(image, digest);
  const write = async (fd: number, at: number): Promise<Omit<MadeTree, 'path'>> => {
    const source = new DiskSource(runs());
    // The store keeps all trees with one.
    const superblock = stored !== null || options.superblock;
    try {
      const tree = await writeTree(source, size, parameters, { fd, at, superblock }, options);
      return { ...tree, salt: tree.salt.toString('hex') };
    } finally {
      source.close();
    }
  };
  if (stored !== null) {
    const tree = await ensureTree(stored.store, scope, digest, (fd) => write(fd, 0));
    const front = options.superblock ? 0 : HASH_BLOCK_SIZE;
    return { ...tree, at: front, size: tree.tree.size - front };
  }
  const at = room!.size;
  const tree = await write(room!.fd, at);
  room!.size += tree.size;
  return { ...tree, path: room!.path, at };
}
