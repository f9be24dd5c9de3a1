/**
 * Plans an EROFS image: tree in, every offset out. Pure; the writer only
 * carries it out.
 *
 * ```
 * block 0 …      superblock at 1024, device table behind it
 * own data       only in a self-contained image: already written, blocks [first, ownBlocks)
 * inodes         with xattrs, chunk maps and inline tails; the root comes first
 * shared xattrs
 * blocks         of directories and symlinks that are not inline
 * copies         of file data that no source can be mapped for
 * ```
 */
import { alignUp } from '../bytes/align.ts';
import { VeneerError } from '../errors.ts';
import {
  type DataSource,
  type FileTree,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  type TreeNode,
} from '../tree/node.ts';
import { type DataPlacement, DataPlacer } from './data.ts';
import { makeWhiteoutNode, storedXattrs } from './facts.ts';
import {
  CHUNK_INDEX,
  DEVICE_SLOT,
  DIRENT,
  EROFS_SUPER_OFFSET,
  INODE_COMPACT,
  INODE_EXTENDED,
  LAYOUT_CHUNKED,
  LAYOUT_INLINE,
  LAYOUT_PLAIN,
  MAX_BLOCK_SIZE,
  MIN_BLOCK_SIZE,
  SUPERBLOCK,
} from './format.ts';
import { SlotAllocator } from './slots.ts';
import { type XattrEntry, XattrTable, xattrAreaBytes } from './xattr.ts';

export interface PlanOptions {
  /** Bytes, a power of two from 512 to 4096. 512 needs Linux 6.4 and is what a raw tar needs. */
  readonly blockSize: number;
  /**
   * Every file's map names the device that it stands in, where otherwise it goes by the one address space of all.
   * For erofsfuse, which reads other bytes there (erofs-utils 1.9). Costs 8 bytes a file.
   */
  readonly byDevice?: boolean;
  /**
   * Set for a self-contained image: which source is the image itself, and how many blocks are
   * written already, and a digest of what they hold (goes into the UUID).
   */
  readonly own?: { readonly source: number; readonly blocks: number; readonly identity: string };
}

/** A device of the image besides the image itself. */
export interface PlannedDevice {
  /** Index into `tree.sources`. */
  readonly source: number;
  readonly blocks: number;
  /** Block address where it begins when all devices stand behind each other. */
  readonly uniaddr: number;
}

/** One inode with its place. */
export class PlannedInode {
  readonly node: TreeNode;
  /** Null for the root. Any one of the names, for error messages. */
  readonly parent: PlannedInode | null;
  readonly name: string;
  nlink = 1;
  /** Inode number: position in the plan, from 1. */
  ino = 0;
  extended = false;
  layout = LAYOUT_PLAIN;
  xattrs: XattrEntry[] | null = null;
  /** Bytes of the xattr area. */
  xattrSize = 0;
  /** Bytes from the start of the inode area. */
  at = 0;
  /** Directories: names in byte order, `.` and `..` among them, and what they lead to. */
  names: string[] | null = null;
  kids: PlannedInode[] | null = null;
  /** `i_size` */
  size = 0;
  /** Bytes of inline tail behind the inode. */
  tail = 0;
  /** Bytes from the start of the block area; -1 when no block is needed. */
  blocksAt = -1;
  data: DataPlacement = null;
  /** Bytes from the start of the copies; -1 when nothing is copied. */
  copyAt = -1;

  constructor(node: TreeNode, parent: PlannedInode | null, name: string) {
    this.node = node;
    this.parent = parent;
    this.name = name;
  }

  /** Bytes of the inode struct. */
  get headerSize(): number {
    return this.extended ? INODE_EXTENDED.size : INODE_COMPACT.size;
  }
}

export interface ErofsPlan {
  readonly blockSize: number;
  readonly inodes: readonly PlannedInode[];
  readonly xattrs: XattrTable;
  readonly devices: readonly PlannedDevice[];
  readonly sources: readonly DataSource[];
  /** A whole image, not a layer. */
  readonly merged: boolean;
  /** See {@link PlanOptions}. */
  readonly byDevice: boolean;
  /** Stands for the own data in the UUID; '' without any. */
  readonly identity: string;
  /** Block address that nids count from: one block before the inodes, so that no inode has number 0. */
  readonly metaBlock: number;
  /** mtime of the compact inodes. */
  readonly epoch: number;
  readonly epochNsec: number;
  /** Byte offsets in the image. `inodesAt` to `copiesAt` is one contiguous area of metadata. */
  readonly headerSize: number;
  readonly inodesAt: number;
  readonly sharedAt: number;
  readonly blocksAt: number;
  readonly copiesAt: number;
  /** Length of the image, a multiple of the block size. */
  readonly size: number;
}

/** Full path of a planned inode, for messages; a byte string with a leading slash. */
export function plannedPath(inode: PlannedInode): string {
  const parts: string[] = [];
  for (let at: PlannedInode | null = inode; at?.parent; at = at.parent) parts.push(at.name);
  return `/${parts.reverse().join('/')}`;
}

/** Bytes at the start of an image with `devices` devices: boot area, superblock and device table, in whole blocks. */
export function imageHeaderSize(blockSize: number, devices: number): number {
  return alignUp(EROFS_SUPER_OFFSET + SUPERBLOCK.size + devices * DEVICE_SLOT.size, blockSize);
}

/** The smallest alignment among the sources that are used: the largest block size which maps all data in place. */
export function fittingBlockSize(sources: readonly DataSource[]): number {
  return sources.reduce((size, source) => Math.min(size, source.alignment), MAX_BLOCK_SIZE);
}

/** Plans the image of `tree`. Throws `erofs/limit` with the path for what the format cannot hold. */
export function planImage(tree: FileTree, options: PlanOptions): ErofsPlan {
  const { blockSize } = options;
  if (blockSize < MIN_BLOCK_SIZE || blockSize > MAX_BLOCK_SIZE || (blockSize & (blockSize - 1)) !== 0) {
    throw new VeneerError('erofs/unsupported', `Cannot write EROFS with blocks of ${blockSize} bytes`, {
      hint: 'Block sizes are 512, 1024, 2048 and 4096.',
    });
  }
  const merged = tree.merged === true;
  const { inodes, xattrs, epoch } = collectInodes(tree.root, merged);
  const used = new Uint8Array(tree.sources.length);
  const placer = new DataPlacer(blockSize, tree.sources, options.byDevice ?? false, plannedPath);
  const slots = new SlotAllocator(blockSize);
  let blockBytes = 0;
  let copyBytes = 0;
  for (const inode of inodes) {
    placeContent(inode, blockSize, placer, used);
    inode.extended = needsExtended(inode, epoch.mtime, epoch.nsec);
    if (inode.xattrs !== null) inode.xattrSize = xattrAreaBytes(inode.xattrs, () => plannedPath(inode));
    const inline = settleLayout(inode, blockSize);
    if (inline > 0) {
      inode.blocksAt = blockBytes;
      blockBytes += alignUp(inline, blockSize);
    }
    const copied = copiedBytes(inode, blockSize);
    if (copied > 0) {
      inode.copyAt = copyBytes;
      copyBytes += copied;
    }
    inode.at = slots.place(inodeBytes(inode), inode.tail > 0);
  }
  if (options.own !== undefined) used[options.own.source] = 0;

  const deviceCount = used.reduce((sum, flag) => sum + flag, 0);
  const headerSize = imageHeaderSize(blockSize, deviceCount);
  const inodesAt = options.own === undefined ? headerSize : options.own.blocks * blockSize;
  const sharedAt = inodesAt + alignUp(slots.size, blockSize);
  const blocksAt = sharedAt + alignUp(xattrs.sharedSize, blockSize);
  const copiesAt = blocksAt + blockBytes;
  const size = copiesAt + copyBytes;
  return {
    blockSize,
    inodes,
    xattrs,
    devices: placeDevices(tree.sources, used, size, blockSize),
    sources: tree.sources,
    merged,
    byDevice: options.byDevice ?? false,
    identity: options.own?.identity ?? '',
    metaBlock: inodesAt / blockSize - 1,
    epoch: epoch.mtime,
    epochNsec: epoch.nsec,
    headerSize,
    inodesAt,
    sharedAt,
    blocksAt,
    copiesAt,
    size,
  };
}

/**
 * All inodes in the order they will stand in: a directory's children together, then what is below each, so that a walk
 * reads forward. Attributes and times are counted on the way: every other look at all nodes costs as much as this one.
 */
function collectInodes(
  root: TreeNode,
  merged: boolean,
): { inodes: PlannedInode[]; xattrs: XattrTable; epoch: Epoch } {
  const inodes: PlannedInode[] = [];
  const xattrs = new XattrTable();
  const epochs = new EpochCounter();
  let whiteout: PlannedInode | null = null;
  const add = (node: TreeNode, parent: PlannedInode | null, name: string): PlannedInode => {
    const inode = new PlannedInode(node, parent, name);
    inodes.push(inode);
    inode.ino = inodes.length;
    epochs.count(node.mtime, node.mtimeNsec);
    return inode;
  };
  const addOwn = (node: TreeNode, parent: PlannedInode | null, name: string): PlannedInode => {
    const inode = add(node, parent, name);
    const stored = storedXattrs(node, merged);
    if (stored !== null) inode.xattrs = xattrs.intern(stored, () => plannedPath(inode));
    return inode;
  };

  const pending: PlannedInode[] = [addOwn(root, null, '')];
  let directory: PlannedInode | undefined;
  while ((directory = pending.pop()) !== undefined) {
    const { children, whiteouts } = directory.node;
    const names = sortedNames(children!, whiteouts);
    const kids: PlannedInode[] = new Array(names.length);
    const firstPending = pending.length;
    directory.nlink = 2;
    for (let i = 0; i < names.length; i++) {
      const name = names[i]!;
      if (name === '.') {
        kids[i] = directory;
        continue;
      }
      if (name === '..') {
        kids[i] = directory.parent ?? directory;
        continue;
      }
      const node = children!.get(name);
      if (node === undefined) {
        if (whiteout === null) whiteout = add(makeWhiteoutNode(), directory, name);
        else whiteout.nlink++;
        kids[i] = whiteout;
      } else if (node.children !== null) {
        const kid = addOwn(node, directory, name);
        directory.nlink++;
        pending.push(kid);
        kids[i] = kid;
      } else {
        const { planned } = node;
        if (planned instanceof PlannedInode && inodes[planned.ino - 1] === planned) {
          planned.nlink++;
          kids[i] = planned;
        } else {
          const kid = addOwn(node, directory, name);
          node.planned = kid;
          kids[i] = kid;
        }
      }
    }
    directory.names = names;
    directory.kids = kids;
    reverse(pending, firstPending);
  }
  for (const inode of inodes) inode.node.planned = null;
  xattrs.settle();
  return { inodes, xattrs, epoch: epochs.best() };
}

/** `.`, `..` and all names in byte order; what was read back from an image is in order already. */
function sortedNames(
  children: ReadonlyMap<string, TreeNode>,
  whiteouts: ReadonlySet<string> | null,
): string[] {
  const names = ['.', '..'];
  let sorted = true;
  let last = '..';
  for (const name of children.keys()) {
    if (name < last) sorted = false;
    last = name;
    names.push(name);
  }
  if (whiteouts !== null) for (const name of whiteouts) names.push(name);
  return sorted && whiteouts === null ? names : names.sort();
}

/** Reverses `list` from `from` on, so that popping gives the order of pushing. */
function reverse<T>(list: T[], from: number): void {
  for (let low = from, high = list.length - 1; low < high; low++, high--) {
    const kept = list[low]!;
    list[low] = list[high]!;
    list[high] = kept;
  }
}

/** Size and data of an inode; marks the sources that are mapped. */
function placeContent(inode: PlannedInode, blockSize: number, placer: DataPlacer, used: Uint8Array): void {
  const { node } = inode;
  switch (node.mode & S_IFMT) {
    case S_IFREG:
      inode.size = node.size;
      inode.data = placer.place(inode);
      if (inode.data?.kind === 'plain') used[inode.data.source] = 1;
      else if (inode.data?.kind === 'chunked') {
        for (const source of inode.data.sources) if (source >= 0) used[source] = 1;
      }
      break;
    case S_IFDIR:
      inode.size = directoryBytes(inode.names!, blockSize);
      break;
    case S_IFLNK:
      inode.size = node.target.length;
      break;
  }
}

/** `i_size` of a directory: whole blocks and what the last one holds. */
function directoryBytes(names: readonly string[], blockSize: number): number {
  let full = 0;
  let inBlock = 0;
  for (const name of names) {
    const need = DIRENT.size + name.length;
    if (inBlock + need > blockSize) {
      full += blockSize;
      inBlock = 0;
    }
    inBlock += need;
  }
  return full + inBlock;
}

interface Epoch {
  readonly mtime: number;
  readonly nsec: number;
}

/** Finds the mtime that saves the most when compact inodes take it from the superblock. */
class EpochCounter {
  readonly #counts = new Map<number | string, Epoch & { count: number }>();
  #last: (Epoch & { count: number }) | null = null;

  count(mtime: number, nsec: number): void {
    const last = this.#last;
    // Files that came together mostly have one time.
    if (last !== null && last.mtime === mtime && last.nsec === nsec) {
      last.count++;
      return;
    }
    const key = nsec === 0 ? mtime : `${mtime}.${nsec}`;
    let seen = this.#counts.get(key);
    if (seen === undefined) this.#counts.set(key, (seen = { mtime, nsec, count: 0 }));
    seen.count++;
    this.#last = seen;
  }

  /** The most frequent; among equals the earliest. */
  best(): Epoch {
    let best = { mtime: 0, nsec: 0, count: 0 };
    for (const seen of this.#counts.values()) {
      const wins =
        seen.count > best.count ||
        (seen.count === best.count &&
          (seen.mtime < best.mtime || (seen.mtime === best.mtime && seen.nsec < best.nsec)));
      if (wins) best = seen;
    }
    return best;
  }
}

function needsExtended(inode: PlannedInode, mtime: number, nsec: number): boolean {
  const { node } = inode;
  return (
    node.mtime !== mtime ||
    node.mtimeNsec !== nsec ||
    node.uid > 0xffff ||
    node.gid > 0xffff ||
    inode.nlink > 0xffff ||
    inode.size > 0xffffffff
  );
}

/**
 * Picks inline or plain for directories and symlinks and sets the tail.
 * Returns the bytes that go to whole blocks elsewhere. A tail must not cross a
 * block, and for symlinks kernels want the inode in the same block too.
 */
function settleLayout(inode: PlannedInode, blockSize: number): number {
  if (inode.data?.kind === 'chunked') {
    inode.layout = LAYOUT_CHUNKED;
    return 0;
  }
  const type = inode.node.mode & S_IFMT;
  if (type !== S_IFDIR && type !== S_IFLNK) return 0;
  const last = inode.size % blockSize;
  const fits = last > 0 && inode.headerSize + inode.xattrSize + last <= blockSize;
  if (!fits || (type === S_IFLNK && inode.size > last)) {
    inode.layout = LAYOUT_PLAIN;
    return inode.size;
  }
  inode.layout = LAYOUT_INLINE;
  inode.tail = last;
  return inode.size - last;
}

/** Bytes of the inode with all that stands behind it. */
function inodeBytes(inode: PlannedInode): number {
  const head = inode.headerSize + inode.xattrSize;
  if (inode.data?.kind !== 'chunked') return head + inode.tail;
  return alignUp(head, CHUNK_INDEX.size) + inode.data.sources.length * CHUNK_INDEX.size;
}

function copiedBytes(inode: PlannedInode, blockSize: number): number {
  if (inode.data?.kind === 'copied') return alignUp(inode.size, blockSize);
  return inode.data?.kind === 'chunked' ? inode.data.copied : 0;
}

/** The blocks of the file systems that raw disks are written to: what begins on one can be shared with them, see docs/decisions/0051. */
const DEVICE_ALIGNMENT = 4096;

/** Devices stand behind each other in the unified space, each on a 4096-byte boundary. */
function placeDevices(
  sources: readonly DataSource[],
  used: Uint8Array,
  imageSize: number,
  blockSize: number,
): PlannedDevice[] {
  const devices: PlannedDevice[] = [];
  const align = (block: number): number => alignUp(block * blockSize, DEVICE_ALIGNMENT) / blockSize;
  let uniaddr = align(imageSize / blockSize);
  for (let source = 0; source < sources.length; source++) {
    if (used[source] === 0) continue;
    const blocks = Math.ceil(sources[source]!.size / blockSize);
    devices.push({ source, blocks, uniaddr });
    uniaddr = align(uniaddr + blocks);
  }
  // block addresses are 32 bits wide, and all ones means a hole
  if (uniaddr >= 0xffffffff || devices.length > 0xffff) {
    throw new VeneerError(
      'erofs/limit',
      `Cannot address ${devices.length} devices of ${uniaddr} blocks of ${blockSize} bytes together: at most 65535 devices and 2^32 blocks`,
      {
        hint: 'Larger blocks reach further: convert the layers to self-contained images with 4096-byte blocks.',
      },
    );
  }
  return devices;
}
