/**
 * A delta of images as an OCI artifact: a manifest that refers to the target's (`subject`), with a config that says
 * what the delta is of. docs/formats/delta.md is the specification.
 */
import * as v from 'valibot';
import { VeneerError } from '../errors.ts';
import { type Descriptor, descriptorSchema, digestSchema } from '../oci/descriptor.ts';
import { encodeDocument, type JsonObject, MANIFEST } from '../oci/encode-json.ts';
import { MAX_CONFIG_BYTES, MAX_LAYERS, MAX_MANIFEST_BYTES, parseDocument } from '../oci/json.ts';
import { OCI_MANIFEST } from '../oci/media-type.ts';
import { type Compressor, compressorSchema } from './compressor.ts';

/** What registries list it under, as a referrer of the target. */
export const ARTIFACT_TYPE = 'application/vnd.veneer.delta.v1';
export const DELTA_CONFIG = 'application/vnd.veneer.delta.config.v1+json';
/** The target's manifest and config, byte for byte; a type of their own, for here they are not what they say. */
export const TARGET_MANIFEST = 'application/vnd.veneer.delta.target.manifest.v1+json';
export const TARGET_CONFIG = 'application/vnd.veneer.delta.target.config.v1+json';
export const LAYER_DELTA = 'application/vnd.veneer.delta.layer.v1';
/** Annotation: config digest (image ID) of the image that the delta was made from; a hint for choosing, no more. */
export const SOURCE_ANNOTATION = 'vnd.veneer.delta.source';

/** The manifest, parsed. */
export interface DeltaManifest {
  /** The target's manifest, as the registry has it. */
  readonly subject: Descriptor;
  readonly config: Descriptor;
  /** The same bytes as `subject`, under the delta's own media type. */
  readonly targetManifest: Descriptor;
  readonly targetConfig: Descriptor;
  /** Deltas of layers by digest. */
  readonly layerDeltas: ReadonlyMap<string, Descriptor>;
  readonly annotations: Readonly<Record<string, string>>;
}

/** A layer of the target, bottom first. */
export interface DeltaLayer {
  readonly diffId: string;
  /** Bytes of the tar. */
  readonly size: number;
  /** Digest of its delta; null when it is a layer of the source. */
  readonly delta: string | null;
  /** How the blob that the target's manifest names is made of the tar; null when no way was found. */
  readonly compressor: Compressor | null;
}

/** The config, parsed. */
export interface DeltaConfig {
  /** Config digest of the image that it was made from. */
  readonly source: string;
  /** Layers, by diffID, whose tars the deltas take bytes from. All of them are needed. */
  readonly sources: readonly { readonly diffId: string; readonly size: number }[];
  readonly layers: readonly DeltaLayer[];
}

const size = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const sha256 = v.pipe(v.string(), v.regex(/^sha256:[0-9a-f]{64}$/, 'not sha256:<64 hex>'));

const manifestSchema = v.object({
  schemaVersion: v.literal(2),
  mediaType: v.literal(OCI_MANIFEST),
  artifactType: v.nullish(v.string()),
  config: descriptorSchema,
  layers: v.pipe(v.array(descriptorSchema), v.maxLength(MAX_LAYERS, `more than ${MAX_LAYERS} layers`)),
  subject: v.nullish(descriptorSchema),
  annotations: v.nullish(v.record(v.string(), v.string())),
});

const configSchema = v.object({
  version: v.literal(1),
  source: digestSchema,
  sources: v.pipe(v.array(v.object({ diffId: sha256, size })), v.maxLength(MAX_LAYERS)),
  layers: v.pipe(
    v.array(
      v.object({
        diffId: sha256,
        size,
        delta: v.optional(v.nullable(sha256), null),
        compressor: v.optional(v.nullable(compressorSchema), null),
      }),
    ),
    v.maxLength(MAX_LAYERS),
  ),
});

/** Throws `oci/invalid`, `oci/limit`, `delta/unsupported`. The bytes were checked against their digest. */
export function parseDeltaManifest(bytes: Uint8Array, what: string): DeltaManifest {
  const { artifactType, config, layers, subject, annotations } = parseDocument(
    manifestSchema,
    bytes,
    MAX_MANIFEST_BYTES,
    what,
  );
  if (artifactType !== ARTIFACT_TYPE || config.mediaType !== DELTA_CONFIG) {
    throw new VeneerError(
      'delta/unsupported',
      `Cannot use ${what}: not a delta, ${artifactType ? `its type is ${artifactType}` : 'but an image'}`,
    );
  }
  if (!subject) throw new VeneerError('oci/invalid', `Cannot use ${what}: it does not say what it leads to`);
  const [targetManifest, targetConfig, ...rest] = layers;
  if (targetManifest?.mediaType !== TARGET_MANIFEST || targetConfig?.mediaType !== TARGET_CONFIG) {
    throw new VeneerError(
      'oci/invalid',
      `Cannot use ${what}: it does not carry the target's manifest and config`,
    );
  }
  if (targetManifest.digest !== subject.digest || targetManifest.size !== subject.size) {
    throw new VeneerError(
      'oci/invalid',
      `Cannot use ${what}: the manifest that it carries is not its subject`,
    );
  }
  const strange = rest.find(({ mediaType }) => mediaType !== LAYER_DELTA);
  if (strange !== undefined) {
    throw new VeneerError(
      'delta/unsupported',
      `Cannot use ${what}: it has a layer of type ${strange.mediaType}`,
    );
  }
  return {
    subject,
    config,
    targetManifest,
    targetConfig,
    layerDeltas: new Map(rest.map((layer) => [layer.digest, layer])),
    annotations: annotations ?? {},
  };
}

/** `manifest` is the one that names this config: every delta of a layer must be there. */
export function parseDeltaConfig(bytes: Uint8Array, manifest: DeltaManifest, what: string): DeltaConfig {
  const { source, sources, layers } = parseDocument(configSchema, bytes, MAX_CONFIG_BYTES, what);
  const lost = layers.find(({ delta }) => delta !== null && !manifest.layerDeltas.has(delta));
  if (lost !== undefined) {
    throw new VeneerError('oci/invalid', `Cannot use ${what}: the manifest has no blob ${lost.delta}`);
  }
  return { source, sources, layers };
}

export function encodeDeltaConfig(config: DeltaConfig): Buffer {
  return Buffer.from(
    `${JSON.stringify({
      version: 1,
      source: config.source,
      sources: config.sources,
      layers: config.layers.map(({ diffId, size, delta, compressor }) => ({
        diffId,
        size,
        ...(delta === null ? {} : { delta }),
        ...(compressor === null ? {} : { compressor }),
      })),
    })}\n`,
  );
}

type BlobRef = Pick<Descriptor, 'mediaType' | 'digest' | 'size'>;

/** `layerDeltas` in the order of the target's layers, each once. */
export function encodeDeltaManifest(parts: {
  readonly subject: BlobRef;
  readonly targetConfig: BlobRef;
  readonly config: Omit<BlobRef, 'mediaType'>;
  readonly source: string;
  readonly layerDeltas: readonly Omit<BlobRef, 'mediaType'>[];
}): Buffer {
  const { subject, targetConfig, config, source, layerDeltas } = parts;
  const of = (mediaType: string, { digest, size }: Omit<BlobRef, 'mediaType'>): JsonObject => ({
    mediaType,
    digest,
    size,
  });
  return encodeDocument(
    {
      schemaVersion: 2,
      mediaType: OCI_MANIFEST,
      artifactType: ARTIFACT_TYPE,
      config: of(DELTA_CONFIG, config),
      layers: [
        of(TARGET_MANIFEST, subject),
        of(TARGET_CONFIG, targetConfig),
        ...layerDeltas.map((delta) => of(LAYER_DELTA, delta)),
      ],
      subject: of(subject.mediaType, subject),
      annotations: { [SOURCE_ANNOTATION]: source },
    },
    MANIFEST,
  );
}
