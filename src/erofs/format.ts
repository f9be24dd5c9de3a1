/**
 * The EROFS on-disk format: structs, features and constants, named as in the
 * kernel's `fs/erofs/erofs_fs.h` (6.18). Little-endian throughout.
 */
import { defineStruct } from '../bytes/struct.ts';

export const EROFS_SUPER_OFFSET = 1024;
export const EROFS_SUPER_MAGIC = 0xe0f5e1e2;

/** `volume_name` of merged images: in them a character device 0:0 is a device, in all others a whiteout. */
export const MERGED_VOLUME = 'veneer image';

/** `struct erofs_super_block` */
export const SUPERBLOCK = defineStruct('erofs_super_block', 128, [
  ['magic', 0x00, 4],
  ['checksum', 0x04, 4],
  ['feature_compat', 0x08, 4],
  ['blkszbits', 0x0c, 1],
  ['sb_extslots', 0x0d, 1],
  ['rootnid', 0x0e, 2],
  ['inos', 0x10, 8],
  ['epoch', 0x18, 8],
  ['fixed_nsec', 0x20, 4],
  ['blocks', 0x24, 4],
  ['meta_blkaddr', 0x28, 4],
  ['xattr_blkaddr', 0x2c, 4],
  ['uuid', 0x30, 16],
  ['volume_name', 0x40, 16],
  ['feature_incompat', 0x50, 4],
  ['compr_algs', 0x54, 2],
  ['extra_devices', 0x56, 2],
  ['devt_slotoff', 0x58, 2],
  ['dirblkbits', 0x5a, 1],
  ['xattr_prefix_count', 0x5b, 1],
  ['xattr_prefix_start', 0x5c, 4],
  ['packed_nid', 0x60, 8],
  ['xattr_filter_reserved', 0x68, 1],
  ['reserved', 0x69, 3],
  ['build_time', 0x6c, 4],
  ['rootnid_8b', 0x70, 8],
  ['metabox_nid', 0x78, 8],
]);

/** `EROFS_FEATURE_COMPAT_*` */
export const COMPAT_SB_CHKSUM = 0x1;
export const COMPAT_MTIME = 0x2;
export const COMPAT_XATTR_FILTER = 0x4;

/** `EROFS_FEATURE_INCOMPAT_*` */
export const INCOMPAT_CHUNKED_FILE = 0x4;
export const INCOMPAT_DEVICE_TABLE = 0x8;
/** What the reader understands; compression, fragments, long xattr prefixes, 48-bit and metabox are not among it. */
export const INCOMPAT_READABLE = INCOMPAT_CHUNKED_FILE | INCOMPAT_DEVICE_TABLE;

/** `struct erofs_deviceslot` */
export const DEVICE_SLOT = defineStruct('erofs_deviceslot', 128, [
  ['tag', 0x00, 64],
  ['blocks', 0x40, 4],
  ['uniaddr', 0x44, 4],
  ['blocks_hi', 0x48, 2],
  ['uniaddr_hi', 0x4a, 2],
  ['reserved', 0x4c, 52],
]);

/** `struct erofs_inode_compact`: its mtime is the superblock's epoch. */
export const INODE_COMPACT = defineStruct('erofs_inode_compact', 32, [
  ['format', 0x00, 2],
  ['xattr_icount', 0x02, 2],
  ['mode', 0x04, 2],
  ['nlink', 0x06, 2],
  ['size', 0x08, 4],
  ['mtime', 0x0c, 4],
  ['u', 0x10, 4],
  ['ino', 0x14, 4],
  ['uid', 0x18, 2],
  ['gid', 0x1a, 2],
  ['reserved', 0x1c, 4],
]);

/** `struct erofs_inode_extended` */
export const INODE_EXTENDED = defineStruct('erofs_inode_extended', 64, [
  ['format', 0x00, 2],
  ['xattr_icount', 0x02, 2],
  ['mode', 0x04, 2],
  ['nb', 0x06, 2],
  ['size', 0x08, 8],
  ['u', 0x10, 4],
  ['ino', 0x14, 4],
  ['uid', 0x18, 4],
  ['gid', 0x1c, 4],
  ['mtime', 0x20, 8],
  ['mtime_nsec', 0x28, 4],
  ['nlink', 0x2c, 4],
  ['reserved2', 0x30, 16],
]);

/** An inode's address is its nid times this (`EROFS_ISLOTBITS`). */
export const INODE_SLOT = 32;

/** `i_format`: bit 0 is the version (1 = extended), bits 1-3 the data layout. */
export const FORMAT_EXTENDED = 1;
export const LAYOUT_PLAIN = 0;
export const LAYOUT_INLINE = 2;
export const LAYOUT_CHUNKED = 4;
export const formatLayout = (format: number): number => (format >> 1) & 7;
export const FORMAT_KNOWN_BITS = 0xf;

/** `i_u.c.format` of chunk-based files: bits 0-4 log2(blocks a chunk), 0x20: 8-byte indexes instead of block numbers. */
export const CHUNK_BITS_MASK = 0x1f;
export const CHUNK_INDEXES = 0x20;

/** `struct erofs_inode_chunk_index`; all ones in startblk is a hole (`EROFS_NULL_ADDR`). */
export const CHUNK_INDEX = defineStruct('erofs_inode_chunk_index', 8, [
  ['startblk_hi', 0x00, 2],
  ['device_id', 0x02, 2],
  ['startblk_lo', 0x04, 4],
]);
export const NULL_ADDR = 0xffffffff;

/** `struct erofs_dirent`; a directory block begins with as many as its first nameoff / 12 says, then the names. */
export const DIRENT = defineStruct('erofs_dirent', 12, [
  ['nid', 0x00, 8],
  ['nameoff', 0x08, 2],
  ['file_type', 0x0a, 1],
  ['reserved', 0x0b, 1],
]);

/** `struct erofs_xattr_ibody_header`, then shared ids (u32), then entries padded to 4. */
export const XATTR_IBODY = defineStruct('erofs_xattr_ibody_header', 12, [
  ['name_filter', 0x00, 4],
  ['shared_count', 0x04, 1],
  ['reserved2', 0x05, 7],
]);

/** `struct erofs_xattr_entry`, then name and value. */
export const XATTR_ENTRY = defineStruct('erofs_xattr_entry', 4, [
  ['name_len', 0x00, 1],
  ['name_index', 0x01, 1],
  ['value_size', 0x02, 2],
]);
/** Area of an inode's xattrs: `12 + 4 * (i_xattr_icount - 1)` bytes, 0 when the count is 0. */
export const xattrAreaSize = (icount: number): number =>
  icount === 0 ? 0 : XATTR_IBODY.size + 4 * (icount - 1);
export const XATTR_FILTER_SEED = 0x25bbe08f;
export const XATTR_LONG_PREFIX = 0x80;

/** `EROFS_XATTR_INDEX_*` and the prefix each stands for; the two ACLs have no name behind it. */
export const XATTR_PREFIXES: readonly (readonly [index: number, prefix: string])[] = [
  [1, 'user.'],
  [2, 'system.posix_acl_access'],
  [3, 'system.posix_acl_default'],
  [4, 'trusted.'],
  [6, 'security.'],
];

/** `EROFS_FT_*`, by `(mode & S_IFMT) >> 12`. */
export const FILE_TYPES: Readonly<Record<number, number>> = {
  8: 1, // regular
  4: 2, // directory
  2: 3, // character device
  6: 4, // block device
  1: 5, // fifo
  12: 6, // socket: sockets do not occur in tars, foreign images may hold them
  10: 7, // symlink
};

export const MIN_BLOCK_SIZE = 512;
export const MAX_BLOCK_SIZE = 4096;

/** `i_u` of a device node (`new_encode_dev`). */
export function encodeDevice(major: number, minor: number): number {
  return ((minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xfff00) << 12)) >>> 0;
}
export const decodeMajor = (device: number): number => (device >>> 8) & 0xfff;
export const decodeMinor = (device: number): number => ((device & 0xff) | ((device >>> 12) & 0xfff00)) >>> 0;
