/**
 * `veneer/store`: layers and images on disk, verified, shared, ready to mount.
 *
 * See "The store on disk" in docs/architecture.md and docs/decisions/0030 to 0039.
 */
export { chainOf } from './chain-ids.ts';
export { type CompactOptions, type CompactReport, compact } from './compact.ts';
export { type FsckOptions, type FsckProblem, type FsckReport, fsck } from './fsck.ts';
export { type GcOptions, type GcReport, gc } from './gc.ts';
export { findImage, listImages, readBlob, resolveImage } from './images.ts';
export { locateLayerTar, openLayerTar, readTar, type TarFile } from './layer-tar.ts';
export { type LayerUse, listLayers } from './layers.ts';
export type { Lock } from './locks.ts';
export { type MountableImage, type MountDevice, mountable } from './mountable.ts';
export { type OpenImage, openTree } from './open-tree.ts';
export { type PullOptions, pullImage } from './pull.ts';
export type { BlobRef, ChainRecord, DeviceRecord, ImageLayer, ImageRecord, LayerRecord } from './records.ts';
export { type RemoveOptions, removeImage } from './rm.ts';
export { changeSettings, readSettings } from './settings.ts';
export { Store, type StoreOptions } from './store.ts';
export { type VerifyOptions, type VerifyProblem, type VerifyReport, verify } from './verify.ts';
