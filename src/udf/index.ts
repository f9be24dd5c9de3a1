/**
 * `veneer/udf`: UDF trailers behind tars, which the stock `udf.ko` mounts.
 *
 * `planUdf` decides every block, `writeUdf` carries it out; `UdfReader` gives the tree back. What UDF cannot
 * hold is told by path, and comes as trees for sidecars. Nothing here opens a file.
 */
export type { VolumeIdentity } from './descriptors.ts';
export { dumpUdf } from './dump.ts';
export { HEADER_BLOCKS, UDF_BLOCK } from './format.ts';
export type { NameEncoding } from './names.ts';
export { planUdf, type UdfPlan, type UdfPlanOptions } from './plan.ts';
export { type UdfEntry, UdfReader, type UdfRun } from './reader.ts';
export { attributeSidecar, whiteoutSidecar } from './sidecar.ts';
export { findTrailer, flatDigest, mountOptions, standardOptions, type Trailer } from './trailer.ts';
export { type WrittenVolume, writeUdf } from './writer.ts';
