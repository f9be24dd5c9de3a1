/** The documents of a delta, read and held against each other; its blobs come later. */
import { VeneerError } from '../errors.ts';
import { parseImageConfig } from '../oci/config.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES } from '../oci/json.ts';
import { parseManifest } from '../oci/manifest.ts';
import { type ReadDocument, type ResolvedImage, readChecked } from '../oci/source.ts';
import { type DeltaConfig, type DeltaManifest, parseDeltaConfig, parseDeltaManifest } from './artifact.ts';

export interface OpenDelta {
  /** Digest of its manifest. */
  readonly digest: string;
  readonly manifest: DeltaManifest;
  readonly config: DeltaConfig;
  /** The image that it leads to; `config.layers` are its layers. */
  readonly target: ResolvedImage;
  /** All bytes of the artifact. */
  readonly size: number;
}

/**
 * Reads the delta whose manifest is `descriptor`; every document is checked against its digest. `what` names it.
 * Throws `oci/…` for documents that are wrong, `delta/unsupported` for what is no delta, `oci/invalid` for one whose
 * parts do not fit each other.
 */
export async function readDelta(
  descriptor: Descriptor,
  read: ReadDocument,
  what: string,
): Promise<OpenDelta> {
  const bytes = await readChecked(read, descriptor, MAX_MANIFEST_BYTES, `the manifest of ${what}`);
  const manifest = parseDeltaManifest(bytes, what);
  const get = (of: Descriptor, limit: number, name: string): Promise<Buffer> =>
    readChecked(read, of, limit, `${name} of ${what}`);
  const [configBytes, manifestBytes, imageConfigBytes] = await Promise.all([
    get(manifest.config, MAX_CONFIG_BYTES, 'the config'),
    get(manifest.targetManifest, MAX_MANIFEST_BYTES, "the target's manifest"),
    get(manifest.targetConfig, MAX_CONFIG_BYTES, "the target's config"),
  ]);
  const config = parseDeltaConfig(configBytes, manifest, what);
  const target: ResolvedImage = {
    manifest: parseManifest(manifestBytes, manifest.subject.mediaType, `the target's manifest in ${what}`),
    manifestBytes,
    manifestDigest: manifest.subject.digest,
    config: parseImageConfig(imageConfigBytes, `the target's config in ${what}`),
    configBytes: imageConfigBytes,
    findings: [],
  };
  checkParts(manifest, config, target, what);
  const blobs = [
    manifest.config,
    manifest.targetManifest,
    manifest.targetConfig,
    ...manifest.layerDeltas.values(),
  ];
  const size = blobs.reduce((sum, blob) => sum + blob.size, bytes.length);
  return { digest: descriptor.digest, manifest, config, target, size };
}

function checkParts(
  manifest: DeltaManifest,
  { layers }: DeltaConfig,
  target: ResolvedImage,
  what: string,
): void {
  if (target.manifest.config.digest !== manifest.targetConfig.digest) {
    throw new VeneerError(
      'oci/invalid',
      `Cannot use ${what}: the config that it carries is not the target's`,
    );
  }
  const { diffIds } = target.config;
  const fits =
    diffIds.length === layers.length &&
    target.manifest.layers.length === layers.length &&
    layers.every(({ diffId }, i) => diffId === diffIds[i]);
  if (!fits)
    throw new VeneerError('oci/invalid', `Cannot use ${what}: its layers are not those of the target`);
}
