/** Image configs (OCI image spec, config.md; docker's container image v1): what mounting needs of them. */
import * as v from 'valibot';
import { digestSchema } from './descriptor.ts';
import { MAX_CONFIG_BYTES, MAX_LAYERS, parseDocument } from './json.ts';
import { normalizePlatform, type Platform } from './platform.ts';

export interface ImageConfig {
  readonly platform: Platform;
  /** RFC 3339 text as the config has it. */
  readonly created?: string;
  /** Digests of the uncompressed layer tars, bottom first. */
  readonly diffIds: readonly string[];
}

const configSchema = v.object({
  os: v.optional(v.string(), ''),
  architecture: v.optional(v.string(), ''),
  variant: v.nullish(v.string()),
  created: v.nullish(v.string()),
  rootfs: v.object({
    type: v.literal('layers'),
    diff_ids: v.nullish(
      v.pipe(v.array(digestSchema), v.maxLength(MAX_LAYERS, `more than ${MAX_LAYERS} layers`)),
    ),
  }),
});

/** Parses an image config; `what` names it in messages. Throws `oci/invalid` or `oci/limit`. */
export function parseImageConfig(bytes: Uint8Array, what: string): ImageConfig {
  const value = parseDocument(configSchema, bytes, MAX_CONFIG_BYTES, what);
  return {
    platform: normalizePlatform(value.os, value.architecture, value.variant ?? ''),
    ...(value.created ? { created: value.created } : {}),
    diffIds: value.rootfs.diff_ids ?? [],
  };
}
