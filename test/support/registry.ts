/** Debian's docker-registry on loopback, and a small pusher. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, imageBlobs, type TestBlob, type TestImage } from './images.ts';
import { requireTool } from './require-tool.ts';

export interface RegistryOptions {
  /** Where blobs are kept; several registries may share one. Default: a folder of its own. */
  readonly storage?: string;
  readonly auth?:
    | { readonly kind: 'basic' }
    | { readonly kind: 'token'; readonly realm: string; readonly certificate: string };
  /** Paths of PEM files. */
  readonly tls?: { readonly certificate: string; readonly key: string };
}

export interface Registry {
  /** `127.0.0.1:PORT` */
  readonly host: string;
  readonly storage: string;
}

/** The one user of registries with basic authentication. */
export const USER = 'alice';
export const PASSWORD = 'open sesame';
/** bcrypt, the only kind docker-registry takes. */
const HTPASSWD = `${USER}:$2b$04$W7rUinTEG252Cw3Tz.uv7.LlN/GW7Dr4wA3iG3miGfZWC/yWq1tmG\n`;

/** What the registry calls itself to a token server, and whose tokens it takes. */
export const TOKEN_SERVICE = 'veneer-test-registry';
export const TOKEN_ISSUER = 'veneer-test-issuer';

const START_TIMEOUT = 20_000;

/** Starts a registry that ends with the test; null (and the test skipped) when docker-registry is missing. */
export async function startRegistry(t: TestContext, options: RegistryOptions = {}): Promise<Registry | null> {
  const program = requireTool(t, 'docker-registry');
  if (program === null) return null;
  const dir = await mkdtemp(join(tmpdir(), 'veneer-registry-'));
  const storage = options.storage ?? join(dir, 'storage');
  await writeFile(join(dir, 'htpasswd'), HTPASSWD);

  for (let attempt = 1; ; attempt++) {
    const port = await freePort();
    // JSON is YAML.
    await writeFile(join(dir, 'config.yml'), JSON.stringify(configOf(options, storage, dir, port)));
    const child = spawn(program, ['serve', join(dir, 'config.yml')], {
      env: {},
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let log = '';
    child.stdout.on('data', (chunk) => (log += chunk));
    child.stderr.on('data', (chunk) => (log += chunk));
    if (await isUp(child, port)) {
      t.after(async () => {
        await stop(child);
        await rm(dir, { recursive: true, force: true });
      });
      return { host: `127.0.0.1:${port}`, storage };
    }
    await stop(child);
    // The port may have been taken between the look and the start.
    if (attempt === 3) throw new Error(`docker-registry does not start: ${log}`);
  }
}

function configOf(options: RegistryOptions, storage: string, dir: string, port: number): object {
  const { auth, tls } = options;
  const authConfig =
    auth === undefined
      ? {}
      : auth.kind === 'basic'
        ? { auth: { htpasswd: { realm: 'veneer test', path: join(dir, 'htpasswd') } } }
        : {
            auth: {
              token: {
                realm: auth.realm,
                service: TOKEN_SERVICE,
                issuer: TOKEN_ISSUER,
                rootcertbundle: auth.certificate,
              },
            },
          };
  return {
    version: 0.1,
    log: { level: 'warn', accesslog: { disabled: true } },
    storage: { filesystem: { rootdirectory: storage } },
    http: {
      addr: `127.0.0.1:${port}`,
      ...(tls === undefined ? {} : { tls: { certificate: tls.certificate, key: tls.key } }),
    },
    ...authConfig,
  };
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

async function isUp(child: ChildProcess, port: number): Promise<boolean> {
  const end = Date.now() + START_TIMEOUT;
  while (Date.now() < end && child.exitCode === null) {
    const socket = connect(port, '127.0.0.1');
    const up = await new Promise<boolean>((resolve) => {
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    });
    socket.destroy();
    if (up) return true;
    await delay(50);
  }
  return false;
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'close');
  child.kill('SIGKILL');
  await ended;
}

/** Pushes an image to a registry with plain HTTP and no authentication, under tags or, without any, by digest only. */
export async function pushImage(
  registry: Registry,
  repository: string,
  image: TestImage,
  ...tags: string[]
): Promise<void> {
  for (const blob of imageBlobs(image).slice(1)) await pushBlob(registry, repository, blob);
  for (const tag of tags.length === 0 ? [image.manifest.digest] : tags) {
    await pushManifest(registry, repository, image.manifest, tag);
  }
}

export async function pushBlob(registry: Registry, repository: string, blob: TestBlob): Promise<void> {
  const start = await fetch(`http://${registry.host}/v2/${repository}/blobs/uploads/`, { method: 'POST' });
  await start.arrayBuffer();
  const location = new URL(start.headers.get('location')!, `http://${registry.host}/`);
  location.searchParams.set('digest', blob.digest);
  await expectCreated(
    await fetch(location, {
      method: 'PUT',
      headers: { 'content-type': 'application/octet-stream' },
      body: new Uint8Array(blob.bytes),
    }),
  );
}

export async function pushManifest(
  registry: Registry,
  repository: string,
  manifest: TestBlob,
  reference: string,
): Promise<void> {
  await expectCreated(
    await fetch(`http://${registry.host}/v2/${repository}/manifests/${reference}`, {
      method: 'PUT',
      headers: { 'content-type': describe(manifest).mediaType },
      body: new Uint8Array(manifest.bytes),
    }),
  );
}

async function expectCreated(response: Response): Promise<void> {
  const text = await response.text();
  if (response.status !== 201) throw new Error(`push: ${response.status} ${text}`);
}
