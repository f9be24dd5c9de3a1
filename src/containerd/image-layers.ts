/**
 * The other layers of a blob's image. containerd unpacks layer by layer and tells the differ of one at a time; its
 * content store knows which manifest holds the blob, by the labels that keep blobs from its own garbage collector.
 */
import { VeneerError } from '../errors.ts';
import { digestOf } from '../oci/digest.ts';
import { MAX_MANIFEST_BYTES } from '../oci/json.ts';
import { parseManifest } from '../oci/manifest.ts';
import { DOCKER_MANIFEST, OCI_MANIFEST } from '../oci/media-type.ts';
import type { BlobRef } from '../store/records.ts';
import { readBlobBytes } from './content-client.ts';
import { Content, type Info } from './gen/content_pb.ts';
import type { CallContext, RpcClient } from './rpc-client.ts';

/** containerd's label on a manifest: its n-th layer. */
const LAYER_LABEL = 'containerd.io/gc.ref.content.l.';
/** Base images seldom have more layers, and containerd compares each filter with each blob. */
const LOOKED_AT = 32;

/**
 * The layers of the image that has the blob as one of its lowest {@link LOOKED_AT} layers, bottom first: of the latest
 * one, when there are several. Empty when containerd does not tell. Whether their blobs are there yet is another question.
 */
export async function layersBeside(
  client: RpcClient,
  digest: string,
  call: CallContext,
): Promise<readonly BlobRef[]> {
  const filters = Array.from({ length: LOOKED_AT }, (_, i) => `labels."${LAYER_LABEL}${i}"==${digest}`);
  let latest: Info | null = null;
  for await (const { info } of client.read(Content.method.list, { filters }, call)) {
    for (const manifest of info) if (latest === null || isLater(manifest, latest)) latest = manifest;
  }
  return latest === null ? [] : layersOf(client, latest, call);
}

/** The layers that a blob names, bottom first; empty when it is no manifest. */
export async function layersOf(
  client: RpcClient,
  { digest, size }: Pick<Info, 'digest' | 'size'>,
  call: CallContext,
): Promise<readonly BlobRef[]> {
  if (size > BigInt(MAX_MANIFEST_BYTES)) return [];
  return parseLayers(await readWhole(client, digest, call), digest);
}

function isLater({ createdAt: a }: Info, { createdAt: b }: Info): boolean {
  if (a === undefined || b === undefined) return false;
  return a.seconds > b.seconds || (a.seconds === b.seconds && a.nanos > b.nanos);
}

async function readWhole(client: RpcClient, digest: string, call: CallContext): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of readBlobBytes(client, digest, call)) {
    bytes += piece.length;
    if (bytes > MAX_MANIFEST_BYTES) break;
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

function parseLayers(bytes: Buffer, digest: string): readonly BlobRef[] {
  if (digestOf(bytes) !== digest) return [];
  for (const type of [OCI_MANIFEST, DOCKER_MANIFEST]) {
    try {
      return parseManifest(bytes, type, `manifest ${digest}`).layers;
    } catch (error) {
      if (!(error instanceof VeneerError)) throw error;
    }
  }
  return [];
}
