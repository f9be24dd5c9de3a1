/** A registry as a source of images (OCI distribution spec). */
import { VeneerError } from '../errors.ts';
import type { Descriptor, LayerDescriptor } from '../oci/descriptor.ts';
import { digestOf, parseDigest } from '../oci/digest.ts';
import { MAX_MANIFEST_BYTES } from '../oci/json.ts';
import { guessMediaType } from '../oci/layout.ts';
import { isIndexType, isManifestType, isSchema1Type, MANIFEST_TYPES } from '../oci/media-type.ts';
import { formatReference, type Reference } from '../oci/reference.ts';
import {
  checkDocument,
  type ImageSource,
  isRetryable,
  type ReadDocument,
  readChecked,
  resolveImage,
  type TopDocument,
} from '../oci/source.ts';
import { streamBody } from './body.ts';
import type { RegistryClient } from './client.ts';
import { openClient, type RegistryOptions } from './options.ts';
import { listReferrers } from './referrers.ts';
import { UnavailableError, waitToRetry } from './retry.ts';
import { discardBody, type Reply } from './transport.ts';
import { showUrl } from './transport-errors.ts';

/** Connections one blob may take in all, however little each brings: a server must not keep us for ever. */
const MAX_CONNECTIONS = 200;

/** A source for `reference`. Does no input or output until it is asked for something. */
export function openRegistry(reference: Reference, options: RegistryOptions = {}): ImageSource {
  const name = formatReference(reference);
  const client = openClient(reference, options, { write: false });
  const { idleTimeout } = client.limits;

  const read: ReadDocument = async (descriptor, limit, what) => {
    const isManifest = isIndexType(descriptor.mediaType) || isManifestType(descriptor.mediaType);
    const path = `${isManifest ? 'manifests' : 'blobs'}/${descriptor.digest}`;
    const headers: Record<string, string> = isManifest ? { accept: descriptor.mediaType } : {};
    // No more than what the descriptor says is wanted, and that is within the limit.
    return (await client.fetchDocument(path, headers, Math.min(limit, descriptor.size), what)).bytes;
  };
  return {
    name,
    local: false,
    resolve: async (platform) => resolveImage(await readTop(client, reference, name), platform, read, name),
    openBlob: async (descriptor, offset) => streamBlob(client, descriptor, offset, name, idleTimeout),
    locateBlob: async () => null,
    referrers: {
      list: (digest, artifactType) => listReferrers(client, digest, artifactType),
      read: (descriptor) =>
        readChecked(read, descriptor, MAX_MANIFEST_BYTES, `the manifest ${descriptor.digest} of ${name}`),
    },
    close: async () => client.close(),
  };
}

/** The manifest or index that the reference names. A digest is checked; a tag is whatever the registry says. */
async function readTop(client: RegistryClient, reference: Reference, name: string): Promise<TopDocument> {
  const path = `manifests/${reference.digest ?? reference.tag}`;
  const headers = { accept: MANIFEST_TYPES.join(', ') };
  const { reply, bytes } = await client.fetchDocument(path, headers, MAX_MANIFEST_BYTES, name);
  const digest = reference.digest ?? digestOf(bytes);
  const descriptor: Descriptor = {
    mediaType: topMediaType(reply, bytes, name),
    digest,
    size: bytes.length,
    annotations: {},
  };
  checkDocument(bytes, descriptor, name);
  return { descriptor, bytes };
}

/** What Content-Type says when it is one of an image; some servers say only `application/json`. */
function topMediaType(reply: Reply, bytes: Buffer, name: string): string {
  const type = (reply.message.headers['content-type'] ?? '').split(';')[0]!.trim().toLowerCase();
  const isKnown = isIndexType(type) || isManifestType(type) || isSchema1Type(type);
  return isKnown ? type : guessMediaType(bytes, name);
}

/**
 * A blob's bytes from `offset` on. A cut, stalled or refused transfer goes on where it stopped; only when several tries
 * in a row bring nothing, the last error comes out.
 */
async function* streamBlob(
  client: RegistryClient,
  descriptor: Descriptor,
  offset: number,
  name: string,
  idleTimeout: number,
): AsyncGenerator<Buffer, void, void> {
  const { digest, size } = descriptor;
  parseDigest(digest);
  const what = `the blob ${digest} of ${name}`;
  let at = offset;
  let failures = 0;
  for (let connections = 1; at < size; connections++) {
    const before = at;
    try {
      const { reply, skip } = await requestBlob(client, descriptor, at, what);
      let left = skip;
      for await (const chunk of streamBody(reply, idleTimeout)) {
        const wanted = left >= chunk.length ? null : chunk.subarray(left);
        left = Math.max(0, left - chunk.length);
        if (wanted === null) continue;
        at += wanted.length;
        if (at > size)
          throw new VeneerError(
            'registry/protocol',
            `Cannot fetch ${what}: it goes on after its ${size} bytes`,
          );
        yield wanted;
      }
      if (at < size) throw new UnavailableError(`Cannot fetch ${what}: it ends at byte ${at} of ${size}`);
    } catch (error) {
      if (!isRetryable(error) || connections >= MAX_CONNECTIONS) throw error;
      failures = at > before ? 1 : failures + 1;
      await waitToRetry(client.retries, error, failures);
    }
  }
}

/** Asks for a blob from byte `at` on; `skip` is how many bytes of the body come before it. */
async function requestBlob(
  client: RegistryClient,
  descriptor: Descriptor,
  at: number,
  what: string,
): Promise<{ reply: Reply; skip: number }> {
  const path = `blobs/${descriptor.digest}`;
  if (at > 0) {
    const reply = await client.fetch(path, { range: `bytes=${at}-` }, what);
    if (reply.status === 206 && hasRange(reply, at, descriptor.size)) return { reply, skip: 0 };
    if (reply.status === 200) return whole(reply, descriptor, at, what);
    // A server that answers a range with another one, or with "no such range", may still have the blob as a whole.
    if (reply.status !== 206 && reply.status !== 416)
      throw await blobFailure(client, reply, descriptor, what);
    discardBody(reply.message);
  }
  const reply = await client.fetch(path, {}, what);
  if (reply.status !== 200) throw await blobFailure(client, reply, descriptor, what);
  return whole(reply, descriptor, at, what);
}

function whole(
  reply: Reply,
  descriptor: Descriptor,
  at: number,
  what: string,
): { reply: Reply; skip: number } {
  const length = reply.message.headers['content-length'];
  if (length !== undefined && Number(length) !== descriptor.size) {
    discardBody(reply.message);
    throw new VeneerError(
      'registry/protocol',
      `Cannot fetch ${what}: ${showUrl(reply.url)} announces ${length} bytes, its descriptor says ${descriptor.size}`,
    );
  }
  return { reply, skip: at };
}

/** Whether Content-Range starts where we asked and is of this blob (RFC 9110, section 14.4); it may end early. */
function hasRange(reply: Reply, at: number, size: number): boolean {
  const header = reply.message.headers['content-range'] ?? '';
  const match = /^bytes ([0-9]{1,16})-([0-9]{1,16})\/([0-9]{1,16}|\*)$/.exec(header);
  if (match === null) return false;
  const [, first, last, total] = match;
  return (
    Number(first) === at &&
    Number(last) >= at &&
    Number(last) < size &&
    (total === '*' || Number(total) === size)
  );
}

async function blobFailure(
  client: RegistryClient,
  reply: Reply,
  descriptor: Descriptor,
  what: string,
): Promise<VeneerError> {
  const error = await client.failure(reply, what);
  const { foreign } = descriptor as Partial<LayerDescriptor>;
  if (foreign !== true || error.code !== 'registry/not-found') return error;
  return new VeneerError(
    'registry/not-found',
    `Cannot fetch ${what}: it is a foreign layer, which this registry does not hold`,
    {
      hint: 'Its vendor distributes it; pull from a registry that has the layer itself.',
      cause: error,
    },
  );
}
