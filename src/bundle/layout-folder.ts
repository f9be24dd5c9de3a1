/** An OCI layout in a directory, opened to look at its names and documents (OCI image spec, image-layout.md). */
import { VeneerError } from '../errors.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { JsonObject } from '../oci/encode-json.ts';
import { MAX_MANIFEST_BYTES } from '../oci/json.ts';
import { locateBlob, readLayoutIndex } from '../oci/layout.ts';
import { directoryFiles, type NamedFiles, readRange } from '../oci/named-files.ts';
import { readChecked } from '../oci/source.ts';

export interface LayoutFolder {
  /** The directory, for messages. */
  readonly place: string;
  /** index.json as it is, with members that nobody here knows. */
  readonly index: JsonObject;
  readonly entries: readonly LayoutEntry[];
  /** The bytes of a small blob, checked against size and digest. */
  read(descriptor: Descriptor, limit: number): Promise<Buffer>;
}

/** An entry of index.json. */
export interface LayoutEntry {
  readonly descriptor: Descriptor;
  /** As it stands in index.json. */
  readonly raw: JsonObject;
}

/** Opens the layout in `path`. Throws `oci/not-found`, `oci/invalid`, `oci/limit`. */
export async function openLayoutFolder(path: string): Promise<LayoutFolder> {
  const files = await directoryFiles(path);
  if ((await files.locate('oci-layout')) === null)
    throw new VeneerError(
      'oci/not-found',
      `Cannot open ${path}: not an OCI layout, it has no oci-layout file`,
    );
  const { index, bytes } = await readLayoutIndex(files, path);
  const raw = parseRaw(bytes);
  const manifests = (raw.manifests ?? []) as readonly JsonObject[];
  return {
    place: path,
    index: raw,
    entries: index.manifests.map((descriptor, at) => ({ descriptor, raw: manifests[at]! })),
    read: (descriptor, limit) => readBlob(files, path, descriptor, limit),
  };
}

function readBlob(files: NamedFiles, place: string, descriptor: Descriptor, limit: number): Promise<Buffer> {
  const what = `the blob ${descriptor.digest} in ${place}`;
  return readChecked(
    async (wanted) => readRange(await locateBlob(files, place, wanted), limit, what),
    descriptor,
    limit,
    what,
  );
}

/** A document that has been checked already, with all its members. */
export function parseRaw(bytes: Buffer): JsonObject {
  return JSON.parse(bytes.toString('utf8')) as JsonObject;
}

/** A manifest or index of a layout. */
export function readManifestBlob(layout: LayoutFolder, descriptor: Descriptor): Promise<Buffer> {
  return layout.read(descriptor, MAX_MANIFEST_BYTES);
}
