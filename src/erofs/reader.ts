/**
 * Reads an EROFS image back into the tree it was made from: our own images and
 * uncompressed ones of mkfs.erofs. Images are hostile: every offset and length
 * is checked, no directory is entered twice.
 */
import { displayByteString } from '../bytes/byte-string.ts';
import type { ByteSource } from '../bytes/io.ts';
import { VeneerError } from '../errors.ts';
import {
  type DataSource,
  type Extent,
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
  CHUNK_BITS_MASK,
  CHUNK_INDEX,
  CHUNK_INDEXES,
  DIRENT,
  decodeMajor,
  decodeMinor,
  FORMAT_EXTENDED,
  FORMAT_KNOWN_BITS,
  formatLayout,
  INODE_COMPACT,
  INODE_EXTENDED,
  INODE_SLOT,
  LAYOUT_CHUNKED,
  LAYOUT_INLINE,
  LAYOUT_PLAIN,
  MERGED_VOLUME,
  NULL_ADDR,
  XATTR_ENTRY,
  XATTR_IBODY,
  XATTR_LONG_PREFIX,
  xattrAreaSize,
} from './format.ts';
import { ImageBytes, s64, u16, u32 } from './image-bytes.ts';
import { readSuperblock, type Superblock } from './superblock.ts';
import { joinXattrName } from './xattr.ts';

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

/** Linux: symlink targets are shorter than PATH_MAX. */
const MAX_SYMLINK = 4095;
/** More than any directory of a real image; bounds the memory that a forged size can claim. */
const MAX_DIRECTORY = 1 << 30;

export class ErofsReader {
  readonly superblock: Superblock;
  readonly #image: ImageBytes;
  readonly #merged: boolean;

  constructor(source: ByteSource) {
    this.#image = new ImageBytes(source);
    this.superblock = readSuperblock(this.#image);
    this.#merged = this.superblock.volumeName === MERGED_VOLUME;
  }

  /** Bytes of the image file. */
  get size(): number {
    return this.#image.size;
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
    const root = this.#readDirectories(rootNid);
    return { root, sources, findings: [], ...(this.#merged ? { merged: true } : {}) };
  }

  #readDirectories(rootNid: number): TreeNode {
    const rootInode = this.readInode(rootNid);
    if ((rootInode.mode & S_IFMT) !== S_IFDIR) throw corrupt(rootNid, 'the root is no directory');
    const root = this.readNode(rootInode)!;
    /** nid to node, for what may occur more than once; null is a whiteout. */
    const seen = new Map<number, TreeNode | null>([[rootNid, root]]);
    const pending: [TreeNode, DiskInode][] = [[root, rootInode]];
    let next: [TreeNode, DiskInode] | undefined;
    while ((next = pending.pop()) !== undefined) {
      const [directory, inode] = next;
      const children = directory.children!;
      this.readDirectory(inode, (name, nid) => {
        if (name === '.' || name === '..') return;
        let node = seen.get(nid);
        if (node === undefined) {
          const child = this.readInode(nid);
          node = this.readNode(child);
          const isDirectory = (child.mode & S_IFMT) === S_IFDIR;
          if (isDirectory) pending.push([node!, child]);
          if (isDirectory || child.nlink > 1 || node === null) seen.set(nid, node);
        } else if (node?.children) {
          throw corrupt(nid, 'a directory has two names');
        }
        if (node === null) {
          directory.whiteouts ??= new Set();
          directory.whiteouts.add(name);
        } else if (children.has(name)) {
          throw corrupt(inode.nid, `the name ${displayByteString(name)} occurs twice`);
        } else {
          children.set(name, node);
        }
      });
    }
    return root;
  }

  /** Decodes one inode. */
  readInode(nid: number): DiskInode {
    const image = this.#image;
    const { blockSize, metaBlock, epoch, epochNsec } = this.superblock;
    const at = metaBlock * blockSize + nid * INODE_SLOT;
    let base = image.locate(at, INODE_COMPACT.size, `inode ${nid}`);
    const format = u16(image.bytes, base);
    if ((format & ~FORMAT_KNOWN_BITS) !== 0) throw corrupt(nid, `i_format is 0x${format.toString(16)}`);
    const extended = (format & FORMAT_EXTENDED) !== 0;
    const head = extended ? INODE_EXTENDED.size : INODE_COMPACT.size;
    base = image.locate(at, head, `inode ${nid}`);
    const { bytes } = image;
    const common = {
      nid,
      layout: formatLayout(format),
      extended,
      xattrAt: at + head,
      xattrSize: xattrAreaSize(u16(bytes, base + INODE_COMPACT.at.xattr_icount)),
      mode: u16(bytes, base + INODE_COMPACT.at.mode),
    };
    if (!extended) {
      const field = INODE_COMPACT.at;
      return {
        ...common,
        nlink: u16(bytes, base + field.nlink),
        uid: u16(bytes, base + field.uid),
        gid: u16(bytes, base + field.gid),
        size: u32(bytes, base + field.size),
        mtime: epoch,
        mtimeNsec: epochNsec,
        u: u32(bytes, base + field.u),
      };
    }
    const field = INODE_EXTENDED.at;
    const size = s64(bytes, base + field.size, `the size of inode ${nid}`);
    if (size < 0) throw corrupt(nid, `its size is ${size}`);
    return {
      ...common,
      nlink: u32(bytes, base + field.nlink),
      uid: u32(bytes, base + field.uid),
      gid: u32(bytes, base + field.gid),
      size,
      mtime: s64(bytes, base + field.mtime, `the mtime of inode ${nid}`),
      mtimeNsec: u32(bytes, base + field.mtime_nsec) % 1_000_000_000,
      u: u32(bytes, base + field.u),
    };
  }

  /** Calls `visit` for every entry of a directory in stored order, `.` and `..` included. */
  readDirectory(inode: DiskInode, visit: (name: string, nid: number) => void): void {
    const { blockSize } = this.superblock;
    if (inode.size > Math.min(MAX_DIRECTORY, this.size))
      throw corrupt(inode.nid, `a directory of ${inode.size} bytes`);
    if (inode.layout !== LAYOUT_PLAIN && inode.layout !== LAYOUT_INLINE) throw unsupportedLayout(inode);
    for (let done = 0; done < inode.size; done += blockSize) {
      const length = Math.min(blockSize, inode.size - done);
      // this view keeps its window alive while `visit` reads inodes elsewhere
      const base = this.#image.locate(this.#metadataAddress(inode, done), length, `directory ${inode.nid}`);
      readDirectoryBlock(this.#image.bytes.subarray(base, base + length), inode.nid, visit);
    }
  }

  /** Where byte `offset` of a directory or symlink stands in the image. */
  #metadataAddress(inode: DiskInode, offset: number): number {
    const { blockSize } = this.superblock;
    const inlineFrom = inode.layout === LAYOUT_INLINE ? inlineBegin(inode.size, blockSize) : inode.size;
    return offset >= inlineFrom
      ? inode.xattrAt + inode.xattrSize + offset - inlineFrom
      : inode.u * blockSize + offset;
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
        this.#readData(inode, node);
        break;
      case S_IFLNK: {
        if (inode.size > MAX_SYMLINK) throw corrupt(inode.nid, `a symlink of ${inode.size} bytes`);
        if (inode.layout !== LAYOUT_PLAIN && inode.layout !== LAYOUT_INLINE) throw unsupportedLayout(inode);
        node.size = inode.size;
        node.target = this.#readTarget(inode);
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
        throw corrupt(inode.nid, `its mode is 0${inode.mode.toString(8)}`);
    }
    return restoreFacts(node, this.#readXattrs(inode), this.#merged) ? node : null;
  }

  /** Block by block: mkfs.erofs keeps the last part of a target longer than a block inline. */
  #readTarget(inode: DiskInode): string {
    const { blockSize } = this.superblock;
    let target = '';
    for (let done = 0; done < inode.size; done += blockSize) {
      const length = Math.min(blockSize, inode.size - done);
      target += this.#image.text(this.#metadataAddress(inode, done), length, `symlink ${inode.nid}`);
    }
    return target;
  }

  #readXattrs(inode: DiskInode): Map<string, string> {
    const xattrs = new Map<string, string>();
    if (inode.xattrSize === 0) return xattrs;
    const image = this.#image;
    const end = inode.xattrAt + inode.xattrSize;
    const base = image.locate(inode.xattrAt, inode.xattrSize, `xattrs of inode ${inode.nid}`);
    const shared = image.bytes[base + XATTR_IBODY.at.shared_count]!;
    let at = inode.xattrAt + XATTR_IBODY.size + shared * 4;
    if (at > end) throw corrupt(inode.nid, `${shared} shared xattrs do not fit its area`);
    const found: [string, string][] = [];
    for (let i = 0; i < shared; i++) {
      const idAt = image.locate(inode.xattrAt + XATTR_IBODY.size + i * 4, 4, 'a shared xattr id');
      const id = u32(image.bytes, idAt);
      const { name, value } = this.#readXattr(
        this.superblock.xattrBlock * this.superblock.blockSize + id * 4,
        inode.nid,
      );
      found.push([name, value]);
    }
    while (at < end) {
      const entry = this.#readXattr(at, inode.nid);
      at += entry.size;
      if (at > end) throw corrupt(inode.nid, `xattr ${entry.name} does not fit its area`);
      found.push([entry.name, entry.value]);
    }
    found.sort(([a], [b]) => (a < b ? -1 : 1));
    for (const [name, value] of found) xattrs.set(name, value);
    return xattrs;
  }

  #readXattr(at: number, nid: number): { name: string; value: string; size: number } {
    const what = `an xattr of inode ${nid}`;
    const base = this.#image.locate(at, XATTR_ENTRY.size, what);
    const { bytes } = this.#image;
    const nameLength = bytes[base + XATTR_ENTRY.at.name_len]!;
    const index = bytes[base + XATTR_ENTRY.at.name_index]!;
    const valueLength = u16(bytes, base + XATTR_ENTRY.at.value_size);
    const text = this.#image.text(at + XATTR_ENTRY.size, nameLength + valueLength, what);
    const name = (index & XATTR_LONG_PREFIX) === 0 ? joinXattrName(index, text.slice(0, nameLength)) : null;
    if (name === null) throw corrupt(nid, `xattr name index ${index} is unknown`);
    return {
      name,
      value: text.slice(nameLength),
      size: Math.ceil((XATTR_ENTRY.size + nameLength + valueLength) / 4) * 4,
    };
  }

  #readData(inode: DiskInode, node: TreeNode): void {
    if (inode.size === 0) return;
    const { blockSize } = this.superblock;
    switch (inode.layout) {
      case LAYOUT_PLAIN: {
        const place = this.#resolve(inode.u, inode.size, inode.nid);
        node.source = place.source;
        node.at = place.at;
        return;
      }
      case LAYOUT_INLINE: {
        const inlineFrom = inlineBegin(inode.size, blockSize);
        const tailAt = inode.xattrAt + inode.xattrSize;
        this.#image.locate(tailAt, inode.size - inlineFrom, `inline data of inode ${inode.nid}`);
        const tail = { offset: inlineFrom, length: inode.size - inlineFrom, source: 0, at: tailAt };
        if (inlineFrom === 0) node.extents = [tail];
        else {
          const place = this.#resolve(inode.u, inlineFrom, inode.nid);
          node.extents = [{ offset: 0, length: inlineFrom, ...place }, tail];
        }
        return;
      }
      case LAYOUT_CHUNKED:
        node.extents = this.#readChunkMap(inode);
        return;
      default:
        throw unsupportedLayout(inode);
    }
  }

  #readChunkMap(inode: DiskInode): Extent[] {
    const { blockSize, devices } = this.superblock;
    const format = inode.u & 0xffff;
    const indexes = (format & CHUNK_INDEXES) !== 0;
    if ((format & ~(CHUNK_BITS_MASK | CHUNK_INDEXES)) !== 0) throw unsupportedLayout(inode);
    const unit = indexes ? CHUNK_INDEX.size : 4;
    const chunkSize = blockSize * 2 ** (format & CHUNK_BITS_MASK);
    const count = Math.ceil(inode.size / chunkSize);
    const mapAt = Math.ceil((inode.xattrAt + inode.xattrSize) / unit) * unit;
    if (mapAt + count * unit > this.size) throw corrupt(inode.nid, `a chunk map of ${count} chunks`);
    const extents: Extent[] = [];
    for (let chunk = 0; chunk < count; chunk++) {
      const base = this.#image.locate(mapAt + chunk * unit, unit, `the chunk map of inode ${inode.nid}`);
      const { bytes } = this.#image;
      const block = u32(bytes, base + (indexes ? CHUNK_INDEX.at.startblk_lo : 0));
      if (block === NULL_ADDR) continue;
      const device = indexes ? u16(bytes, base + CHUNK_INDEX.at.device_id) : 0;
      const offset = chunk * chunkSize;
      const length = Math.min(chunkSize, inode.size - offset);
      if (device > devices.length) throw corrupt(inode.nid, `device ${device} of ${devices.length}`);
      const place =
        device === 0
          ? this.#resolve(block, length, inode.nid)
          : this.#within(device, block * blockSize, length, inode.nid);
      const last = extents.at(-1);
      if (
        last &&
        last.offset + last.length === offset &&
        last.source === place.source &&
        last.at + last.length === place.at
      ) {
        extents[extents.length - 1] = { ...last, length: last.length + length };
      } else {
        extents.push({ offset, length, ...place });
      }
    }
    return extents;
  }

  /** A block address of the unified space: inside one of the devices, else in the image itself (`erofs_map_dev`). */
  #resolve(block: number, length: number, nid: number): { source: number; at: number } {
    const { blockSize, devices } = this.superblock;
    for (let i = 0; i < devices.length; i++) {
      const { uniaddr, blocks } = devices[i]!;
      if (uniaddr !== 0 && block >= uniaddr && block < uniaddr + blocks) {
        return this.#within(i + 1, (block - uniaddr) * blockSize, length, nid);
      }
    }
    return this.#within(0, block * blockSize, length, nid);
  }

  #within(source: number, at: number, length: number, nid: number): { source: number; at: number } {
    const { blockSize, devices } = this.superblock;
    const size = source === 0 ? this.size : devices[source - 1]!.blocks * blockSize;
    if (at + length > size)
      throw corrupt(nid, `data at ${at}, ${length} bytes, of device ${source} with ${size}`);
    return { source, at };
  }
}

/** Of a file with an inline tail: where the tail begins. A size of whole blocks has its last block inline. */
function inlineBegin(size: number, blockSize: number): number {
  return size === 0 ? 0 : (Math.ceil(size / blockSize) - 1) * blockSize;
}

function readDirectoryBlock(block: Buffer, nid: number, visit: (name: string, nid: number) => void): void {
  const firstName = block.length < DIRENT.size ? 0 : u16(block, DIRENT.at.nameoff);
  const count = firstName / DIRENT.size;
  if (count === 0 || !Number.isInteger(count) || firstName > block.length) {
    throw corrupt(nid, `a directory block begins its names at ${firstName}`);
  }
  for (let i = 0; i < count; i++) {
    const entry = i * DIRENT.size;
    const begin = u16(block, entry + DIRENT.at.nameoff);
    let end = i + 1 < count ? u16(block, entry + DIRENT.size + DIRENT.at.nameoff) : block.length;
    if (begin < firstName || end > block.length || begin >= end)
      throw corrupt(nid, `directory entry ${i} has no name`);
    if (i + 1 === count) {
      const nul = block.indexOf(0, begin);
      if (nul >= 0) end = nul;
    }
    const name = block.toString('latin1', begin, end);
    if (name.length === 0 || name.length > 255 || name.includes('/') || name.includes('\0')) {
      throw corrupt(nid, `directory entry ${i} has the name ${displayByteString(name)}`);
    }
    visit(name, u32(block, entry + DIRENT.at.nid) + u32(block, entry + DIRENT.at.nid + 4) * 2 ** 32);
  }
}

function corrupt(nid: number, reason: string): VeneerError {
  return new VeneerError('erofs/corrupt', `Cannot read EROFS inode ${nid}: ${reason}`);
}

function unsupportedLayout(inode: DiskInode): VeneerError {
  return new VeneerError(
    'erofs/unsupported',
    `Cannot read EROFS inode ${inode.nid}: data layout ${inode.layout}`,
    {
      hint: 'Compressed images are not read; make them with mkfs.erofs and no -z.',
    },
  );
}
