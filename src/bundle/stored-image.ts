/** An image of veneer's store as the documents that a layout's image has, and the tree of one. */

import { parseImageConfig } from '../oci/config.ts';
import type { JsonObject } from '../oci/encode-json.ts';
import { parseManifest } from '../oci/manifest.ts';
import { readBlob, resolveImage } from '../store/images.ts';
import { openTree } from '../store/open-tree.ts';
import type { Store } from '../store/store.ts';
import { checkConfigShape } from './config-document.ts';
import type { ImageDocuments } from './image-documents.ts';
import type { StoredTree } from './unpack-options.ts';

/** Docker's kinds too: the store has whatever was pulled. Throws `store/no-image`, `store/missing`, `oci/invalid`. */
export function readStoredImage(store: Store, name: string): ImageDocuments {
  const record = resolveImage(store, name);
  const what = `the manifest of ${record.name}`;
  const manifestBytes = readBlob(store, record.manifest.digest);
  const manifest = parseManifest(manifestBytes, record.manifest.mediaType, what);
  const configBytes = readBlob(store, record.config.digest);
  const config = parseImageConfig(configBytes, `the config of ${record.name}`);
  const document = checkConfigShape(configBytes, `the config of ${record.name}`);
  const { mediaType, digest, size } = record.manifest;
  const descriptor = { mediaType, digest, size, annotations: {} };
  const raw: JsonObject = { mediaType, digest, size };
  const path = { steps: [{ descriptor, raw }], manifest: descriptor };
  return { path, manifest, manifestBytes, config, configBytes, document };
}

/**
 * The merged tree of layers that the store has all of; it stays readable when the store is closed.
 * Throws `store/missing`, `store/corrupt`.
 */
export async function openStoredTree(store: Store, diffIds: readonly string[]): Promise<StoredTree> {
  const layers = diffIds.map((diffId) => ({ diffId, blob: { digest: '', size: 0, mediaType: '' } }));
  const { tree, file, close } = await openTree(store, { layers });
  return { tree, files: tree.sources.map((_, index) => file(index).fd), close };
}
