/** `veneer/tree`: what a layer or an image holds, as one tree of inodes. */
export { DEFAULT_LIMITS, TreeBuilder, type TreeLimits } from './build.ts';
export { lookupPath } from './lookup.ts';
export { mergeLayers } from './merge.ts';
export * from './node.ts';
export { needsChain, resolveLayer } from './resolve.ts';
export { countLinks, usedSources, type Visit, walkTree } from './walk.ts';
