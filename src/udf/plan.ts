/**
 * Plans the UDF metadata of a tree: every block address out. Pure; the writer only carries it out.
 *
 * ```
 * header         of a standard volume only: {@link HEADER_BLOCKS} blocks in front of everything
 * [0, first)     the data: one tar or several, in whole blocks
 * file entries   the root's; then for each directory, breadth first, its file identifiers where they do not
 *                fit its file entry, and the file entries of what it brings in
 * copies         of file data that cannot be mapped
 * FSD
 * VDS, LVID, last of all the anchor
 * ```
 *
 * The one partition is all from the data to the FSD. Blocks are counted from its start, which without a header
 * is the start of the volume; only `origin` tells the two apart.
 */
import { VeneerError } from '../errors.ts';
import { fileExtents } from '../tree/file-data.ts';
import {
  type DataSource,
  type FileTree,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  TreeNode,
} from '../tree/node.ts';
import { joinPath, showPath } from '../tree/path.ts';
import { type FileMap, MAX_DESCRIPTORS, mapFile } from './file-map.ts';
import { AED, DEVICE_EA, FE_ROOM, FID, HEADER_BLOCKS, SHORT_AD, UDF_BLOCK, VDS_BLOCKS } from './format.ts';
import { encodeName, encodeTarget, type NameEncoding, whyNoName } from './names.ts';
import { isWhiteoutDevice, MAX_LINKS, Unheld } from './unheld.ts';

export interface UdfPlanOptions {
  /** How names are stored, see names.ts. */
  readonly names: NameEncoding;
  /** `sidecar`: left out, for a sidecar to say. `literal`: plain files `.wh.NAME` and `.wh..wh..opq`. */
  readonly whiteouts: 'sidecar' | 'literal';
  /** Byte offset in the partition of each of the tree's sources; -1 for one that is not in it: its data is copied. */
  readonly bases: readonly number[];
  /** Where the metadata begins: first block behind the data. */
  readonly firstBlock: number;
  /** A header extent of {@link HEADER_BLOCKS} blocks goes in front, which makes a standard volume. */
  readonly header: boolean;
}

/** Allocation descriptors in a file entry, and in each block of further ones. */
export const IN_FE = Math.floor(FE_ROOM / SHORT_AD.size);
export const IN_AED = Math.floor((UDF_BLOCK - AED.size) / SHORT_AD.size);
/** Behind the copies: FSD, VDS, LVID with its terminator, anchor. */
const CLOSING_BLOCKS = 1 + VDS_BLOCKS + 2 + 1;
/** Block numbers have 32 bits. */
const MAX_BLOCKS = 0xffffffff;
/** Of all files together: 64 MiB of allocation descriptors, and zeros that copies have and no file needs. */
const MAX_ALL_DESCRIPTORS = 1 << 23;
const MAX_PADDING = 1 << 30;
const WHITEOUT_MODE = S_IFREG | 0o644;

/** One inode with its place. */
export class UdfInode {
  readonly node: TreeNode;
  /** Null for the root: the directory that brings it in, under this name. */
  readonly parent: UdfInode | null;
  readonly name: string;
  nlink = 1;
  /** Logical block of its file entry. */
  block = 0;
  /** Directories: names in byte order and what they lead to, the parent not among them. */
  names: string[] | null = null;
  kids: UdfInode[] | null = null;
  /** `InformationLength`. */
  size = 0;
  /** Directories and symlinks: first block of their content, or -1 where it stands in the file entry. */
  contentBlock = -1;
  /** Symlinks: path components. */
  target = '';
  map: FileMap | null = null;
  /** First block of this file's copies. */
  copyBlock = 0;

  constructor(node: TreeNode, parent: UdfInode | null, name: string) {
    this.node = node;
    this.parent = parent;
    this.name = name;
  }

  get type(): number {
    return this.node.mode & S_IFMT;
  }

  /** Blocks of allocation descriptors behind the file entry: the last place of each block leads on to the next one. */
  get continuations(): number {
    const count = this.map?.descriptors ?? 0;
    return count <= IN_FE ? 0 : Math.ceil((count - IN_FE) / (IN_AED - 1));
  }
}

export interface UdfPlan {
  readonly options: UdfPlanOptions;
  /** Breadth first; the root is the first. */
  readonly directories: readonly UdfInode[];
  readonly files: number;
  readonly sources: readonly DataSource[];
  readonly unheld: Unheld;
  /** Inodes with copies, in the order of their copies. */
  readonly copied: readonly UdfInode[];
  readonly copiesBlock: number;
  readonly fsdBlock: number;
  readonly vdsBlock: number;
  readonly lvidBlock: number;
  readonly anchorBlock: number;
  /** Blocks from the start of the partition to the end of the volume. */
  readonly blocks: number;
  /** First sector of the partition: what is counted from the start of the volume is this much more. */
  readonly origin: number;
}

/** Full path of a planned inode; a byte string without a leading slash. */
export function udfPath(inode: UdfInode): string {
  const parts: string[] = [];
  for (let at: UdfInode | null = inode; at?.parent; at = at.parent) parts.push(at.name);
  return parts.reverse().join('/');
}

/** Bytes of a file identifier descriptor with a name of `length` CS0 bytes. */
export const fidSize = (length: number): number => (FID.size + length + 3) & ~3;

/**
 * Plans the volume of `tree`. What UDF cannot hold is in `unheld` and never a reason to fail.
 * Throws `udf/limit` when the volume as a whole is too large.
 */
export function planUdf(tree: FileTree, options: UdfPlanOptions): UdfPlan {
  const collector = new Collector(options);
  const directories = collector.collect(tree.root);
  const { copied } = collector;

  let block = options.firstBlock;
  directories[0]!.block = block++;
  for (const directory of directories) {
    block = placeContent(directory, block);
    for (const [i, kid] of directory.kids!.entries()) {
      if (!bringsIn(directory, i)) continue;
      kid.block = block;
      block += 1 + kid.continuations;
      if (kid.type === S_IFLNK) block = placeContent(kid, block);
    }
  }
  const copiesBlock = block;
  for (const inode of copied) {
    inode.copyBlock = block;
    block += inode.map!.copied;
  }
  const fsdBlock = block;
  const blocks = fsdBlock + CLOSING_BLOCKS;
  const origin = options.header ? HEADER_BLOCKS : 0;
  if (origin + blocks > MAX_BLOCKS) {
    throw new VeneerError(
      'udf/limit',
      `Cannot address ${blocks} blocks of ${UDF_BLOCK} bytes in one UDF volume: at most 2^32`,
      { hint: 'EROFS reaches further.' },
    );
  }
  return {
    options,
    directories,
    files: collector.files,
    sources: tree.sources,
    unheld: collector.unheld,
    copied,
    copiesBlock,
    fsdBlock,
    vdsBlock: fsdBlock + 1,
    lvidBlock: fsdBlock + 1 + VDS_BLOCKS,
    anchorBlock: blocks - 1,
    blocks,
    origin,
  };
}

/** Is the `i`th name of `directory` where that inode's file entry is written? A hard link has one such place. */
export function bringsIn(directory: UdfInode, i: number): boolean {
  const kid = directory.kids![i]!;
  return kid.parent === directory && kid.name === directory.names![i]!;
}

/** Gives the content of a directory or symlink blocks when the file entry has no room for it. */
function placeContent(inode: UdfInode, block: number): number {
  if (inode.size <= FE_ROOM) return block;
  inode.contentBlock = block;
  return block + Math.ceil(inode.size / UDF_BLOCK);
}

/** Finds the inodes and what of them does not fit. */
class Collector {
  readonly unheld = new Unheld();
  readonly copied: UdfInode[] = [];
  files = 0;
  readonly #options: UdfPlanOptions;
  /** Every non-directory, to find hard links again and to let go of the tree in the end. */
  readonly #inodes: UdfInode[] = [];
  readonly #known = new Set<UdfInode>();
  #descriptors = 0;
  #padding = 0;
  /** Stands for every literal whiteout. */
  #whiteout: UdfInode | null = null;

  constructor(options: UdfPlanOptions) {
    this.#options = options;
  }

  /** All directories, breadth first. */
  collect(root: TreeNode): UdfInode[] {
    const directories = [new UdfInode(root, null, '')];
    this.unheld.checkAttributes(root, () => '');
    for (const directory of directories) {
      this.#readDirectory(directory);
      for (const [i, kid] of directory.kids!.entries()) {
        if (kid.type === S_IFDIR && bringsIn(directory, i)) directories.push(kid);
      }
    }
    for (const inode of this.#inodes) {
      inode.node.planned = null;
      if (inode.nlink > MAX_LINKS) {
        const message = `${inode.nlink} hard links, UDF counts to ${MAX_LINKS}`;
        this.unheld.addPartial(inode.node, 'udf/links', message, () => udfPath(inode));
      }
    }
    return directories;
  }

  #readDirectory(directory: UdfInode): void {
    const { children, whiteouts, opaque } = directory.node;
    const literal = this.#options.whiteouts === 'literal';
    const names = [...children!.keys()];
    if (literal && whiteouts !== null) for (const name of whiteouts) names.push(`.wh.${name}`);
    if (literal && opaque) names.push('.wh..wh..opq');
    names.sort();
    const kept: string[] = [];
    const kids: UdfInode[] = [];
    let size = fidSize(0);
    for (const name of names) {
      const node = children!.get(name);
      const kid =
        node === undefined ? this.#addWhiteout(directory, name) : this.#addChild(directory, name, node);
      if (kid === null) continue;
      kept.push(name);
      kids.push(kid);
      size += fidSize(this.#encodedLength(name));
    }
    directory.names = kept;
    directory.kids = kids;
    directory.size = size;
  }

  #encodedLength(name: string): number {
    return this.#options.names === 'bytes' ? name.length + 1 : encodeName(name, 'unicode').length;
  }

  #addChild(directory: UdfInode, name: string, node: TreeNode): UdfInode | null {
    const path = (): string => joinPath(udfPath(directory), name);
    if (node.lowerLink !== null) {
      const target = showPath(node.lowerLink);
      const message = `left out: a hard link to ${target} of a lower layer, which one layer alone does not have`;
      this.unheld.addLost('udf/lower-link', message, path);
      return null;
    }
    if (isWhiteoutDevice(node)) {
      const message = 'left out: a character device 0:0, which overlayfs takes for a whiteout';
      this.unheld.addLost('udf/device-zero', message, path);
      return null;
    }
    const reason = whyNoName(name, this.#options.names);
    if (reason !== null) {
      this.unheld.addMissing(node, 'udf/name', reason, path);
      return null;
    }
    const { planned } = node;
    if (planned instanceof UdfInode && this.#known.has(planned)) {
      planned.nlink++;
      return planned;
    }
    const inode = new UdfInode(node, directory, name);
    if (!this.#describe(inode, path)) return null;
    this.unheld.checkAttributes(node, path);
    if (node.children !== null) {
      // the kernel counts the entry that leads to a directory by itself
      directory.nlink++;
      return inode;
    }
    this.files++;
    node.planned = inode;
    this.#known.add(inode);
    this.#inodes.push(inode);
    return inode;
  }

  /** Content and size; false when the inode cannot be held at all. */
  #describe(inode: UdfInode, path: () => string): boolean {
    const { node } = inode;
    switch (inode.type) {
      case S_IFREG: {
        const map = mapFile(node, this.#options.bases);
        if (map.descriptors > MAX_DESCRIPTORS) {
          const message = `${node.size} bytes of it need ${map.descriptors} extents, at most ${MAX_DESCRIPTORS} are written`;
          this.unheld.addMissing(node, 'udf/extents', message, path);
          return false;
        }
        this.#spend(node, map, path);
        inode.map = map;
        inode.size = node.size;
        if (map.copied > 0) this.copied.push(inode);
        return true;
      }
      case S_IFLNK: {
        const target = encodeTarget(node.target, this.#options.names);
        if (typeof target === 'string') {
          this.unheld.addMissing(node, 'udf/target', target, path);
          return false;
        }
        if (target.shortened) {
          const message = 'the target has slashes that UDF does not keep; it leads to the same place';
          this.unheld.addPartial(node, 'udf/target', message, path);
        }
        inode.target = target.encoded;
        inode.size = target.encoded.length;
        return true;
      }
      case S_IFBLK:
      case S_IFCHR:
        if (node.devMajor > 0xfff || node.devMinor > 0xfffff) {
          throw new VeneerError(
            'udf/limit',
            `Cannot store device ${node.devMajor}:${node.devMinor} ${showPath(path())} in UDF: at most 4095:1048575`,
          );
        }
        return true;
      default:
        return true;
    }
  }

  /** Bounds what sparse files of absurd size and shape may cost. */
  #spend(node: TreeNode, map: FileMap, path: () => string): void {
    this.#descriptors += map.descriptors;
    if (map.copied > 0) {
      const data = fileExtents(node).reduce((sum, { length }) => sum + length, 0);
      this.#padding += Math.max(0, map.copied * UDF_BLOCK - data);
    }
    if (this.#descriptors <= MAX_ALL_DESCRIPTORS && this.#padding <= MAX_PADDING) return;
    throw new VeneerError(
      'udf/limit',
      `Cannot store ${showPath(path())} in UDF: with it, sparse files need ${this.#descriptors} extents and ${this.#padding} zeros around their data`,
    );
  }

  /** All whiteouts are names of one empty file, as far as its link count goes. */
  #addWhiteout(directory: UdfInode, name: string): UdfInode | null {
    const reason = whyNoName(name, this.#options.names);
    if (reason !== null) {
      this.unheld.addLost('udf/name', `left out: ${reason}`, () => joinPath(udfPath(directory), name));
      return null;
    }
    if (this.#whiteout === null || this.#whiteout.nlink === MAX_LINKS) {
      this.#whiteout = new UdfInode(new TreeNode(WHITEOUT_MODE), directory, name);
      this.files++;
    } else {
      this.#whiteout.nlink++;
    }
    return this.#whiteout;
  }
}

/** Bytes of extended attributes in an inode's file entry. */
export function attributeBytes(inode: UdfInode): number {
  return inode.type === S_IFCHR || inode.type === S_IFBLK ? DEVICE_EA.size : 0;
}
