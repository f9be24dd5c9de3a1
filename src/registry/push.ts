/** Pushes an artifact that refers to an image: its blobs, its manifest, and its entry where no API lists referrers. */
import { VeneerError } from '../errors.ts';
import { childDescriptors } from '../oci/children.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { MAX_MANIFEST_BYTES } from '../oci/json.ts';
import { OCI_INDEX } from '../oci/media-type.ts';
import type { Reference } from '../oci/reference.ts';
import { artifactFacts, fallbackTag } from '../oci/referrers.ts';
import { checkDocument } from '../oci/source.ts';
import type { OnProgress } from '../progress/events.ts';
import { readBody } from './body.ts';
import type { RegistryClient } from './client.ts';
import { openClient, type RegistryOptions } from './options.ts';
import { readFallback } from './referrers.ts';
import { withRetries } from './retry.ts';
import { discardBody, type StreamedBody } from './transport.ts';

/** Something to push: a manifest with a subject, and what gives its blobs. */
export interface Artifact {
  readonly descriptor: Descriptor;
  readonly bytes: Buffer;
  /** The bytes of a blob that the manifest names, from their beginning. */
  openBlob(descriptor: Descriptor): Promise<AsyncIterable<Buffer>>;
}

export interface PushedReferrer {
  readonly digest: string;
  /** The manifest that it refers to. */
  readonly subject: string;
  /** The tag that lists it, where the registry has no API for referrers; null where it has. */
  readonly tag: string | null;
  /** The manifest that it refers to is in the repository too. */
  readonly subjectThere: boolean;
  /** Blobs that were sent, and that were there already; bytes. */
  readonly sent: number;
  readonly there: number;
}

/**
 * Pushes into the repository of `reference`. Blobs go first and the manifest last, so a push that ends in between
 * leaves nothing that anybody would find. The subject itself need not be there.
 */
export async function pushReferrer(
  reference: Reference,
  artifact: Artifact,
  options: RegistryOptions & { readonly onProgress?: OnProgress } = {},
): Promise<PushedReferrer> {
  const { descriptor, bytes } = artifact;
  const what = `the manifest ${descriptor.digest}`;
  checkDocument(bytes, descriptor, what);
  const { subject, artifactType, annotations } = artifactFacts(bytes, what);
  if (subject === null)
    throw new VeneerError('oci/invalid', `Cannot push ${what}: it refers to no other manifest`);
  const client = openClient(reference, options, { write: true });
  try {
    const sums = { sent: 0, there: 0 };
    // An artifact may carry its subject as a blob of its own.
    const blobs = childDescriptors(bytes, what).filter(
      ({ digest, mediaType }) => digest !== subject.digest || mediaType !== subject.mediaType,
    );
    for (const blob of new Map(blobs.map((one) => [one.digest, one])).values()) {
      const id = blob.digest;
      options.onProgress?.({ type: 'start', id, what: `blob ${id.slice(7, 19)}`, total: blob.size });
      const sent = await pushBlob(client, artifact, blob);
      options.onProgress?.({ type: 'end', id, outcome: sent ? 'done' : 'exists' });
      sums[sent ? 'sent' : 'there'] += blob.size;
    }
    const reply = await pushManifest(client, descriptor.digest, descriptor.mediaType, bytes);
    // A registry that lists referrers says so (distribution spec, "Pushing Manifests with Subject").
    const tag = reply.subject === subject.digest ? null : fallbackTag(subject.digest);
    if (tag !== null)
      await listUnderTag(client, tag, subject.digest, { ...descriptor, artifactType, annotations });
    const subjectThere = await hasManifest(client, subject);
    return { digest: descriptor.digest, subject: subject.digest, tag, subjectThere, ...sums };
  } finally {
    client.close();
  }
}

/** False when the registry has it already. */
async function pushBlob(client: RegistryClient, artifact: Artifact, blob: Descriptor): Promise<boolean> {
  const what = `the blob ${blob.digest}`;
  const body: StreamedBody = { size: blob.size, open: () => artifact.openBlob(blob) };
  return withRetries(client.retries, async () => {
    const head = await client.send(`blobs/${blob.digest}`, { method: 'HEAD', headers: {} }, what);
    discardBody(head.message);
    if (head.status === 200) return false;
    const start = await client.send('blobs/uploads/', { method: 'POST', headers: {} }, what);
    const { location } = start.message.headers;
    if (start.status !== 202) throw await client.failure(start, what, 'push');
    discardBody(start.message);
    if (location === undefined)
      throw new VeneerError('registry/protocol', `Cannot push ${what}: the registry does not say where to`);
    const url = client.follow(start, location);
    url.searchParams.set('digest', blob.digest);
    const headers = { 'content-type': 'application/octet-stream' };
    const end = await client.send(url, { method: 'PUT', headers, body }, what);
    if (end.status !== 201) throw await client.failure(end, what, 'push');
    discardBody(end.message);
    return true;
  });
}

async function hasManifest(client: RegistryClient, { digest, mediaType }: Descriptor): Promise<boolean> {
  const what = `the manifest ${digest}`;
  return withRetries(client.retries, async () => {
    const exchange = { method: 'HEAD', headers: { accept: mediaType } } as const;
    const reply = await client.send(`manifests/${digest}`, exchange, what);
    discardBody(reply.message);
    return reply.status === 200;
  });
}

async function pushManifest(
  client: RegistryClient,
  name: string,
  mediaType: string,
  bytes: Buffer,
): Promise<{ subject: string | undefined }> {
  const what = `the manifest ${name}`;
  const headers = { 'content-type': mediaType };
  return withRetries(client.retries, async () => {
    const reply = await client.send(`manifests/${name}`, { method: 'PUT', headers, body: bytes }, what);
    if (reply.status !== 201) throw await client.failure(reply, what, 'push');
    await readBody(reply, MAX_MANIFEST_BYTES, client.limits, what);
    const subject = reply.message.headers['oci-subject'];
    return { subject: typeof subject === 'string' ? subject : undefined };
  });
}

/** Adds an entry to the list that stands under the fallback tag. Two who do so at once may lose one: the spec knows no better. */
async function listUnderTag(
  client: RegistryClient,
  tag: string,
  subject: string,
  entry: Descriptor & { artifactType: string },
): Promise<void> {
  const listed = await readFallback(client, subject);
  if (listed.some(({ digest }) => digest === entry.digest)) return;
  const manifests = [...listed, entry].map(({ mediaType, digest, size, annotations, artifactType }) => ({
    mediaType,
    digest,
    size,
    ...(artifactType === undefined ? {} : { artifactType }),
    ...(Object.keys(annotations).length === 0 ? {} : { annotations }),
  }));
  const index = { schemaVersion: 2, mediaType: OCI_INDEX, manifests };
  await pushManifest(client, tag, OCI_INDEX, Buffer.from(JSON.stringify(index)));
}
