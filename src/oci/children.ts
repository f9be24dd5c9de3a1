/** Which other blobs a blob needs: what following descriptors from a layout's index comes to. */
import * as v from 'valibot';
import { type Descriptor, descriptorSchema } from './descriptor.ts';
import { MAX_INDEX_ENTRIES, MAX_LAYERS, MAX_MANIFEST_BYTES, parseDocument } from './json.ts';
import { isIndexType, isManifestType } from './media-type.ts';

const many = (limit: number) =>
  v.nullish(v.pipe(v.array(descriptorSchema), v.maxLength(limit, `more than ${limit} entries`)));

/**
 * Looser than what images are read with: a blob that an artifact or a manifest of tomorrow needs is needed all the
 * same.
 */
const childrenSchema = v.object({
  config: v.nullish(descriptorSchema),
  layers: many(MAX_LAYERS),
  manifests: many(MAX_INDEX_ENTRIES),
  subject: v.nullish(descriptorSchema),
});

/** Whether blobs of this media type name other blobs. */
export function hasChildren(mediaType: string): boolean {
  return isIndexType(mediaType) || isManifestType(mediaType);
}

/** The descriptors in a manifest or index, OCI's or docker's. `what` names it in messages. */
export function childDescriptors(bytes: Uint8Array, what: string): Descriptor[] {
  const { config, layers, manifests, subject } = parseDocument(
    childrenSchema,
    bytes,
    MAX_MANIFEST_BYTES,
    what,
  );
  return [config, subject, ...(layers ?? []), ...(manifests ?? [])].filter(
    (child): child is Descriptor => child !== null && child !== undefined,
  );
}
