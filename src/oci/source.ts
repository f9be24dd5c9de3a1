/** The one interface of everything an image can come from, and the walk from its top document to one image. */
import { type ErrorCode, type Finding, VeneerError } from '../errors.ts';
import { type ImageConfig, parseImageConfig } from './config.ts';
import type { Descriptor, LayerDescriptor } from './descriptor.ts';
import { checkDigest } from './digest.ts';
import { chooseManifests, noPlatform, parseImageIndex } from './image-index.ts';
import { MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES } from './json.ts';
import { type Manifest, parseManifest } from './manifest.ts';
import { isIndexType } from './media-type.ts';
import { formatPlatform, type Platform, rankPlatform } from './platform.ts';
import type { Referrers } from './referrers.ts';

/** One image for one platform. Every buffer has been checked against its digest and size. */
export interface ResolvedImage {
  readonly manifest: Manifest;
  readonly manifestBytes: Buffer;
  readonly manifestDigest: string;
  /** `config.diffIds` and `manifest.layers` have the same length and order. */
  readonly config: ImageConfig;
  readonly configBytes: Buffer;
  /** The outermost index that the name led to, when there was one. */
  readonly index?: { readonly mediaType: string; readonly digest: string; readonly bytes: Buffer };
  /** `oci/platform-mismatch` when the only image there is for another platform; `oci/layer-order`. */
  readonly findings: readonly Finding[];
}

/** A run of bytes in a file. */
export interface FileRange {
  readonly path: string;
  /** Byte offset. */
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
}

/** Where an image comes from: an OCI layout, a `docker save` archive, a registry. */
export interface ImageSource {
  /** For messages, and the default name in the store: `node-app:latest` for a layout, else a normalised reference. */
  readonly name: string;
  /** Local sources can be reopened cheaply and need no download file. */
  readonly local: boolean;
  /** The single image for `platform`. */
  resolve(platform: Platform): Promise<ResolvedImage>;
  /**
   * The bytes of a blob from byte `offset` on, at most `descriptor.size - offset` of them. Not checked: hash them.
   * A registry resumes a cut transfer by itself; what it throws in the end says with {@link isRetryable} whether a
   * later try from the reached offset makes sense. Ending the iteration early releases everything.
   */
  openBlob(descriptor: Descriptor, offset: number): Promise<AsyncIterable<Buffer>>;
  /** Where the blob's bytes stand in a local file, for those who read it themselves (a worker); null for a registry. */
  locateBlob(descriptor: Descriptor): Promise<FileRange | null>;
  /** Left out where the source can have none. */
  readonly referrers?: Referrers;
  /** Releases files and connections; running streams fail. */
  close(): Promise<void>;
}

const RETRYABLE: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['registry/unavailable']);

/** Whether the same call can succeed later without anybody changing anything: the network or the server failed, not the data. */
export function isRetryable(error: unknown): boolean {
  return error instanceof VeneerError && RETRYABLE.has(error.code);
}

/** Reads the small document behind a descriptor, at most `limit` bytes. May return bytes that are not the right ones. */
export type ReadDocument = (descriptor: Descriptor, limit: number, what: string) => Promise<Buffer>;

/** A document that has been read and checked. */
export interface TopDocument {
  readonly descriptor: Descriptor;
  readonly bytes: Buffer;
}

/** Indexes may nest; nobody needs more than this. */
const MAX_INDEX_DEPTH = 4;
/** Entries without a platform that are opened to look at their config. */
const MAX_UNLABELLED = 16;

/** Reads a document and checks its size and digest. */
export async function readChecked(
  read: ReadDocument,
  descriptor: Descriptor,
  limit: number,
  what: string,
): Promise<Buffer> {
  if (descriptor.size > limit) {
    throw new VeneerError(
      'oci/limit',
      `Cannot read ${what}: ${descriptor.size} bytes, more than the limit of ${limit}`,
    );
  }
  const bytes = await read(descriptor, limit, what);
  checkDocument(bytes, descriptor, what);
  return bytes;
}

/** Throws `oci/digest-mismatch` unless `bytes` are what `descriptor` says. */
export function checkDocument(bytes: Buffer, descriptor: Descriptor, what: string): void {
  if (bytes.length !== descriptor.size) {
    throw new VeneerError(
      'oci/digest-mismatch',
      `Cannot use ${what}: it has ${bytes.length} bytes, its descriptor says ${descriptor.size}`,
    );
  }
  checkDigest(bytes, descriptor.digest, what);
}

/** From the document that a name led to down to the one image for `platform`. */
export async function resolveImage(
  top: TopDocument,
  platform: Platform,
  read: ReadDocument,
  name: string,
): Promise<ResolvedImage> {
  const image = await descend(top, platform, read, name, 0);
  if (image === null) throw noPlatform(platform, [], name);
  return image;
}

/** Chooses among several descriptors, such as those that one name has in the index.json of a layout. */
export async function resolveAmong(
  entries: readonly Descriptor[],
  platform: Platform,
  read: ReadDocument,
  name: string,
): Promise<ResolvedImage> {
  const only = entries.length === 1 ? entries[0] : undefined;
  if (only !== undefined) {
    const bytes = await readChecked(read, only, MAX_MANIFEST_BYTES, documentName(only, name));
    return resolveImage({ descriptor: only, bytes }, platform, read, name);
  }
  const image = await firstMatch(entries, platform, read, name, 1);
  if (image === null) throw noPlatform(platform, entries, name);
  return image;
}

/** Null when the document is one image without a label for its platform, reached through an index, and is for another platform. */
async function descend(
  { descriptor, bytes }: TopDocument,
  platform: Platform,
  read: ReadDocument,
  name: string,
  depth: number,
): Promise<ResolvedImage | null> {
  const what = documentName(descriptor, name);
  if (!isIndexType(descriptor.mediaType))
    return readImage({ descriptor, bytes }, platform, read, name, depth);
  if (depth >= MAX_INDEX_DEPTH) {
    throw new VeneerError(
      'oci/limit',
      `Cannot use ${what}: image indexes nest more than ${MAX_INDEX_DEPTH} deep`,
    );
  }
  const index = parseImageIndex(bytes, descriptor.mediaType, what);
  const image = await firstMatch(index.manifests, platform, read, name, depth + 1);
  if (image !== null) {
    const { mediaType, digest } = descriptor;
    return { ...image, index: { mediaType, digest, bytes } };
  }
  if (depth > 0) return null;
  throw noPlatform(platform, index.manifests, what);
}

async function firstMatch(
  entries: readonly Descriptor[],
  platform: Platform,
  read: ReadDocument,
  name: string,
  depth: number,
): Promise<ResolvedImage | null> {
  let unlabelled = 0;
  for (const entry of chooseManifests(entries, platform, name)) {
    if (entry.platform === undefined && unlabelled++ === MAX_UNLABELLED) break;
    const bytes = await readChecked(read, entry, MAX_MANIFEST_BYTES, documentName(entry, name));
    const image = await descend({ descriptor: entry, bytes }, platform, read, name, depth);
    if (image !== null) return image;
  }
  return null;
}

async function readImage(
  { descriptor, bytes }: TopDocument,
  platform: Platform,
  read: ReadDocument,
  name: string,
  depth: number,
): Promise<ResolvedImage | null> {
  const manifest = parseManifest(bytes, descriptor.mediaType, documentName(descriptor, name));
  const configName = `the config ${manifest.config.digest} of ${name}`;
  const configBytes = await readChecked(read, manifest.config, MAX_CONFIG_BYTES, configName);
  const config = parseImageConfig(configBytes, configName);
  const matches = rankPlatform(platform, config.platform) >= 0;
  if (!matches && depth > 0 && descriptor.platform === undefined) return null;
  const findings = matches ? [] : [platformMismatch(config.platform, platform, name)];
  const sorted = layersByConfig(manifest.layers, config.diffIds);
  if (sorted !== null) {
    findings.push({
      code: 'oci/layer-order',
      message: `the manifest of ${name} has the layers in another order than the config, which is taken`,
    });
  } else if (config.diffIds.length !== manifest.layers.length) {
    throw new VeneerError(
      'oci/invalid',
      `Cannot use ${name}: the manifest has ${manifest.layers.length} layers, the config names ${config.diffIds.length}`,
    );
  }
  return {
    manifest: sorted === null ? manifest : { ...manifest, layers: sorted },
    manifestBytes: bytes,
    manifestDigest: descriptor.digest,
    config,
    configBytes,
    findings,
  };
}

/**
 * The layers in the order of the config, if the manifest has all of them in another; else null. docker 25.0.0 saved
 * images with the layers in any order, each once (moby#47150). An uncompressed layer is called by its diffID, so
 * what was meant is beyond doubt.
 */
function layersByConfig(
  layers: readonly LayerDescriptor[],
  diffIds: readonly string[],
): LayerDescriptor[] | null {
  if (layers.length === diffIds.length && layers.every(({ digest }, i) => digest === diffIds[i])) return null;
  const known = new Map(layers.map((layer) => [layer.digest, layer]));
  const sorted = diffIds.flatMap((diffId) => known.get(diffId) ?? []);
  return sorted.length === diffIds.length && new Set(diffIds).size === known.size ? sorted : null;
}

function platformMismatch(found: Platform, wanted: Platform, name: string): Finding {
  return {
    code: 'oci/platform-mismatch',
    message: `${name} is for ${formatPlatform(found)}, not for ${formatPlatform(wanted)}`,
  };
}

function documentName(descriptor: Descriptor, name: string): string {
  return `the ${isIndexType(descriptor.mediaType) ? 'index' : 'manifest'} ${descriptor.digest} of ${name}`;
}
