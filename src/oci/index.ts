/** Reading images: names, documents, and the sources on this machine. The registry room has the one that is not. */
export { type ImageConfig, parseImageConfig } from './config.ts';
export type { Descriptor, LayerDescriptor } from './descriptor.ts';
export {
  chainId,
  chainIds,
  checkDigest,
  type Digest,
  type DigestAlgorithm,
  digestOf,
  isDigest,
  parseDigest,
} from './digest.ts';
export { openDockerArchive } from './docker-archive.ts';
export { type ImageIndex, parseImageIndex } from './image-index.ts';
export { MAX_CONFIG_BYTES, MAX_LAYERS, MAX_MANIFEST_BYTES } from './json.ts';
export { type LayoutChoice, openLayout } from './layout.ts';
export { type Manifest, parseManifest } from './manifest.ts';
export type { Compression } from './media-type.ts';
export {
  compatiblePlatforms,
  formatPlatform,
  hostPlatform,
  normalizePlatform,
  type Platform,
  parsePlatform,
  rankPlatform,
} from './platform.ts';
export {
  formatReference,
  type ImageSourceName,
  normalizeReference,
  parseImageSource,
  parseReference,
  type Reference,
} from './reference.ts';
export type { Referrers } from './referrers.ts';
export { type FileRange, type ImageSource, isRetryable, type ResolvedImage } from './source.ts';
