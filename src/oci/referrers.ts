/** Referrers: manifests that say which other manifest they are about (OCI image spec, manifest.md, "subject"). */
import * as v from 'valibot';
import { VeneerError } from '../errors.ts';
import { type Descriptor, descriptorSchema } from './descriptor.ts';
import { parseDigest } from './digest.ts';
import { parseImageIndex } from './image-index.ts';
import { MAX_MANIFEST_BYTES, parseDocument } from './json.ts';
import { DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST } from './media-type.ts';
import { type ReadDocument, readChecked } from './source.ts';

/** Who looks for referrers opens at most so many documents to see what they are about. */
export const MAX_OPENED = 1000;

/** How a source answers what refers to one of its manifests. */
export interface Referrers {
  /**
   * Manifests of that artifactType that are about the manifest with this digest; none when the source knows of none.
   * What is listed is only claimed: look at the `subject` of what {@link read} gives.
   */
  list(digest: string, artifactType: string): Promise<Descriptor[]>;
  /** A manifest that was listed, its size and digest checked. */
  read(descriptor: Descriptor): Promise<Buffer>;
}

const artifactSchema = v.object({
  artifactType: v.nullish(v.string()),
  config: v.nullish(descriptorSchema),
  subject: v.nullish(descriptorSchema),
  annotations: v.nullish(v.record(v.string(), v.string())),
});

/** What a manifest is and which it is about; `''` and null where it does not say. */
export interface ArtifactFacts {
  readonly artifactType: string;
  readonly subject: Descriptor | null;
  readonly annotations: Readonly<Record<string, string>>;
}

/** Looks into a manifest; an artifact without a type is of its config's (image spec, manifest.md, "artifactType"). */
export function artifactFacts(bytes: Uint8Array, what: string): ArtifactFacts {
  const found = parseDocument(artifactSchema, bytes, MAX_MANIFEST_BYTES, what);
  const { artifactType, config, subject, annotations } = found;
  return {
    artifactType: artifactType || (config?.mediaType ?? ''),
    subject: subject ?? null,
    annotations: annotations ?? {},
  };
}

/** An answer of the referrers API or what stands under the fallback tag: an index. */
export function parseReferrers(bytes: Uint8Array, what: string): Descriptor[] {
  return [...parseImageIndex(bytes, OCI_INDEX, what).manifests];
}

/** The tag under which clients list referrers where the registry has no API for it (distribution spec, "Referrers Tag Schema"). */
export function fallbackTag(digest: string): string {
  const { algorithm, hex } = parseDigest(digest);
  return `${algorithm.slice(0, 32)}-${hex.slice(0, 64)}`;
}

/** Entries that may be of `artifactType`, each digest once. Who wrote the list may have left the types out. */
export function ofType(entries: readonly Descriptor[], artifactType: string): Descriptor[] {
  const found = new Map<string, Descriptor>();
  for (const entry of entries) {
    if (entry.artifactType !== undefined && entry.artifactType !== artifactType) continue;
    if (!found.has(entry.digest)) found.set(entry.digest, entry);
  }
  return [...found.values()];
}

/** Those of `entries` that are manifests of `artifactType` about `digest`, by what stands in them. A layout may lack some. */
export async function findReferrers(
  entries: readonly Descriptor[],
  digest: string,
  artifactType: string,
  read: ReadDocument,
): Promise<Descriptor[]> {
  const found: Descriptor[] = [];
  const manifests = ofType(entries, artifactType).filter((entry) => isArtifactManifest(entry.mediaType));
  for (const entry of manifests.slice(0, MAX_OPENED)) {
    const what = `the manifest ${entry.digest}`;
    const bytes = await readChecked(read, entry, MAX_MANIFEST_BYTES, what).catch(nullIfMissing);
    if (bytes === null) continue;
    const facts = artifactFacts(bytes, what);
    if (facts.artifactType === artifactType && facts.subject?.digest === digest) found.push(entry);
  }
  return found;
}

function nullIfMissing(error: unknown): null {
  if (error instanceof VeneerError && error.code === 'oci/not-found') return null;
  throw error;
}

const isArtifactManifest = (mediaType: string): boolean =>
  mediaType === OCI_MANIFEST || mediaType === DOCKER_MANIFEST;
