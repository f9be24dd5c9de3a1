/** OCI image layouts (OCI image spec, image-layout.md), in a directory or inside a tar. */
import { basename, resolve as resolvePath } from 'node:path';
import * as v from 'valibot';
import { VeneerError } from '../errors.ts';
import type { Descriptor } from './descriptor.ts';
import { parseDigest } from './digest.ts';
import { type ImageIndex, parseImageIndex } from './image-index.ts';
import { MAX_MANIFEST_BYTES, parseDocument } from './json.ts';
import { DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST } from './media-type.ts';
import { directoryFiles, type NamedFiles, readRange, streamRange } from './named-files.ts';
import { normalizeReference } from './reference.ts';
import { fallbackTag, findReferrers, parseReferrers } from './referrers.ts';
import {
  checkDocument,
  type FileRange,
  type ImageSource,
  type ReadDocument,
  readChecked,
  resolveAmong,
} from './source.ts';

/** Which of the images in a layout. Without either: the only one, or the one tagged `latest`. */
export interface LayoutChoice {
  readonly tag?: string;
  readonly digest?: string;
}

export const REF_NAME = 'org.opencontainers.image.ref.name';
const CONTAINERD_NAME = 'io.containerd.image.name';

const layoutSchema = v.object({
  imageLayoutVersion: v.pipe(v.string(), v.regex(/^1\.[0-9]+\.[0-9]+$/, 'not a version 1.x.y')),
});
const mediaTypeSchema = v.object({
  mediaType: v.optional(v.picklist([OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST])),
  manifests: v.optional(v.array(v.unknown())),
});

/** Opens the layout in `dir`. Its name is the folder's, with the tag: `node-app:latest`. */
export async function openLayout(dir: string, choice: LayoutChoice = {}): Promise<ImageSource> {
  const files = await directoryFiles(dir);
  if ((await files.locate('oci-layout')) === null) {
    throw new VeneerError(
      'oci/not-found',
      `Cannot open the image in ${dir}: not an OCI layout, it has no oci-layout file`,
    );
  }
  return openLayoutFiles(
    files,
    { place: dir, baseName: basename(resolvePath(dir)) || 'image', fullNames: false },
    choice,
  );
}

export interface LayoutPlace {
  /** The directory or archive, for messages. */
  readonly place: string;
  /** Names an image together with its tag. */
  readonly baseName: string;
  /** Prefer the full reference that docker and containerd note down; archives have no telling name of their own. */
  readonly fullNames: boolean;
}

/** Opens a layout whose files are at hand. */
export async function openLayoutFiles(
  files: NamedFiles,
  { place, baseName, fullNames }: LayoutPlace,
  choice: LayoutChoice,
): Promise<ImageSource> {
  const { index } = await readLayoutIndex(files, place);

  const locate = (descriptor: Descriptor): Promise<FileRange> => locateBlob(files, place, descriptor);
  const read: ReadDocument = async (descriptor, limit, what) =>
    readRange(await locate(descriptor), limit, what);
  const entries =
    choice.digest === undefined
      ? chooseByTag(index.manifests, choice.tag, place)
      : await findByDigest(files, place, index.manifests, choice.digest);

  const readManifest = (descriptor: Descriptor): Promise<Buffer> =>
    readChecked(read, descriptor, MAX_MANIFEST_BYTES, `the manifest ${descriptor.digest} in ${place}`);
  const name = (fullNames ? fullName(entries, choice) : undefined) ?? shortName(entries, choice, baseName);
  return {
    name,
    local: true,
    resolve: (platform) => resolveAmong(entries, platform, read, name),
    async openBlob(descriptor, offset) {
      const range = await locate(descriptor);
      return streamRange(range, Math.min(offset, range.length), `the blob ${descriptor.digest} of ${name}`);
    },
    locateBlob: locate,
    referrers: {
      async list(digest, artifactType) {
        // Tools list them in index.json without a tag, or under the tag that registries without an API have for them.
        const tagged = index.manifests.filter((entry) => tagOf(entry) === fallbackTag(digest));
        const lists = await Promise.all(
          tagged
            .filter(({ mediaType }) => mediaType === OCI_INDEX)
            .map(async (entry) => parseReferrers(await readManifest(entry), `the referrers of ${digest}`)),
        );
        return findReferrers([...index.manifests, ...lists.flat()], digest, artifactType, read);
      },
      read: readManifest,
    },
    close: () => files.close(),
  };
}

/** The index.json of a layout, read and checked: parsed, and its bytes. */
export async function readLayoutIndex(
  files: NamedFiles,
  place: string,
): Promise<{ readonly index: ImageIndex; readonly bytes: Buffer }> {
  parseDocument(
    layoutSchema,
    await readFile(files, place, 'oci-layout', 4096),
    4096,
    `oci-layout in ${place}`,
  );
  const bytes = await readFile(files, place, 'index.json', MAX_MANIFEST_BYTES);
  return { index: parseImageIndex(bytes, OCI_INDEX, `index.json in ${place}`), bytes };
}

/**
 * Entries of one name: several when each is for another platform. Archives of several images have the same tag more
 * than once, under full names that tell them apart; one image may have several names.
 */
function chooseByTag(entries: readonly Descriptor[], tag: string | undefined, place: string): Descriptor[] {
  const names = namesOf(entries).map((known) => known || '(none)');
  const list = names.slice(0, 20).join(', ');
  if (tag === undefined) {
    if (entries.length === 0)
      throw new VeneerError('oci/not-found', `Cannot open the image in ${place}: its index.json is empty`);
    const chosen = onlyOne(entries) ?? onlyOne(entries.filter((entry) => tagOf(entry) === 'latest'));
    if (chosen !== null) return chosen;
    throw new VeneerError(
      'oci/not-found',
      `Cannot open the image in ${place}: it has several and none is the one tagged latest`,
      { hint: `Name one of ${list} behind a colon.` },
    );
  }
  const full = entries.filter((entry) => isContainerdName(entry, tag));
  if (full.length > 0) return full;
  const matches = entries.filter((entry) => tagOf(entry) === tag);
  const chosen = onlyOne(matches);
  if (chosen !== null) return chosen;
  throw new VeneerError(
    'oci/not-found',
    `Cannot open the image ${tag} in ${place}: ${matches.length === 0 ? 'no such tag' : 'several images have this tag'}`,
    names.length === 0 ? {} : { hint: `It has ${list}.` },
  );
}

/** The entries if they are of one name, or one of them if all are one image; else null. */
function onlyOne(entries: readonly Descriptor[]): Descriptor[] | null {
  if (entries.length === 0) return null;
  if (namesOf(entries).length === 1) return [...entries];
  return entries.every(({ digest }) => digest === entries[0]!.digest) ? [entries[0]!] : null;
}

function namesOf(entries: readonly Descriptor[]): string[] {
  return [...new Set(entries.map((entry) => entry.annotations[CONTAINERD_NAME] ?? tagOf(entry)))];
}

function tagOf(entry: Descriptor): string {
  return entry.annotations[REF_NAME] ?? '';
}

/** Archives of docker and containerd hold the full reference in an annotation; users write the short one. */
function isContainerdName(entry: Descriptor, name: string): boolean {
  const full = entry.annotations[CONTAINERD_NAME];
  return full !== undefined && (full === name || normalizeReference(full) === normalizeReference(name));
}

/** A digest may name an entry of index.json, or any other manifest or index that is in the layout. */
async function findByDigest(
  files: NamedFiles,
  place: string,
  entries: readonly Descriptor[],
  digest: string,
): Promise<Descriptor[]> {
  const entry = entries.find((candidate) => candidate.digest === digest);
  if (entry !== undefined) return [entry];
  const path = blobPath(digest);
  const range = await files.locate(path);
  if (range === null)
    throw new VeneerError('oci/not-found', `Cannot open the image ${digest} in ${place}: no such blob`);
  const what = `the blob ${digest} in ${place}`;
  const bytes = await readRange(range, MAX_MANIFEST_BYTES, what);
  const descriptor = { mediaType: guessMediaType(bytes, what), digest, size: bytes.length, annotations: {} };
  checkDocument(bytes, descriptor, what);
  return [descriptor];
}

/** The media type of a document that nobody announced: what it says itself, else by its shape. */
export function guessMediaType(bytes: Buffer, what: string): string {
  const value = parseDocument(mediaTypeSchema, bytes, MAX_MANIFEST_BYTES, what);
  return value.mediaType ?? (value.manifests === undefined ? OCI_MANIFEST : OCI_INDEX);
}

function fullName(entries: readonly Descriptor[], choice: LayoutChoice): string | undefined {
  const full = choice.digest === undefined ? entries[0]?.annotations[CONTAINERD_NAME] : undefined;
  return full === undefined ? undefined : normalizeReference(full);
}

function shortName(entries: readonly Descriptor[], choice: LayoutChoice, baseName: string): string {
  if (choice.digest !== undefined) return `${baseName}@${choice.digest}`;
  const tag = choice.tag ?? (entries[0] === undefined ? '' : tagOf(entries[0]));
  return `${baseName}:${tag === '' ? 'latest' : tag}`;
}

/** Where a blob of a layout stands; its size is the descriptor's. */
export async function locateBlob(
  files: NamedFiles,
  place: string,
  descriptor: Descriptor,
): Promise<FileRange> {
  const range = await files.locate(blobPath(descriptor.digest));
  if (range === null)
    throw new VeneerError(
      'oci/not-found',
      `Cannot read the blob ${descriptor.digest} in ${place}: it is not there`,
    );
  if (range.length !== descriptor.size) {
    throw new VeneerError(
      'oci/digest-mismatch',
      `Cannot read the blob ${descriptor.digest} in ${place}: it has ${range.length} bytes, its descriptor says ${descriptor.size}`,
    );
  }
  return range;
}

/** Relative to the layout. */
export function blobPath(digest: string): string {
  const { algorithm, hex } = parseDigest(digest);
  return `blobs/${algorithm}/${hex}`;
}

async function readFile(files: NamedFiles, place: string, path: string, limit: number): Promise<Buffer> {
  for (;;) {
    const range = await files.locate(path);
    if (range === null)
      throw new VeneerError('oci/not-found', `Cannot open the image in ${place}: it has no ${path}`);
    const bytes = await readRange(range, limit, `${path} in ${place}`).catch((error: unknown) => error);
    const now = await files.locate(path);
    // A writer has put another one in its place meanwhile.
    if (now !== null && now.length !== range.length) continue;
    if (bytes instanceof Buffer) return bytes;
    throw bytes;
  }
}
