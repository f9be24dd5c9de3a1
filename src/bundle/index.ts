/** `veneer/bundle`: an OCI layout's images unpacked into bundles, and bundles made images again. */
export type { OpenHooks } from './hooked-bundle.ts';
export { type Repacked, type RepackOptions, repackBundle } from './repack.ts';
export { type Unpacked, unpackBundle } from './unpack.ts';
export type { HookedResult, SkippedLayer } from './unpack-hooked.ts';
export type { UnpackOptions } from './unpack-options.ts';
