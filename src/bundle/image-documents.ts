/** The manifest and config of one image in a layout, and putting changed ones in their place. */
import { VeneerError } from '../errors.ts';
import { type ImageConfig, parseImageConfig } from '../oci/config.ts';
import { CONFIG, encodeDocument, INDEX, type JsonObject, MANIFEST } from '../oci/encode-json.ts';
import { MAX_CONFIG_BYTES } from '../oci/json.ts';
import { type Manifest, parseManifest } from '../oci/manifest.ts';
import { OCI_CONFIG, OCI_MANIFEST } from '../oci/media-type.ts';
import type { BlobFacts, LayoutChange } from './change-layout.ts';
import { type ConfigDocument, checkConfigShape } from './config-document.ts';
import { type LayoutFolder, parseRaw, readManifestBlob } from './layout-folder.ts';
import type { ReferencePath } from './references.ts';

export interface ImageDocuments {
  readonly path: ReferencePath;
  readonly manifest: Manifest;
  readonly manifestBytes: Buffer;
  readonly config: ImageConfig;
  readonly configBytes: Buffer;
  /** All that the config says. */
  readonly document: ConfigDocument;
}

/** Reads and checks both; only OCI's own kinds, as umoci. Throws `oci/unsupported`, `oci/invalid`. */
export async function readImage(layout: LayoutFolder, path: ReferencePath): Promise<ImageDocuments> {
  const { manifest: descriptor } = path;
  const what = `the manifest ${descriptor.digest} in ${layout.place}`;
  if (descriptor.mediaType !== OCI_MANIFEST)
    throw new VeneerError(
      'oci/unsupported',
      `Cannot use ${what}: its media type is ${descriptor.mediaType}`,
      {
        hint: 'copy the image with "skopeo copy --format oci"',
      },
    );
  const manifestBytes = await readManifestBlob(layout, descriptor);
  const manifest = parseManifest(manifestBytes, OCI_MANIFEST, what);
  if (manifest.config.mediaType !== OCI_CONFIG)
    throw new VeneerError(
      'oci/unsupported',
      `Cannot use ${what}: its config has the media type ${manifest.config.mediaType}`,
    );
  const configBytes = await layout.read(manifest.config, MAX_CONFIG_BYTES);
  const config = parseImageConfig(configBytes, `the config of ${what}`);
  const document = checkConfigShape(configBytes, `the config of ${what}`);
  return { path, manifest, manifestBytes, config, configBytes, document };
}

/**
 * Stores a config and its manifest, and every index on the way from the layout's name to it. Returns the descriptor
 * for index.json. Nothing names the new blobs yet.
 */
export async function commitImage(
  layout: LayoutChange,
  { steps }: ReferencePath,
  manifest: JsonObject,
  config: JsonObject,
): Promise<JsonObject> {
  const mediaType = (manifest.config as JsonObject).mediaType!;
  const stored = layout.putBlob(encodeDocument(config, CONFIG));
  let child: BlobFacts = layout.putBlob(
    encodeDocument(
      {
        ...manifest,
        mediaType: OCI_MANIFEST,
        config: { mediaType, digest: stored.digest, size: stored.size },
      },
      MANIFEST,
    ),
  );
  for (let at = steps.length - 1; at > 0; at--) {
    const old = steps[at]!.descriptor.digest;
    const parent = parseRaw(await readManifestBlob(layout, steps[at - 1]!.descriptor));
    const manifests = (parent.manifests as readonly JsonObject[]).map((raw) =>
      raw.digest === old ? withBlob(raw, child) : raw,
    );
    child = layout.putBlob(encodeDocument({ ...parent, manifests }, INDEX));
  }
  return withBlob(steps[0]!.raw, child);
}

/** The descriptor of another blob; bytes that were embedded in it were the old one's. */
function withBlob({ data: _, ...raw }: JsonObject, { digest, size }: BlobFacts): JsonObject {
  return { ...raw, digest, size };
}
