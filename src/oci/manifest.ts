/** Image manifests: OCI (manifest.md) and docker's schema 2, parsed to one shape. */
import * as v from 'valibot';
import { VeneerError } from '../errors.ts';
import { type Descriptor, descriptorSchema, type LayerDescriptor } from './descriptor.ts';
import { MAX_LAYERS, MAX_MANIFEST_BYTES, parseDocument } from './json.ts';
import { describeLayerType, isConfigType, isIndexType, isManifestType, isSchema1Type } from './media-type.ts';

export interface Manifest {
  readonly mediaType: string;
  readonly config: Descriptor;
  /** Bottom first. */
  readonly layers: readonly LayerDescriptor[];
  readonly annotations: Readonly<Record<string, string>>;
}

const manifestSchema = v.object({
  schemaVersion: v.literal(2),
  mediaType: v.nullish(v.string()),
  config: descriptorSchema,
  layers: v.pipe(v.array(descriptorSchema), v.maxLength(MAX_LAYERS, `more than ${MAX_LAYERS} layers`)),
  annotations: v.nullish(v.record(v.string(), v.string())),
  // One document must not read as a manifest here and as an index elsewhere (CVE-2021-41190).
  manifests: v.optional(v.never('a manifest cannot also list manifests')),
  fsLayers: v.optional(v.never('a manifest cannot also be of schema 1')),
});

/**
 * Parses an image manifest. `mediaType` is what the descriptor or the Content-Type said; the document may repeat
 * it but not differ. `what` names it in messages. Throws `oci/invalid`, `oci/limit` or `oci/unsupported`.
 */
export function parseManifest(bytes: Uint8Array, mediaType: string, what: string): Manifest {
  checkManifestType(mediaType, what);
  const value = parseDocument(manifestSchema, bytes, MAX_MANIFEST_BYTES, what);
  checkSameType(value.mediaType, mediaType, what);
  if (!isConfigType(value.config.mediaType)) {
    throw new VeneerError(
      'oci/unsupported',
      `Cannot use ${what}: not a container image, its config has the media type ${value.config.mediaType}`,
    );
  }
  const layers = value.layers.map((layer, index): LayerDescriptor => {
    const type = describeLayerType(layer.mediaType);
    if (type === null) {
      const encrypted = layer.mediaType.endsWith('+encrypted');
      throw new VeneerError(
        'oci/unsupported',
        `Cannot use ${what}: layer ${index + 1} has the ${encrypted ? 'encrypted ' : ''}media type ${layer.mediaType}`,
      );
    }
    return { ...layer, ...type };
  });
  return { mediaType, config: value.config, layers, annotations: value.annotations ?? {} };
}

/** Throws unless `mediaType` is one of an image manifest. */
function checkManifestType(mediaType: string, what: string): void {
  if (isManifestType(mediaType)) return;
  if (isSchema1Type(mediaType)) {
    throw new VeneerError('oci/unsupported', `Cannot use ${what}: it is of docker's schema 1`, {
      hint: 'Push the image again with any docker since 1.10, or ask the registry for another tag.',
    });
  }
  const is = isIndexType(mediaType)
    ? 'an image index'
    : mediaType === ''
      ? 'without a media type'
      : `of the media type ${mediaType}`;
  throw new VeneerError('oci/unsupported', `Cannot use ${what}: it is ${is}, not an image manifest`);
}

/** Throws `oci/invalid` when a document says another media type than what led to it. */
export function checkSameType(inside: string | null | undefined, outside: string, what: string): void {
  if (inside !== undefined && inside !== null && inside !== outside) {
    throw new VeneerError(
      'oci/invalid',
      `Cannot use ${what}: it says it is ${JSON.stringify(inside.slice(0, 200))} but was announced as ${outside}`,
    );
  }
}
