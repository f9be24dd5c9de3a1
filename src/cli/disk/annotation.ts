/**
 * The root hash as an OCI annotation: an artifact manifest whose subject is the image (OCI image spec 1.1, "Guidelines
 * for Artifact Usage"), in a layout of its own. Registries list it as a referrer of the image; the image itself, whose
 * digest everybody knows, is not touched.
 */
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { VeneerError } from '../../errors.ts';
import { makeDirectory } from '../../sys/make-directory.ts';
import type { DiskInput } from './input.ts';
import type { MadeTree } from './trees.ts';

export const ARTIFACT_TYPE = 'application/vnd.veneer.verity.v1';
const SIGNATURE_TYPE = 'application/pkcs7-signature';
const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json';
/** The spec's empty descriptor: `{}`. */
const EMPTY = { type: 'application/vnd.oci.empty.v1+json', bytes: Buffer.from('{}') };

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

/**
 * Writes the layout into the new or empty folder `directory`; returns the manifest's digest. Throws `disk/unsupported`
 * for images that are not from the store: nothing is known that the annotation could be about.
 */
export function writeAnnotation(
  directory: string,
  { stored, digest }: DiskInput,
  tree: MadeTree,
  signature: Buffer | null,
): string {
  if (stored === null) {
    throw new VeneerError('disk/unsupported', 'Cannot annotate an image file: it has no manifest', {
      hint: 'Images of the store have one.',
    });
  }
  const blobs = join(directory, 'blobs', 'sha256');
  makeDirectory(resolve(blobs), 0o755);
  const put = (mediaType: string, bytes: Buffer): Descriptor => {
    const hex = createHash('sha256').update(bytes).digest('hex');
    writeFileSync(join(blobs, hex), bytes);
    return { mediaType, digest: `sha256:${hex}`, size: bytes.length };
  };
  const { mediaType, digest: subject, size } = stored.record.manifest;
  const empty = put(EMPTY.type, EMPTY.bytes);
  const annotations = {
    'dev.veneer.verity.root-hash': `sha256:${tree.rootHash}`,
    'dev.veneer.verity.salt': tree.salt,
    'dev.veneer.verity.data-block-size': String(tree.dataBlockSize),
    'dev.veneer.verity.hash-block-size': '4096',
    'dev.veneer.verity.data-blocks': String(tree.dataBlocks),
    'dev.veneer.fsmeta': digest,
  };
  const manifest = put(
    MANIFEST_TYPE,
    json({
      schemaVersion: 2,
      mediaType: MANIFEST_TYPE,
      artifactType: ARTIFACT_TYPE,
      config: empty,
      layers: [signature === null ? empty : put(SIGNATURE_TYPE, signature)],
      subject: { mediaType, digest: subject, size },
      annotations,
    }),
  );
  writeFileSync(join(directory, 'oci-layout'), json({ imageLayoutVersion: '1.0.0' }));
  const entry = { ...manifest, artifactType: ARTIFACT_TYPE, annotations };
  writeFileSync(join(directory, 'index.json'), json({ schemaVersion: 2, manifests: [entry] }));
  return manifest.digest;
}

const json = (value: object): Buffer => Buffer.from(JSON.stringify(value));
