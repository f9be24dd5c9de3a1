/** An image without layers, to begin with. */
import { CONFIG, encodeDocument, type JsonObject, MANIFEST } from '../oci/encode-json.ts';
import { OCI_CONFIG, OCI_MANIFEST } from '../oci/media-type.ts';
import { hostPlatform } from '../oci/platform.ts';
import type { BlobFacts, LayoutChange } from './change-layout.ts';
import { putReference } from './references.ts';

/** Puts an empty image for this machine into the layout as `name`, which another one may have had. `created`: RFC 3339. */
export function putNewImage(layout: LayoutChange, name: string, created: string): BlobFacts {
  const { os, architecture, variant } = hostPlatform();
  const config: JsonObject = {
    created,
    architecture,
    os,
    ...(variant === '' ? {} : { variant }),
    config: {},
    rootfs: { type: 'layers', diff_ids: [] },
  };
  const { digest, size } = layout.putBlob(encodeDocument(config, CONFIG));
  const manifest = layout.putBlob(
    encodeDocument(
      {
        schemaVersion: 2,
        mediaType: OCI_MANIFEST,
        config: { mediaType: OCI_CONFIG, digest, size },
        layers: [],
      },
      MANIFEST,
    ),
  );
  putReference(layout, name, { mediaType: OCI_MANIFEST, digest: manifest.digest, size: manifest.size });
  return manifest;
}
