/** What hooks are told of an image and the bundle that it goes into. */
import { resolve } from 'node:path';
import type { HookDocument, HookLayer, HookSubject } from '../hooks/index.ts';
import { chainIds } from '../oci/digest.ts';
import type { OwnerMaps } from '../rootfs/owners.ts';
import type { ImageDocuments } from './image-documents.ts';

export interface SubjectPlaces {
  readonly bundle: string;
  readonly rootfs: string;
  readonly layout: string;
  readonly tag: string;
}

export function hookSubject(image: ImageDocuments, places: SubjectPlaces, maps: OwnerMaps): HookSubject {
  const { manifest, manifestBytes, config, configBytes, path } = image;
  return {
    bundle: resolve(places.bundle),
    rootfs: resolve(places.rootfs),
    source: { layout: resolve(places.layout), tag: places.tag },
    manifest: documentOf(path.manifest, manifestBytes),
    config: documentOf(manifest.config, configBytes),
    layers: layersOf(manifest.layers, config.diffIds),
    maps: { uid: maps.uidMaps, gid: maps.gidMaps, rootless: maps.rootless },
  };
}

interface BlobFacts {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

function documentOf({ mediaType, digest, size }: BlobFacts, bytes: Buffer): HookDocument {
  return { mediaType, digest, size, content: JSON.parse(bytes.toString('utf8')) as unknown };
}

function layersOf(layers: readonly BlobFacts[], diffIds: readonly string[]): HookLayer[] {
  const chains = chainIds(diffIds);
  return layers.map(({ mediaType, digest, size }, index) => ({
    index,
    mediaType,
    digest,
    size,
    diffID: diffIds[index]!,
    chainID: chains[index]!,
    parentChainID: chains[index - 1] ?? null,
  }));
}
