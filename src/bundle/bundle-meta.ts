/** umoci.json: what a bundle was made from and how, for `repack` (umoci's version 2 of it). */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as v from 'valibot';
import { VeneerError } from '../errors.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { DESCRIPTOR, encode, type JsonObject } from '../oci/encode-json.ts';
import { parseDocument } from '../oci/json.ts';
import type { IdMap } from '../rootfs/id-map.ts';
import type { OwnerMaps } from '../rootfs/owners.ts';
import { putFile } from './whole-file.ts';

export const META_NAME = 'umoci.json';
const VERSION = '2';
const MAX_BYTES = 4 << 20;

export interface BundleMeta {
  /** From the entry of index.json to the manifest; one and the same where no index is between. */
  readonly steps: readonly JsonObject[];
  readonly maps: OwnerMaps;
}

const mapSchema = v.nullish(
  v.array(
    v.object({
      containerID: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
      hostID: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
      size: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
    }),
  ),
);
const schema = v.looseObject({
  umoci_version: v.string(),
  from_descriptor_path: v.looseObject({
    descriptor_walk: v.pipe(
      v.array(v.looseObject({ mediaType: v.string(), digest: v.string(), size: v.number() })),
      v.minLength(1),
    ),
  }),
  map_options: v.looseObject({
    uid_mappings: mapSchema,
    gid_mappings: mapSchema,
    rootless: v.nullish(v.boolean()),
  }),
  whiteout_mode: v.nullish(v.number()),
});

export function writeMeta(bundle: string, meta: BundleMeta): Promise<void> {
  return putFile(join(bundle, META_NAME), encodeMeta(meta));
}

function encodeMeta({ steps, maps }: BundleMeta): string {
  const idMaps = (list: readonly IdMap[]): string =>
    list.length === 0
      ? 'null'
      : `[${list.map(({ container, host, size }) => `{"containerID":${container},"hostID":${host},"size":${size}}`)}]`;
  const walk = steps.map((step) => encode(step, DESCRIPTOR)).join(',');
  const options = `{"uid_mappings":${idMaps(maps.uidMaps)},"gid_mappings":${idMaps(maps.gidMaps)},"rootless":${maps.rootless}}`;
  return `{"umoci_version":"${VERSION}","from_descriptor_path":{"descriptor_walk":[${walk}]},"map_options":${options}}\n`;
}

/** Throws `oci/not-found` when there is none, `oci/invalid`, `oci/unsupported` for another version. */
export function readMeta(bundle: string): BundleMeta {
  const path = join(bundle, META_NAME);
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (cause) {
    throw new VeneerError('oci/not-found', `Cannot use the bundle ${bundle}: it has no ${META_NAME}`, {
      cause,
      hint: 'make one with "veneer image unpack"',
    });
  }
  const document = parseDocument(schema, bytes, MAX_BYTES, path);
  if (document.umoci_version !== VERSION || document.whiteout_mode) {
    throw new VeneerError(
      'oci/unsupported',
      `Cannot use the bundle ${bundle}: unsupported ${META_NAME} version ${JSON.stringify(document.umoci_version)}`,
    );
  }
  const { uid_mappings, gid_mappings, rootless } = document.map_options;
  const idMaps = (list: typeof uid_mappings): IdMap[] =>
    (list ?? []).map(({ containerID, hostID, size }) => ({ container: containerID, host: hostID, size }));
  return {
    steps: document.from_descriptor_path.descriptor_walk as unknown as readonly JsonObject[],
    maps: { uidMaps: idMaps(uid_mappings), gidMaps: idMaps(gid_mappings), rootless: rootless === true },
  };
}

/** The name of the mtree file beside umoci.json. */
export function mtreeName(manifest: Pick<Descriptor, 'digest'>): string {
  return `${manifest.digest.replace(':', '_')}.mtree`;
}
