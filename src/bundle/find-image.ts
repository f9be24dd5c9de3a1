/** An image of a layout: its documents, and where the blobs of its layers stand. */
import { VeneerError } from '../errors.ts';
import { locateBlob } from '../oci/layout.ts';
import { directoryFiles } from '../oci/named-files.ts';
import type { LayerBlob } from '../rootfs/open-layers.ts';
import { type ImageDocuments, readImage } from './image-documents.ts';
import { openLayoutFolder } from './layout-folder.ts';
import { resolveReference } from './references.ts';

/** An image of a layout, its layers' files found. */
export interface ImageBlobs {
  readonly image: ImageDocuments;
  readonly layers: readonly LayerBlob[];
}

/** Throws `oci/not-found`, `oci/invalid`, `oci/unsupported`. */
export async function findImage(layoutPath: string, tag: string): Promise<ImageBlobs> {
  const layout = await openLayoutFolder(layoutPath);
  const image = await readImage(layout, await resolveReference(layout, tag));
  return { image, layers: await findLayers(layoutPath, image, tag) };
}

/** Where the layers of an image stand. */
export async function findLayers(
  layoutPath: string,
  { manifest, config }: ImageDocuments,
  tag: string,
): Promise<LayerBlob[]> {
  if (manifest.layers.length !== config.diffIds.length) {
    throw new VeneerError(
      'oci/invalid',
      `Cannot read ${tag} in ${layoutPath}: the manifest has ${manifest.layers.length} layers, the config names ${config.diffIds.length}`,
    );
  }
  const files = await directoryFiles(layoutPath);
  const layers: LayerBlob[] = [];
  for (const [index, layer] of manifest.layers.entries()) {
    const { digest, size } = layer;
    layers.push({
      digest,
      size,
      diffId: config.diffIds[index]!,
      range: await locateBlob(files, layoutPath, layer),
    });
  }
  return layers;
}
