/** Media types of images: OCI image spec (media-types.md) and docker's image manifest v2 schema 2. */

export type Compression = 'gzip' | 'zstd' | 'none' | 'unknown';

export const OCI_INDEX = 'application/vnd.oci.image.index.v1+json';
export const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
export const OCI_CONFIG = 'application/vnd.oci.image.config.v1+json';
export const OCI_LAYER = 'application/vnd.oci.image.layer.v1.tar';
export const OCI_FOREIGN_LAYER = 'application/vnd.oci.image.layer.nondistributable.v1.tar';
export const DOCKER_INDEX = 'application/vnd.docker.distribution.manifest.list.v2+json';
export const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json';
export const DOCKER_CONFIG = 'application/vnd.docker.container.image.v1+json';
export const DOCKER_LAYER = 'application/vnd.docker.image.rootfs.diff.tar';
export const DOCKER_FOREIGN_LAYER = 'application/vnd.docker.image.rootfs.foreign.diff.tar';
/** Docker's schema 1, signed or not; registries answer with it when they have nothing else. */
const DOCKER_SCHEMA1 = /^application\/vnd\.docker\.distribution\.manifest\.v1\+/;

/** What a manifest request accepts, best first. */
export const MANIFEST_TYPES: readonly string[] = [OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST];

export function isIndexType(mediaType: string): boolean {
  return mediaType === OCI_INDEX || mediaType === DOCKER_INDEX;
}

export function isManifestType(mediaType: string): boolean {
  return mediaType === OCI_MANIFEST || mediaType === DOCKER_MANIFEST;
}

export function isConfigType(mediaType: string): boolean {
  return mediaType === OCI_CONFIG || mediaType === DOCKER_CONFIG;
}

export function isSchema1Type(mediaType: string): boolean {
  return DOCKER_SCHEMA1.test(mediaType);
}

/** What a layer's media type says of it, or null when it is no layer of a tar. */
export function describeLayerType(mediaType: string): { compression: Compression; foreign: boolean } | null {
  for (const [base, foreign] of LAYER_BASES) {
    if (mediaType === base) return { compression: base === DOCKER_LAYER ? 'unknown' : 'none', foreign };
    const suffix = mediaType.startsWith(base) ? mediaType.slice(base.length) : '';
    const compression = COMPRESSIONS.get(suffix);
    if (compression !== undefined) return { compression, foreign };
  }
  return null;
}

const LAYER_BASES: readonly (readonly [base: string, foreign: boolean])[] = [
  [OCI_LAYER, false],
  [OCI_FOREIGN_LAYER, true],
  [DOCKER_LAYER, false],
  [DOCKER_FOREIGN_LAYER, true],
];

/** `+gzip` is OCI's spelling, `.gzip` docker's; builders have been seen to mix them. */
const COMPRESSIONS: ReadonlyMap<string, Compression> = new Map([
  ['+gzip', 'gzip'],
  ['.gzip', 'gzip'],
  ['+zstd', 'zstd'],
  ['.zstd', 'zstd'],
]);
