/** Mounting images, and what this machine can do. */
export { type ApplyHooks, applyMount } from './apply.ts';
export { isKernelAtLeast, probeCapabilities } from './capabilities.ts';
export { type CheckedImage, checkImage } from './check-image.ts';
export { parseOptions } from './options.ts';
export { MAX_OVERLAY_LOWERS, planMount } from './plan.ts';
export { mayMount } from './privilege.ts';
export { sweepStale } from './sweep.ts';
export type * from './types.ts';
export { listMounts, unmount } from './unmount.ts';
