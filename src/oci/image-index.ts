/** Image indexes: OCI (image-index.md) and docker's manifest list. */
import * as v from 'valibot';
import { VeneerError } from '../errors.ts';
import { type Descriptor, descriptorSchema } from './descriptor.ts';
import { MAX_INDEX_ENTRIES, MAX_MANIFEST_BYTES, parseDocument } from './json.ts';
import { checkSameType } from './manifest.ts';
import { isIndexType, isManifestType } from './media-type.ts';
import { formatPlatform, type Platform, rankPlatform } from './platform.ts';

export interface ImageIndex {
  readonly mediaType: string;
  readonly manifests: readonly Descriptor[];
}

const indexSchema = v.object({
  schemaVersion: v.literal(2),
  mediaType: v.nullish(v.string()),
  // Go writes an empty list as null (docker up to 25.0.2 did).
  manifests: v.nullable(
    v.pipe(
      v.array(descriptorSchema),
      v.maxLength(MAX_INDEX_ENTRIES, `more than ${MAX_INDEX_ENTRIES} manifests`),
    ),
  ),
  // One document must not read as an index here and as a manifest elsewhere (CVE-2021-41190).
  layers: v.optional(v.never('an index cannot also have layers')),
  config: v.optional(v.never('an index cannot also have a config')),
});

/** Parses an index; `mediaType` is what led to it and `what` names it. Throws `oci/invalid`, `oci/limit`. */
export function parseImageIndex(bytes: Uint8Array, mediaType: string, what: string): ImageIndex {
  const value = parseDocument(indexSchema, bytes, MAX_MANIFEST_BYTES, what);
  checkSameType(value.mediaType, mediaType, what);
  return { mediaType, manifests: value.manifests ?? [] };
}

/**
 * The entries that may hold the image for `platform`, best first: matching ones in order of preference, then those
 * that name no platform (only their config can tell). Throws `oci/no-platform` when there is none.
 */
export function chooseManifests(
  manifests: readonly Descriptor[],
  platform: Platform,
  what: string,
): Descriptor[] {
  const images = manifests.filter((entry) => isManifestType(entry.mediaType) || isIndexType(entry.mediaType));
  const ranked = images
    .map((entry) => ({
      entry,
      rank: entry.platform === undefined ? Infinity : rankPlatform(platform, entry.platform),
    }))
    .filter(({ rank }) => rank >= 0)
    .sort((a, b) => (a.rank === b.rank ? 0 : a.rank - b.rank));
  if (ranked.length === 0) throw noPlatform(platform, images, what);
  return ranked.map(({ entry }) => entry);
}

/** The error for an index that has nothing for `platform`; the hint lists what it has. */
export function noPlatform(platform: Platform, entries: readonly Descriptor[], what: string): VeneerError {
  const names = entries.flatMap((entry) =>
    entry.platform === undefined ? [] : [formatPlatform(entry.platform)],
  );
  const known = [...new Set(names)].filter((name) => name !== 'unknown/unknown' && name.length <= 60);
  const hint = `It has ${known.slice(0, 20).join(', ')}${known.length > 20 ? ', …' : ''}: choose one with --platform.`;
  return new VeneerError(
    'oci/no-platform',
    `Cannot use ${what}: it has no image for ${formatPlatform(platform)}`,
    known.length === 0 ? {} : { hint },
  );
}
