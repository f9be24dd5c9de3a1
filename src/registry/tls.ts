/** Whom to trust: the system's roots, the user's own, and docker's per-registry directories. */
import { readdir, readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { createSecureContext, getCACertificates, type SecureContext } from 'node:tls';
import { VeneerError } from '../errors.ts';

export interface TlsFiles {
  /** PEM text of extra authorities. */
  readonly ca?: string | Buffer | undefined;
  /** Directories with one folder a registry, as docker's `/etc/docker/certs.d`. */
  readonly certsDirs?: readonly string[] | undefined;
  readonly env: NodeJS.ProcessEnv;
}

const MAX_FILE = 4 << 20;
const MAX_FILES = 64;

/** Where docker and podman look for `HOST[:PORT]/*.crt`, `*.cert` and `*.key` (docker docs, "certificates"; containers-certs.d(5)). */
export function defaultCertsDirs(env: NodeJS.ProcessEnv): string[] {
  const config = env.XDG_CONFIG_HOME ?? join(env.HOME ?? homedir(), '.config');
  return [
    join(config, 'containers/certs.d'),
    join(config, 'docker/certs.d'),
    '/etc/containers/certs.d',
    '/etc/docker/certs.d',
  ];
}

/** Authorities for every host: SSL_CERT_FILE replaces the system's and Node's own, `ca` adds. */
export async function readRoots({ ca, env }: TlsFiles): Promise<(string | Buffer)[]> {
  const file = env.SSL_CERT_FILE;
  const roots: (string | Buffer)[] = file ? [await readPem(file)] : systemRoots();
  return ca === undefined ? roots : [...roots, ca];
}

/** TLS for the registry itself: `roots`, and what the certs.d directories have for `host`. */
export async function hostContext(
  host: string,
  roots: readonly (string | Buffer)[],
  files: TlsFiles,
): Promise<SecureContext> {
  const ca = [...roots];
  const cert: (string | Buffer)[] = [];
  const key: (string | Buffer)[] = [];
  for (const parent of files.certsDirs ?? defaultCertsDirs(files.env)) {
    const dir = join(parent, host);
    const names = await listFiles(dir);
    for (const name of names) {
      if (name.endsWith('.crt')) ca.push(await readPem(join(dir, name)));
      if (!name.endsWith('.cert')) continue;
      const keyName = name.replace(/\.cert$/, '.key');
      if (!names.includes(keyName)) {
        throw new VeneerError(
          'registry/tls',
          `Cannot use ${join(dir, name)}: there is no ${keyName} beside it`,
        );
      }
      cert.push(await readPem(join(dir, name)));
      key.push(await readPem(join(dir, keyName)));
    }
  }
  return makeContext({ ca, ...(cert.length === 0 ? {} : { cert, key }) }, host);
}

/** TLS for hosts that the registry sends us to: never its client certificates. */
export function awayContext(roots: readonly (string | Buffer)[]): SecureContext {
  return makeContext({ ca: [...roots] }, 'redirects');
}

function makeContext(options: Parameters<typeof createSecureContext>[0], host: string): SecureContext {
  try {
    return createSecureContext(options);
  } catch (cause) {
    throw new VeneerError(
      'registry/tls',
      `Cannot use the certificates for ${host}: ${(cause as Error).message}`,
      { cause },
    );
  }
}

function systemRoots(): string[] {
  return [...new Set([...getCACertificates('default'), ...getCACertificates('system')])];
}

async function listFiles(dir: string): Promise<string[]> {
  try {
    return (await readdir(dir)).sort().slice(0, MAX_FILES);
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'EACCES') return [];
    throw new VeneerError('registry/tls', `Cannot read ${dir}: ${message}`, { cause });
  }
}

async function readPem(path: string): Promise<Buffer> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    throw new VeneerError('registry/tls', `Cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
  if (bytes.length > MAX_FILE)
    throw new VeneerError('registry/tls', `Cannot use ${path}: larger than ${MAX_FILE} bytes`);
  return bytes;
}
