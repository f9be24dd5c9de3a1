/**
 * Reads an EROFS image back into the tree it was made from: our own images and
 * uncompressed ones of mkfs.erofs. Images are hostile: every offset and length
 * is checked, no directory is entered twice.
 */
import { displayByteString } from '../bytes/byte-string.ts';
import type { ByteSource } from '../bytes/io.ts';
import { VeneerError } from '../errors.ts';
import { DEFAULT_LIMITS, DIRECTORY_COST } from '../tree/build.ts';
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
import { restoreFacts } from './facts.ts';
import {
  DIRENT,
  decodeMajor,
  decodeMinor,
  FORMAT_EXTENDED,
  FORMAT_KNOWN_BITS,
  formatLayout,
  INODE_COMPACT,
  INODE_EXTENDED,
  INODE_SLOT,
  LAYOUT_INLINE,
  LAYOUT_PLAIN,
  MERGED_VOLUME,
  xattrAreaSize,
} from './format.ts';
import { corruptInode, ImageBytes, s64, u16, u32, unsupportedLayout } from './image-bytes.ts';
import { DataReader, inlineBegin } from './read-data.ts';
import { XattrReader } from './read-xattrs.ts';
import { readSuperblock, type Superblock } from './superblock.ts';

/** An inode as it stands on disk. */
export interface DiskInode {
  readonly nid: number;
  readonly layout: number;
  readonly extended: boolean;
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtime: number;
  readonly mtimeNsec: number;
  /** `i_u` */
  readonly u: number;
  /** Byte offset of the xattr area, and its length. */
  readonly xattrAt: number;
  readonly xattrSize: number;
}

/** What a tree takes in memory, counted as `TreeLimits` of the tree room does. */
export interface TreeSize {
  readonly nodes: number;
  /** Bytes. */
  readonly text: number;
}

/** Linux: symlink targets are shorter than PATH_MAX. */
const MAX_SYMLINK = 4095;
/** More than any directory of a real image; bounds the memory that a forged size can claim. */
const MAX_DIRECTORY = 1 << 30;

export class ErofsReader {
  readonly superblock: Superblock;
  readonly #image: ImageBytes;
  readonly #data: DataReader;
  readonly #xattrs: XattrReader;
  readonly #merged: boolean;
  #held: TreeSize = { nodes: 0, text: 0 };

  constructor(source: ByteSource) {
    this.#image = new ImageBytes(source);
    this.superblock = readSuperblock(this.#image);
    const { xattrBlock, blockSize, volumeName } = this.superblock;
    this.#data = new DataReader(this.#image, this.superblock);
    this.#xattrs = new XattrReader(this.#image, xattrBlock * blockSize);
    this.#merged = volumeName === MERGED_VOLUME;
  }

  /** Bytes of the image file. */
  get size(): number {
    return this.#image.size;
  }

  /** The size of the tree that {@link readTree} gave, for who holds several of them. */
  get treeSize(): TreeSize {
    const { nodes, text } = this.#held;
    return { nodes, text: text + this.#xattrs.text };
  }

  /**
   * The whole tree. `sources[0]` is the image itself, `sources[i]` device `i` of
   * the table: those of our own images carry the digest of their bytes.
   */
  readTree(): FileTree {
    const { blockSize, devices, rootNid } = this.superblock;
    const sources: DataSource[] = [{ kind: 'erofs', digest: '', size: this.size, alignment: blockSize }];
    for (const { tag, blocks } of devices) {
      const digest = /^[0-9a-f]{64}$/.test(tag) ? `sha256:${tag}` : '';
      sources.push({ kind: 'tar', digest, size: blocks * blockSize, alignment: blockSize });
    }
    const root = this.#image.onBudget(() => this.#readDirectories(rootNid));
    return { root, sources, findings: [], ...(this.#merged ? { merged: true } : {}) };
  }

  #readDirectories(rootNid: number): TreeNode {
    const rootInode = this.readInode(rootNid);
    if ((rootInode.mode & S_IFMT) !== S_IFDIR) throw corruptInode(rootNid, 'the root is no directory');
    const root = this.readNode(rootInode)!;
    /** nid to node, for what may occur more than once; null is a whiteout. */
    const seen = new Map<number, TreeNode | null>([[rootNid, root]]);
    const pending: { directory: TreeNode; inode: DiskInode; depth: number }[] = [
      { directory: root, inode: rootInode, depth: 0 },
    ];
    let held = 1;
    let text = 0;
    /** Attributes, and pieces of files that are in pieces. */
    let more = 0;
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      const { directory, inode, depth } = next;
      const children = directory.children!;
      if (depth > DEFAULT_LIMITS.depth)
        throw tooMuch(inode.nid, `it is more than ${DEFAULT_LIMITS.depth} directories deep`);
      this.readDirectory(inode, (name, nid) => {
        if (name === '.' || name === '..') return;
        text += name.length;
        let node = seen.get(nid);
        if (node === undefined) {
          const child = this.readInode(nid);
          node = this.readNode(child);
          const isDirectory = (child.mode & S_IFMT) === S_IFDIR;
          if (isDirectory) pending.push({ directory: node!, inode: child, depth: depth + 1 });
          if (isDirectory || child.nlink > 1 || node === null) seen.set(nid, node);
          held += isDirectory ? DIRECTORY_COST : 1;
          text += node?.target.length ?? 0;
          more += (node?.extents?.length ?? 0) + (node?.xattrs?.size ?? 0);
        } else {
          if (node?.children) throw corruptInode(nid, 'a directory has two names');
          held++;
        }
        if (held > DEFAULT_LIMITS.nodes)
          throw tooMuch(inode.nid, `the image has more than ${DEFAULT_LIMITS.nodes} inodes and names`);
        if (children.has(name) || directory.whiteouts?.has(name))
          throw corruptInode(inode.nid, `the name ${displayByteString(name)} occurs twice`);
        if (node === null) {
          directory.whiteouts ??= new Set();
          directory.whiteouts.add(name);
        } else {
          children.set(name, node);
        }
      });
    }
    this.#held = { nodes: held + more, text };
    return root;
  }

  /** Decodes one inode. */
  readInode(nid: number): DiskInode {
    const image = this.#image;
    const { blockSize, metaBlock, epoch, epochNsec } = this.superblock;
    const at = metaBlock * blockSize + nid * INODE_SLOT;
    let base = image.locate(at, INODE_COMPACT.size, 'the fields', nid);
    const format = u16(image.bytes, base);
    if ((format & ~FORMAT_KNOWN_BITS) !== 0) throw corruptInode(nid, `i_format is 0x${format.toString(16)}`);
    const layout = formatLayout(format);
    const extended = (format & FORMAT_EXTENDED) !== 0;
    const head = extended ? INODE_EXTENDED.size : INODE_COMPACT.size;
    base = image.locate(at, head, 'the fields', nid);
    const { bytes } = image;
    const xattrAt = at + head;
    const xattrSize = xattrAreaSize(u16(bytes, base + INODE_COMPACT.at.xattr_icount));
    const mode = u16(bytes, base + INODE_COMPACT.at.mode);
    if (!extended) {
      const field = INODE_COMPACT.at;
      return {
        nid,
        layout,
        extended,
        mode,
        nlink: u16(bytes, base + field.nlink),
        uid: u16(bytes, base + field.uid),
        gid: u16(bytes, base + field.gid),
        size: u32(bytes, base + field.size),
        mtime: epoch + u32(bytes, base + field.mtime),
        mtimeNsec: epochNsec,
        u: u32(bytes, base + field.u),
        xattrAt,
        xattrSize,
      };
    }
    const field = INODE_EXTENDED.at;
    const size = s64(bytes, base + field.size, 'the size', nid);
    if (size < 0) throw corruptInode(nid, `its size is ${size}`);
    return {
      nid,
      layout,
      extended,
      mode,
      nlink: u32(bytes, base + field.nlink),
      uid: u32(bytes, base + field.uid),
      gid: u32(bytes, base + field.gid),
      size,
      mtime: s64(bytes, base + field.mtime, 'the mtime', nid),
      mtimeNsec: u32(bytes, base + field.mtime_nsec) % 1_000_000_000,
      u: u32(bytes, base + field.u),
      xattrAt,
      xattrSize,
    };
  }

  /** Calls `visit` for every entry of a directory in stored order, `.` and `..` included. */
  readDirectory(inode: DiskInode, visit: (name: string, nid: number) => void): void {
    if (inode.size > Math.min(MAX_DIRECTORY, this.size))
      throw corruptInode(inode.nid, `a directory of ${inode.size} bytes`);
    this.#readContent(inode, 'the directory', (bytes, begin, end) => {
      // this view keeps its window alive while `visit` reads inodes elsewhere
      readDirectoryBlock(bytes.subarray(begin, end), inode.nid, visit);
    });
  }

  /** The bytes of a directory or symlink, `bytes[begin, end)`, a block at a time: the last one may stand behind the inode. */
  #readContent(
    inode: DiskInode,
    what: string,
    onBlock: (bytes: Buffer, begin: number, end: number) => void,
  ): void {
    const { blockSize } = this.superblock;
    const { size, layout } = inode;
    if (layout !== LAYOUT_PLAIN && layout !== LAYOUT_INLINE) throw unsupportedLayout(inode.nid, layout);
    this.#image.spend(size, what, inode.nid);
    const inlineFrom = layout === LAYOUT_INLINE ? inlineBegin(size, blockSize) : size;
    for (let done = 0; done < size; done += blockSize) {
      const length = Math.min(blockSize, size - done);
      const at = done < inlineFrom ? inode.u * blockSize + done : inode.xattrAt + inode.xattrSize;
      const base = this.#image.locate(at, length, what, inode.nid);
      onBlock(this.#image.bytes, base, base + length);
    }
  }

  /** The inode as a tree node without its children; null when it is a whiteout. */
  readNode(inode: DiskInode): TreeNode | null {
    const node = new TreeNode(inode.mode);
    node.uid = inode.uid;
    node.gid = inode.gid;
    node.mtime = inode.mtime;
    node.mtimeNsec = inode.mtimeNsec;
    switch (inode.mode & S_IFMT) {
      case S_IFREG:
        node.size = inode.size;
        this.#data.read(inode, node);
        break;
      case S_IFLNK: {
        if (inode.size > MAX_SYMLINK) throw corruptInode(inode.nid, `a symlink of ${inode.size} bytes`);
        node.size = inode.size;
        this.#readContent(inode, 'the target', (bytes, begin, end) => {
          node.target += bytes.toString('latin1', begin, end);
        });
        break;
      }
      case S_IFCHR:
      case S_IFBLK:
        node.devMajor = decodeMajor(inode.u);
        node.devMinor = decodeMinor(inode.u);
        break;
      case S_IFDIR:
      case 0o010000:
      case 0o140000:
        break;
      default:
        throw corruptInode(inode.nid, `its mode is 0${inode.mode.toString(8)}`);
    }
    const xattrs = this.#xattrs.read(inode.nid, inode.xattrAt, inode.xattrSize);
    return restoreFacts(node, xattrs, this.#merged) ? node : null;
  }
}

function readDirectoryBlock(block: Buffer, nid: number, visit: (name: string, nid: number) => void): void {
  const firstName = block.length < DIRENT.size ? 0 : u16(block, DIRENT.at.nameoff);
  const count = firstName / DIRENT.size;
  if (count === 0 || !Number.isInteger(count) || firstName > block.length) {
    throw corruptInode(nid, `a directory block begins its names at ${firstName}`);
  }
  // One conversion a block: names are slices of it.
  const text = block.toString('latin1', firstName);
  for (let i = 0; i < count; i++) {
    const entry = i * DIRENT.size;
    const begin = u16(block, entry + DIRENT.at.nameoff);
    let end = i + 1 < count ? u16(block, entry + DIRENT.size + DIRENT.at.nameoff) : block.length;
    if (begin < firstName || end > block.length || begin >= end)
      throw corruptInode(nid, `directory entry ${i} has no name`);
    if (i + 1 === count) {
      const nul = block.indexOf(0, begin);
      if (nul >= 0) end = nul;
    }
    const name = text.slice(begin - firstName, end - firstName);
    if (name.length === 0 || name.length > 255 || name.includes('/') || name.includes('\0')) {
      throw corruptInode(nid, `directory entry ${i} has the name ${displayByteString(name)}`);
    }
    visit(name, u32(block, entry + DIRENT.at.nid) + u32(block, entry + DIRENT.at.nid + 4) * 2 ** 32);
  }
}

function tooMuch(nid: number, reason: string): VeneerError {
  return new VeneerError('erofs/limit', `Cannot read EROFS inode ${nid}: ${reason}`);
}
