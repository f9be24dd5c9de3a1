/**
 * A registry in memory that conforms to the distribution spec as far as artifacts need it, with the referrers API:
 * Debian's docker-registry has none.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import type { TestContext } from 'node:test';

export interface ReferrersRegistryOptions {
  /** Entries a page; default: all. */
  readonly pageSize?: number;
  /** Filters by artifactType (the spec leaves that open); default true. */
  readonly filters?: boolean;
  /** Looks at each request first; true: it has answered. */
  readonly onRequest?: (request: IncomingMessage, response: ServerResponse) => boolean | Promise<boolean>;
}

export interface ReferrersRegistry {
  /** `127.0.0.1:PORT` */
  readonly host: string;
  readonly blobs: Map<string, Buffer>;
  /** By digest and by tag. */
  readonly manifests: Map<string, { mediaType: string; bytes: Buffer }>;
  /** `METHOD /path?query`, in order. */
  readonly requests: string[];
}

const INDEX = 'application/vnd.oci.image.index.v1+json';
const sha256 = (bytes: Buffer): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

export async function startReferrersRegistry(
  t: TestContext,
  options: ReferrersRegistryOptions = {},
): Promise<ReferrersRegistry> {
  const registry = { host: '', blobs: new Map(), manifests: new Map(), requests: [] } as ReferrersRegistry & {
    host: string;
  };
  const server = createServer(async (request, response) => {
    registry.requests.push(`${request.method} ${request.url}`);
    if (await options.onRequest?.(request, response)) return;
    await answer(registry, options, request, response);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  registry.host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return registry;
}

async function answer(
  registry: ReferrersRegistry,
  options: ReferrersRegistryOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const url = new URL(request.url!, 'http://registry/');
  const body = await buffer(request);
  const reply = (status: number, headers: Record<string, string>, bytes: Buffer = Buffer.alloc(0)): void => {
    response.writeHead(status, { 'content-length': String(bytes.length), ...headers });
    response.end(request.method === 'HEAD' ? undefined : bytes);
  };
  const [, repository, kind, name] =
    /^\/v2\/(.+)\/(blobs|manifests|referrers)\/(.*)$/.exec(url.pathname) ?? [];
  if (url.pathname === '/v2/') return reply(200, {});
  if (repository === undefined || name === undefined) return reply(404, {});
  const base = `/v2/${repository}`;
  if (kind === 'blobs' && request.method === 'POST')
    return reply(202, { location: `${base}/blobs/uploads/one?state=x` });
  if (kind === 'blobs' && request.method === 'PUT') {
    const digest = url.searchParams.get('digest')!;
    if (sha256(body) !== digest) return reply(400, {});
    registry.blobs.set(digest, body);
    return reply(201, { location: `${base}/blobs/${digest}` });
  }
  if (kind === 'blobs') {
    const blob = registry.blobs.get(name);
    return blob === undefined ? reply(404, {}) : reply(200, {}, blob);
  }
  if (kind === 'manifests' && request.method === 'PUT') {
    const manifest = { mediaType: request.headers['content-type']!, bytes: body };
    registry.manifests.set(sha256(body), manifest);
    registry.manifests.set(name, manifest);
    const { subject } = JSON.parse(body.toString()) as { subject?: { digest: string } };
    return reply(201, subject === undefined ? {} : { 'oci-subject': subject.digest });
  }
  if (kind === 'manifests') {
    const manifest = registry.manifests.get(name);
    return manifest === undefined
      ? reply(404, {})
      : reply(200, { 'content-type': manifest.mediaType }, manifest.bytes);
  }
  listReferrers(registry, options, url, name, reply);
}

function listReferrers(
  registry: ReferrersRegistry,
  { pageSize = Infinity, filters = true }: ReferrersRegistryOptions,
  url: URL,
  subject: string,
  reply: (status: number, headers: Record<string, string>, bytes: Buffer) => void,
): void {
  const wanted = filters ? url.searchParams.get('artifactType') : null;
  const all = [...registry.manifests].flatMap(([digest, { mediaType, bytes }]) => {
    if (!digest.startsWith('sha256:')) return [];
    const manifest = JSON.parse(bytes.toString()) as {
      subject?: { digest: string };
      artifactType?: string;
      annotations?: Record<string, string>;
    };
    if (manifest.subject?.digest !== subject) return [];
    const { artifactType, annotations } = manifest;
    if (wanted !== null && artifactType !== wanted) return [];
    return [{ mediaType, digest, size: bytes.length, artifactType, annotations }];
  });
  const from = Number(url.searchParams.get('last') ?? 0);
  const manifests = all.slice(from, from + pageSize);
  const next = from + manifests.length;
  const query = new URLSearchParams({
    last: String(next),
    ...(wanted === null ? {} : { artifactType: wanted }),
  });
  reply(
    200,
    {
      'content-type': INDEX,
      ...(next < all.length ? { link: `<${url.pathname}?${query}>; rel="next"` } : {}),
      ...(wanted === null ? {} : { 'oci-filters-applied': 'artifactType' }),
    },
    Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: INDEX, manifests })),
  );
}
