/** `veneer/tree`: what a layer or an image holds, as one tree of inodes. */
export { DEFAULT_LIMITS, TreeBuilder, type TreeLimits } from './build.ts';
export { fillPiece, type ReadData } from './file-data.ts';
export { type FillFile, type LayerTarOptions, layerTar } from './layer-tar.ts';
export { lookupPath } from './lookup.ts';
export { LayerMerge, type LinkPolicy, mergeLayers } from './merge.ts';
export * from './node.ts';
export { needsChain, resolveLayer } from './resolve.ts';
export { countLinks, type Named, namesOf, usedSources, type Visit, walkTree } from './walk.ts';
