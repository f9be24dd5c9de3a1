/** Writes what a plan says: superblock and device table, metadata, copied data. */
import { createHash } from 'node:crypto';
import { alignUp } from '../bytes/align.ts';
import { putByteString } from '../bytes/byte-string.ts';
import { crc32c } from '../bytes/crc32c.ts';
import type { ByteSink } from '../bytes/io.ts';
import { VeneerError } from '../errors.ts';
import { fillPiece, type ReadData } from '../tree/file-data.ts';
import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../tree/node.ts';
import { type ChunkedData, COPY, HOLE } from './data.ts';
import {
  CHUNK_INDEX,
  CHUNK_INDEXES,
  COMPAT_MTIME,
  COMPAT_SB_CHKSUM,
  COMPAT_XATTR_FILTER,
  DEVICE_SLOT,
  DIRENT,
  EROFS_SUPER_MAGIC,
  EROFS_SUPER_OFFSET,
  encodeDevice,
  FILE_TYPES,
  FORMAT_EXTENDED,
  INCOMPAT_CHUNKED_FILE,
  INCOMPAT_DEVICE_TABLE,
  INODE_COMPACT,
  INODE_EXTENDED,
  INODE_SLOT,
  MERGED_VOLUME,
  NULL_ADDR,
  SUPERBLOCK,
  XATTR_IBODY,
} from './format.ts';
import { type ErofsPlan, type PlannedInode, plannedPath } from './plan.ts';
import { writeXattrArea } from './xattr.ts';

/** Copied data goes out in pieces of this size, bytes. */
const COPY_PIECE = 1 << 20;

/** Writes the whole image in order, for a plan without data of its own; `read` fetches what could not be mapped. */
export function writeImage(plan: ErofsPlan, sink: ByteSink, read: ReadData): void {
  const metadata = buildMetadata(plan);
  sink.write(buildHeader(plan, metadata), 0);
  sink.write(metadata, plan.inodesAt);
  writeCopies(plan, sink, read);
}

/** The first {@link ErofsPlan.headerSize} bytes: superblock with checksum, and device table. */
export function buildHeader(plan: ErofsPlan, metadata: Buffer): Buffer {
  const bytes = Buffer.alloc(plan.headerSize);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const base = EROFS_SUPER_OFFSET;
  const { at } = SUPERBLOCK;
  const { blockSize, devices, xattrs } = plan;
  const chunked = plan.inodes.some((inode) => inode.data?.kind === 'chunked');

  view.setUint32(base + at.magic, EROFS_SUPER_MAGIC, true);
  view.setUint32(
    base + at.feature_compat,
    COMPAT_SB_CHKSUM | COMPAT_MTIME | (xattrs.used ? COMPAT_XATTR_FILTER : 0),
    true,
  );
  view.setUint8(base + at.blkszbits, Math.log2(blockSize));
  view.setUint16(base + at.rootnid, nidOf(plan, plan.inodes[0]!), true);
  setUint64(view, base + at.inos, plan.inodes.length);
  setUint64(view, base + at.epoch, plan.epoch);
  view.setUint32(base + at.fixed_nsec, plan.epochNsec, true);
  view.setUint32(base + at.blocks, plan.size / blockSize, true);
  view.setUint32(base + at.meta_blkaddr, plan.metaBlock, true);
  view.setUint32(base + at.xattr_blkaddr, plan.sharedAt / blockSize, true);
  view.setUint32(
    base + at.feature_incompat,
    (chunked ? INCOMPAT_CHUNKED_FILE : 0) | (devices.length > 0 ? INCOMPAT_DEVICE_TABLE : 0),
    true,
  );
  if (plan.merged) putByteString(bytes, base + at.volume_name, MERGED_VOLUME);
  view.setUint16(base + at.extra_devices, devices.length, true);

  const tableAt = EROFS_SUPER_OFFSET + SUPERBLOCK.size;
  if (devices.length > 0) view.setUint16(base + at.devt_slotoff, tableAt / DEVICE_SLOT.size, true);
  devices.forEach((device, i) => {
    const slot = tableAt + i * DEVICE_SLOT.size;
    putByteString(bytes, slot + DEVICE_SLOT.at.tag, deviceTag(plan.sources[device.source]!.digest));
    view.setUint32(slot + DEVICE_SLOT.at.blocks, device.blocks, true);
    view.setUint32(slot + DEVICE_SLOT.at.uniaddr, device.uniaddr, true);
  });

  // the same image always has the same UUID: a hash of everything but the UUID and the checksum
  const hash = createHash('sha256').update(plan.identity).update(bytes).update(metadata).digest();
  hash[6] = (hash[6]! & 0x0f) | 0x80; // RFC 9562: version 8, made by rules of our own
  hash[8] = (hash[8]! & 0x3f) | 0x80;
  hash.copy(bytes, base + at.uuid, 0, 16);

  const blockEnd = base < blockSize ? blockSize : base + blockSize;
  view.setUint32(base + at.checksum, crc32c(bytes.subarray(base, blockEnd)), true);
  return bytes;
}

/** What a device's slot says of its identity: the hex digest of its bytes, 64 of them at most. */
export function deviceTag(digest: string): string {
  return digest.slice(digest.indexOf(':') + 1).slice(0, 64);
}

function nidOf(plan: ErofsPlan, inode: PlannedInode): number {
  return (plan.inodesAt + inode.at - plan.metaBlock * plan.blockSize) / INODE_SLOT;
}

/** Inodes, shared xattrs and blocks: the bytes from `inodesAt` to `copiesAt`. */
export function buildMetadata(plan: ErofsPlan): Buffer {
  const bytes = Buffer.alloc(plan.copiesAt - plan.inodesAt);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const addresses = sourceAddresses(plan);
  for (const inode of plan.inodes) {
    const end = writeInode(plan, inode, bytes, view, addresses);
    const blocks = plan.blocksAt - plan.inodesAt + inode.blocksAt;
    if (inode.names !== null) writeDirectory(plan, inode, bytes, view, blocks, end);
    else if ((inode.node.mode & S_IFMT) === S_IFLNK) {
      putByteString(bytes, inode.tail > 0 ? end : blocks, inode.node.target);
    }
  }
  plan.xattrs.writeShared(bytes, plan.sharedAt - plan.inodesAt);
  return bytes;
}

/** Byte address of each source when all devices stand behind each other; the image itself is at 0. */
function sourceAddresses(plan: ErofsPlan): Float64Array {
  const addresses = new Float64Array(plan.sources.length);
  for (const device of plan.devices) addresses[device.source] = device.uniaddr * plan.blockSize;
  return addresses;
}

/** Writes inode, xattrs and chunk map; returns where the inline tail begins. */
function writeInode(
  plan: ErofsPlan,
  inode: PlannedInode,
  bytes: Buffer,
  view: DataView,
  addresses: Float64Array,
): number {
  const { node } = inode;
  const at = inode.at;
  const icount = inode.xattrSize === 0 ? 0 : (inode.xattrSize - XATTR_IBODY.size) / 4 + 1;
  const u = inodeUnion(plan, inode, addresses);
  const format = (inode.layout << 1) | (inode.extended ? FORMAT_EXTENDED : 0);
  if (inode.extended) {
    view.setUint16(at + INODE_EXTENDED.at.format, format, true);
    view.setUint16(at + INODE_EXTENDED.at.xattr_icount, icount, true);
    view.setUint16(at + INODE_EXTENDED.at.mode, node.mode, true);
    setUint64(view, at + INODE_EXTENDED.at.size, inode.size);
    view.setUint32(at + INODE_EXTENDED.at.u, u, true);
    view.setUint32(at + INODE_EXTENDED.at.ino, inode.ino, true);
    view.setUint32(at + INODE_EXTENDED.at.uid, node.uid, true);
    view.setUint32(at + INODE_EXTENDED.at.gid, node.gid, true);
    setUint64(view, at + INODE_EXTENDED.at.mtime, node.mtime);
    view.setUint32(at + INODE_EXTENDED.at.mtime_nsec, node.mtimeNsec, true);
    view.setUint32(at + INODE_EXTENDED.at.nlink, inode.nlink, true);
  } else {
    view.setUint16(at + INODE_COMPACT.at.format, format, true);
    view.setUint16(at + INODE_COMPACT.at.xattr_icount, icount, true);
    view.setUint16(at + INODE_COMPACT.at.mode, node.mode, true);
    view.setUint16(at + INODE_COMPACT.at.nlink, inode.nlink, true);
    view.setUint32(at + INODE_COMPACT.at.size, inode.size, true);
    view.setUint32(at + INODE_COMPACT.at.u, u, true);
    view.setUint32(at + INODE_COMPACT.at.ino, inode.ino, true);
    view.setUint16(at + INODE_COMPACT.at.uid, node.uid, true);
    view.setUint16(at + INODE_COMPACT.at.gid, node.gid, true);
  }
  let end = at + inode.headerSize;
  if (inode.xattrs !== null) {
    writeXattrArea(bytes, view, end, inode.xattrs);
    end += inode.xattrSize;
  }
  if (inode.data?.kind === 'chunked') writeChunkMap(plan, inode, inode.data, view, end, addresses);
  return end;
}

/** `i_u`: block address, device number or chunk format. */
function inodeUnion(plan: ErofsPlan, inode: PlannedInode, addresses: Float64Array): number {
  const { node, data } = inode;
  const { blockSize } = plan;
  switch (node.mode & S_IFMT) {
    case S_IFREG:
      if (data === null) return 0;
      if (data.kind === 'plain') return (addresses[data.source]! + data.at) / blockSize;
      if (data.kind === 'copied') return (plan.copiesAt + inode.copyAt) / blockSize;
      return CHUNK_INDEXES | Math.log2(data.chunkSize / blockSize);
    case S_IFDIR:
    case S_IFLNK:
      return inode.blocksAt < 0 ? 0 : (plan.blocksAt + inode.blocksAt) / blockSize;
    case S_IFCHR:
    case S_IFBLK:
      if (node.devMajor > 0xfff || node.devMinor > 0xfffff) {
        throw new VeneerError(
          'erofs/limit',
          `Cannot store device ${node.devMajor}:${node.devMinor} ${plannedPath(inode)} in EROFS: at most 4095:1048575`,
        );
      }
      return encodeDevice(node.devMajor, node.devMinor);
    default:
      return 0;
  }
}

function writeChunkMap(
  plan: ErofsPlan,
  inode: PlannedInode,
  data: ChunkedData,
  view: DataView,
  end: number,
  addresses: Float64Array,
): void {
  let at = Math.ceil(end / CHUNK_INDEX.size) * CHUNK_INDEX.size;
  for (let chunk = 0; chunk < data.sources.length; chunk++, at += CHUNK_INDEX.size) {
    const source = data.sources[chunk]!;
    let block = NULL_ADDR;
    if (plan.byDevice && source >= 0) {
      const device = plan.devices.findIndex((one) => one.source === source);
      view.setUint16(at + CHUNK_INDEX.at.device_id, device + 1, true);
      block = data.ats[chunk]! / plan.blockSize;
    } else if (source === COPY) block = (plan.copiesAt + inode.copyAt + data.ats[chunk]!) / plan.blockSize;
    else if (source !== HOLE) block = (addresses[source]! + data.ats[chunk]!) / plan.blockSize;
    view.setUint32(at + CHUNK_INDEX.at.startblk_lo, block, true);
  }
}

/** Writes the blocks of a directory: all but an inline tail from `blocks` on, the tail at `tailAt`. */
function writeDirectory(
  plan: ErofsPlan,
  directory: PlannedInode,
  bytes: Buffer,
  view: DataView,
  blocks: number,
  tailAt: number,
): void {
  const names = directory.names!;
  const kids = directory.kids!;
  const { blockSize } = plan;
  const wholeBytes = directory.size - directory.tail;
  let first = 0;
  for (let done = 0; first < names.length; done += blockSize) {
    let end = first;
    for (let used = 0; end < names.length; end++) {
      used += DIRENT.size + names[end]!.length;
      if (used > blockSize) break;
    }
    const base = done < wholeBytes ? blocks + done : tailAt;
    let entryAt = base;
    let nameAt = base + (end - first) * DIRENT.size;
    for (let i = first; i < end; i++, entryAt += DIRENT.size) {
      const kid = kids[i]!;
      view.setUint32(entryAt + DIRENT.at.nid, nidOf(plan, kid), true);
      view.setUint16(entryAt + DIRENT.at.nameoff, nameAt - base, true);
      bytes[entryAt + DIRENT.at.file_type] = FILE_TYPES[(kid.node.mode & S_IFMT) >> 12]!;
      nameAt = putByteString(bytes, nameAt, names[i]!);
    }
    first = end;
  }
}

/** Writes the data that could not be mapped, from `copiesAt` to the end of the image: copies stand in the order of their inodes. */
export function writeCopies(plan: ErofsPlan, sink: ByteSink, read: ReadData): void {
  const piece = Buffer.alloc(Math.min(COPY_PIECE, plan.size - plan.copiesAt));
  let at = plan.copiesAt;
  let used = 0;
  const flush = (): void => {
    sink.write(piece.subarray(0, used), at);
    at += used;
    used = 0;
  };
  /** `length` bytes of the file from `begin` on; holes and what lies behind its end are zeros. */
  const copy = (inode: PlannedInode, begin: number, length: number): void => {
    for (let done = 0; done < length; ) {
      const take = Math.min(length - done, piece.length - used);
      fillPiece(inode.node, begin + done, piece.subarray(used, used + take), read);
      done += take;
      used += take;
      if (used === piece.length) flush();
    }
  };
  for (const inode of plan.inodes) {
    const { data } = inode;
    if (data?.kind === 'copied') copy(inode, 0, alignUp(inode.size, plan.blockSize));
    else if (data?.kind === 'chunked' && data.copied > 0) {
      for (let chunk = 0; chunk < data.sources.length; chunk++) {
        if (data.sources[chunk] === COPY) copy(inode, chunk * data.chunkSize, data.chunkSize);
      }
    }
  }
  if (used > 0) flush();
}

/** Two's complement, so that times before 1970 work. */
function setUint64(view: DataView, at: number, value: number): void {
  const high = Math.floor(value / 2 ** 32);
  view.setUint32(at, value - high * 2 ** 32, true);
  view.setUint32(at + 4, high, true);
}
