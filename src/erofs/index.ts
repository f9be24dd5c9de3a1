/**
 * `veneer/erofs`: EROFS images written from trees, and trees read from EROFS images.
 *
 * `planImage` decides every offset, `writeImage` carries it out; `ErofsReader`
 * gives the tree back. Nothing here opens a file.
 */
export type { ByteSink, ByteSource } from '../bytes/io.ts';
export { bufferSource } from '../bytes/io.ts';
export type { ReadData } from '../tree/file-data.ts';
export { chooseChunkSize, coversChunk } from './data.ts';
export { dumpImage } from './dump.ts';
export {
  type ErofsPlan,
  fittingBlockSize,
  type PlannedDevice,
  type PlanOptions,
  planImage,
} from './plan.ts';
export { type DiskInode, ErofsReader } from './reader.ts';
export { SelfContainedWriter } from './self-contained.ts';
export type { DeviceSlot, Superblock } from './superblock.ts';
export { deviceTag, writeImage } from './writer.ts';
