/**
 * The on-disk structs of dm-verity and fs-verity. Little-endian.
 *
 * Sources: Documentation/admin-guide/device-mapper/verity.rst and Documentation/filesystems/fsverity.rst of Linux,
 * "DMVerity" in cryptsetup's wiki (superblock).
 */
import { defineStruct } from '../bytes/struct.ts';

/** SHA-256, the only hash that is written. */
export const DIGEST_SIZE = 32;
/** Hash blocks: the page size of every kernel that matters here. */
export const HASH_BLOCK_SIZE = 4096;

/** `struct verity_sb` of cryptsetup: what `veritysetup format` puts in front of the tree. */
export const VERITY_SUPERBLOCK = defineStruct('verity_sb', 512, [
  ['signature', 0, 8],
  ['version', 8, 4],
  ['hash_type', 12, 4],
  ['uuid', 16, 16],
  ['algorithm', 32, 32],
  ['data_block_size', 64, 4],
  ['hash_block_size', 68, 4],
  ['data_blocks', 72, 8],
  ['salt_size', 80, 2],
  ['_pad1', 82, 6],
  ['salt', 88, 256],
  ['_pad2', 344, 168],
]);
export const VERITY_SIGNATURE = 'verity\0\0';
export const VERITY_VERSION = 1;
/** The salt stands in front of the data (0, behind it, is Chrome OS). */
export const HASH_TYPE_NORMAL = 1;
export const MAX_SALT = 256;

/** `struct fsverity_descriptor`: its SHA-256 is the file's digest. */
export const FSVERITY_DESCRIPTOR = defineStruct('fsverity_descriptor', 256, [
  ['version', 0, 1],
  ['hash_algorithm', 1, 1],
  ['log_blocksize', 2, 1],
  ['salt_size', 3, 1],
  ['__reserved_0x04', 4, 4],
  ['data_size', 8, 8],
  ['root_hash', 16, 64],
  ['salt', 80, 32],
  ['__reserved', 112, 144],
]);
/** `FS_VERITY_HASH_ALG_SHA256` */
export const FSVERITY_SHA256 = 1;
/** The block size that every kernel with fs-verity takes. */
export const FSVERITY_BLOCK_SIZE = 4096;
