/** Content descriptors (OCI image spec, descriptor.md) and the media types that matter here. */
import * as v from 'valibot';
import { isDigest } from './digest.ts';
import type { Compression } from './media-type.ts';
import { normalizePlatform, type Platform } from './platform.ts';

/** What a manifest says about a blob. */
export interface Descriptor {
  readonly mediaType: string;
  /** `sha256:…` or `sha512:…`, syntax checked. */
  readonly digest: string;
  /** Bytes, a safe integer. */
  readonly size: number;
  readonly annotations: Readonly<Record<string, string>>;
  /** Entries of an index only. */
  readonly platform?: Platform;
  /** Entries of a list of referrers only: what kind of artifact it is. */
  readonly artifactType?: string;
}

/** A layer of a manifest. */
export interface LayerDescriptor extends Descriptor {
  /** What the media type says; 'unknown' means look at the magic. */
  readonly compression: Compression;
  /** Registries may lack the blob (OCI "nondistributable", docker "foreign"). */
  readonly foreign: boolean;
}

const mediaType = v.pipe(v.string(), v.regex(/^[\x21-\x7e]{1,255}$/, 'not a media type'));

/** `sha256:…` or `sha512:…` */
export const digestSchema = v.pipe(v.string(), v.check(isDigest, 'not sha256:<64 hex> or sha512:<128 hex>'));

const platformSchema = v.pipe(
  v.object({
    os: v.optional(v.string(), ''),
    architecture: v.optional(v.string(), ''),
    variant: v.nullish(v.string()),
  }),
  v.transform((value): Platform => normalizePlatform(value.os, value.architecture, value.variant ?? '')),
);

/** A descriptor; fields that are not named here are dropped, as the spec asks. Go writes `null` for empty maps. */
export const descriptorSchema = v.pipe(
  v.object({
    mediaType,
    digest: digestSchema,
    size: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
    annotations: v.nullish(v.record(v.string(), v.string())),
    platform: v.nullish(platformSchema),
    artifactType: v.nullish(v.string()),
  }),
  v.transform(({ mediaType, digest, size, annotations, platform, artifactType }): Descriptor => {
    return {
      mediaType,
      digest,
      size,
      annotations: annotations ?? {},
      ...(platform ? { platform } : {}),
      ...(artifactType ? { artifactType } : {}),
    };
  }),
);
