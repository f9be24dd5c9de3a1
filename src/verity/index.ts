/** Merkle trees for dm-verity and fs-verity. Pure: bytes come in and go out through the caller. */
export { TreeBuilder, type WriteHashBlocks } from './build.ts';
export { TreeChecker, type VerityDamage } from './check.ts';
export { DIGEST_SIZE, FSVERITY_BLOCK_SIZE, HASH_BLOCK_SIZE, MAX_SALT } from './format.ts';
export { FsVerityHasher } from './fs-verity.ts';
export { type TreeShape, treeShape, type VerityParameters } from './layout.ts';
export {
  hasSuperblock,
  readSuperblock,
  treeUuid,
  type VeritySuperblock,
  writeSuperblock,
} from './superblock.ts';
