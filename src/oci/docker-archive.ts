/**
 * Image archives: what `docker save` writes (manifest.json, a config and layer tars; moby's image/tarexport), and the
 * tar of an OCI layout, which newer ones are as well. The layout is preferred: it has the manifest's true digest.
 */
import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import * as v from 'valibot';
import { VeneerError } from '../errors.ts';
import { archiveFiles } from './archive-files.ts';
import { parseImageConfig } from './config.ts';
import { digestOf } from './digest.ts';
import {
  MAX_CONFIG_BYTES,
  MAX_INDEX_ENTRIES,
  MAX_LAYERS,
  MAX_MANIFEST_BYTES,
  parseDocument,
} from './json.ts';
import { openLayoutFiles } from './layout.ts';
import { OCI_CONFIG, OCI_LAYER, OCI_MANIFEST } from './media-type.ts';
import { type NamedFiles, readRange, streamRange } from './named-files.ts';
import { normalizeReference } from './reference.ts';
import { type FileRange, type ImageSource, type ReadDocument, resolveImage } from './source.ts';

const path = v.pipe(v.string(), v.regex(/^(?!\/)[\x21-\x7e]{1,512}$/, 'not a path inside the archive'));
const archiveSchema = v.pipe(
  v.array(
    v.object({
      Config: path,
      RepoTags: v.nullish(v.array(v.string())),
      Layers: v.pipe(v.array(path), v.maxLength(MAX_LAYERS, `more than ${MAX_LAYERS} layers`)),
    }),
  ),
  v.maxLength(MAX_INDEX_ENTRIES, `more than ${MAX_INDEX_ENTRIES} images`),
);

type ArchiveImage = v.InferOutput<typeof archiveSchema>[number];

/** Opens an archive; `name` chooses among several images by reference (or, in an OCI layout, by tag). */
export async function openDockerArchive(file: string, name?: string): Promise<ImageSource> {
  const files = await archiveFiles(file);
  const baseName = basename(file).replace(/\.tar$/, '') || 'image';
  const manifest = await files.locate('manifest.json');
  const isLayout = (await files.locate('oci-layout')) !== null && (await files.locate('index.json')) !== null;
  if (isLayout) {
    const place = { place: file, baseName, fullNames: true };
    try {
      return await openLayoutFiles(files, place, name === undefined ? {} : { tag: name });
    } catch (error) {
      // docker up to 25.0.2 left images without a tag out of index.json (moby#47210): its own list has all.
      const isMissing = error instanceof VeneerError && error.code === 'oci/not-found';
      if (manifest === null || !isMissing) throw error;
    }
  }
  if (manifest === null) {
    throw new VeneerError(
      'oci/not-found',
      `Cannot open ${file}: neither docker's manifest.json nor an OCI layout is in it`,
    );
  }
  const what = `manifest.json in ${file}`;
  const images = parseDocument(
    archiveSchema,
    await readRange(manifest, MAX_MANIFEST_BYTES, what),
    MAX_MANIFEST_BYTES,
    what,
  );
  return openImage(files, file, baseName, chooseImage(images, name, file), name);
}

async function openImage(
  files: NamedFiles,
  file: string,
  baseName: string,
  image: ArchiveImage,
  wanted: string | undefined,
): Promise<ImageSource> {
  const name = normalizeReference(wanted ?? image.RepoTags?.[0] ?? `${baseName}:latest`);
  const config = await readConfig(files, file, image.Config);
  const { diffIds } = parseImageConfig(config, `the config ${image.Config} in ${file}`);
  if (diffIds.length !== image.Layers.length) {
    throw new VeneerError(
      'oci/invalid',
      `Cannot open ${file}: manifest.json names ${image.Layers.length} layers, the config ${diffIds.length}`,
    );
  }
  const blobs = new Map<string, FileRange>();
  const layers: { mediaType: string; digest: string; size: number }[] = [];
  /** By offset, so that a layer that is named a thousand times is looked at once. */
  const seen = new Map<number, StoredLayer>();
  for (const [index, name] of image.Layers.entries()) {
    const range = await mustLocate(files, file, name);
    let layer = seen.get(range.offset);
    if (layer === undefined) seen.set(range.offset, (layer = await lookAtLayer(range, name, file)));
    // Uncompressed, its digest is its diffID.
    const digest = layer.digest ?? diffIds[index]!;
    blobs.set(digest, range);
    layers.push({ mediaType: layer.mediaType, digest, size: range.length });
  }
  const configDescriptor = { mediaType: OCI_CONFIG, digest: digestOf(config), size: config.length };
  // `docker save` in its old form stores no manifest: this one is ours, the same for the same archive.
  const manifestBytes = Buffer.from(
    JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, config: configDescriptor, layers }),
  );
  const top = {
    descriptor: {
      mediaType: OCI_MANIFEST,
      digest: digestOf(manifestBytes),
      size: manifestBytes.length,
      annotations: {},
    },
    bytes: manifestBytes,
  };
  const read: ReadDocument = async () => config;
  const locate = (digest: string): FileRange => {
    const range = blobs.get(digest);
    if (range === undefined)
      throw new VeneerError('oci/not-found', `Cannot read the blob ${digest} in ${file}: it is not there`);
    return range;
  };
  return {
    name,
    local: true,
    resolve: (platform) => resolveImage(top, platform, read, name),
    async openBlob({ digest }, offset) {
      const range = locate(digest);
      return streamRange(range, Math.min(offset, range.length), `the blob ${digest} of ${name}`);
    },
    locateBlob: async ({ digest }) => locate(digest),
    close: () => files.close(),
  };
}

function chooseImage(images: readonly ArchiveImage[], name: string | undefined, file: string): ArchiveImage {
  const names = images.flatMap((image) => image.RepoTags ?? []);
  const only = images.length === 1 ? images[0] : undefined;
  const chosen =
    name === undefined
      ? only
      : images.find((image) =>
          image.RepoTags?.some((tag) => tag === name || normalizeReference(tag) === normalizeReference(name)),
        );
  if (chosen !== undefined) return chosen;
  const hint = names.length === 0 ? undefined : `It has ${names.slice(0, 20).join(', ')}.`;
  const reason =
    name === undefined ? `it has ${images.length} images and none was named` : `no image is named ${name}`;
  throw new VeneerError(
    'oci/not-found',
    `Cannot open ${file}: ${reason}`,
    hint === undefined ? {} : { hint },
  );
}

/** The config's file is named by its digest, with or without `.json`; that is checked where it is so. */
async function readConfig(files: NamedFiles, file: string, name: string): Promise<Buffer> {
  const bytes = await readRange(
    await mustLocate(files, file, name),
    MAX_CONFIG_BYTES,
    `the config ${name} in ${file}`,
  );
  const expected = /(?:^|[/:])([a-f0-9]{64})(?:\.json)?$/.exec(name)?.[1];
  const found = digestOf(bytes);
  if (expected !== undefined && found !== `sha256:${expected}`) {
    throw new VeneerError(
      'oci/digest-mismatch',
      `Cannot use the config ${name} in ${file}: its digest is ${found}`,
    );
  }
  return bytes;
}

interface StoredLayer {
  readonly mediaType: string;
  /** Null when it is not compressed. */
  readonly digest: string | null;
}

/** Who compressed layers in place left no digest: they are hashed once. */
async function lookAtLayer(range: FileRange, layer: string, file: string): Promise<StoredLayer> {
  const what = `the layer ${layer} in ${file}`;
  const suffix = await compressionSuffix(range, what);
  if (suffix === '') return { mediaType: OCI_LAYER, digest: null };
  const hash = createHash('sha256');
  for await (const chunk of streamRange(range, 0, what)) hash.update(chunk);
  return { mediaType: OCI_LAYER + suffix, digest: `sha256:${hash.digest('hex')}` };
}

async function compressionSuffix(range: FileRange, what: string): Promise<string> {
  const head = await readRange({ ...range, length: Math.min(range.length, 4) }, 4, what);
  if (head.subarray(0, 2).toString('hex') === '1f8b') return '+gzip';
  return head.toString('hex') === '28b52ffd' ? '+zstd' : '';
}

async function mustLocate(files: NamedFiles, file: string, name: string): Promise<FileRange> {
  const range = await files.locate(name);
  if (range === null) throw new VeneerError('oci/not-found', `Cannot open ${file}: it has no ${name}`);
  return range;
}
