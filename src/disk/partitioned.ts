/** An EROFS image and its devices as partitions. Pure. Apart from flat disks, which are made without loading this. */
import { type GptPartition, planGpt } from './gpt.ts';
import { type DiskImage, TREE_ALIGNMENT } from './image.ts';
import { type DiskFile, type DiskPlan, type ReadTail, SECTOR, SegmentList } from './segments.ts';

/** Partitions begin on a mebibyte, as all partitioning tools have it. */
const PARTITION_ALIGNMENT = 1 << 20;

/** A partition of a GPT disk as it will be. */
export interface PlacedPartition {
  /** 1 for the metadata image, then the devices in the order of the device table. */
  readonly number: number;
  readonly name: string;
  readonly start: number;
  readonly sectors: number;
  /** Bytes from the start of the partition to its hash tree's superblock; null without one. */
  readonly hashOffset: number | null;
}

/**
 * One partition a file. `identity` (32 bytes) makes the GUIDs; `trees` are the hash trees of the files in the same order,
 * each behind what it protects. A file that comes twice in the device table has two partitions.
 */
export function planPartitioned(
  image: DiskImage,
  options: { identity: Buffer; trees: readonly DiskFile[] | null },
  readTail: ReadTail,
): { plan: DiskPlan; partitions: readonly PlacedPartition[] } {
  const perBlock = image.blockSize / SECTOR;
  const files = [{ ...image.primary, name: 'fsmeta' }, ...image.devices];
  const placed: PlacedPartition[] = [];
  const layout = (first: number): GptPartition[] => {
    const list = new SegmentList(readTail);
    list.addZeros(first);
    placed.length = 0;
    return files.map((file, i) => {
      const { name, start, sectors, hashOffset } = addPartition(list, file, i);
      placed.push({ number: i + 1, name, start, sectors, hashOffset });
      return { name, start, sectors };
    });
  };
  const addPartition = (list: SegmentList, file: (typeof files)[number], i: number): PlacedPartition => {
    list.alignTo(PARTITION_ALIGNMENT);
    const start = list.end;
    list.addFile(file.name, file, file.blocks * perBlock);
    const tree = options.trees?.[i];
    let hashOffset: number | null = null;
    if (tree !== undefined) {
      list.alignTo(TREE_ALIGNMENT);
      hashOffset = (list.end - start) * SECTOR;
      list.addFile(`hash tree of ${file.name}`, tree, tree.size / SECTOR);
    }
    return { number: i + 1, name: file.name, start, sectors: list.end - start, hashOffset };
  };
  const gpt = planGpt(layout, options.identity);
  const list = new SegmentList(readTail);
  list.addBytes('partition table', gpt.head);
  for (const [i, file] of files.entries()) addPartition(list, file, i);
  list.padTo(gpt.tailAt, 'the second partition table');
  list.addBytes('second partition table', gpt.tail);
  return { plan: list.finish(), partitions: placed };
}
