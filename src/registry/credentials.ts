/**
 * Credentials that docker and podman have stored: docker's config.json (auths, credsStore, credHelpers) and podman's
 * auth.json (containers-auth.json(5)). No message ever holds a value of these files.
 */
import { readFile, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import * as v from 'valibot';
import { VeneerError } from '../errors.ts';
import { askHelper } from './credential-helper.ts';

export type Credentials =
  | { readonly kind: 'basic'; readonly username: string; readonly password: string }
  /** An OAuth2 refresh token, for the token server only. */
  | { readonly kind: 'identity-token'; readonly token: string }
  /** A bearer token for the registry itself. */
  | { readonly kind: 'registry-token'; readonly token: string };

export interface CredentialSearch {
  readonly env: NodeJS.ProcessEnv;
  /** Milliseconds a credential helper may take. */
  readonly helperTimeout: number;
}

const MAX_FILE = 4 << 20;
/** The key docker uses for Docker Hub since its first version. */
const HUB_KEY = 'https://index.docker.io/v1/';

const text = v.nullish(v.string());
const authSchema = v.object({
  auth: text,
  username: text,
  password: text,
  identitytoken: text,
  registrytoken: text,
});
const fileSchema = v.object({
  auths: v.nullish(v.record(v.string(), v.nullish(authSchema))),
  credsStore: text,
  credHelpers: v.nullish(v.record(v.string(), v.string())),
});

type Auth = v.InferOutput<typeof authSchema>;
type CredentialFile = v.InferOutput<typeof fileSchema>;

/** The files that are looked into, first to last: podman's own, then docker's. */
export function credentialFiles(env: NodeJS.ProcessEnv): string[] {
  const home = env.HOME ?? homedir();
  const files: string[] = [];
  if (env.REGISTRY_AUTH_FILE) files.push(env.REGISTRY_AUTH_FILE);
  if (env.XDG_RUNTIME_DIR) files.push(join(env.XDG_RUNTIME_DIR, 'containers/auth.json'));
  files.push(join(env.XDG_CONFIG_HOME ?? join(home, '.config'), 'containers/auth.json'));
  files.push(join(env.DOCKER_CONFIG ?? join(home, '.docker'), 'config.json'));
  return files;
}

/** What is stored for a repository (`domain` as in a reference, `docker.io`), or null. Throws `registry/credentials`. */
export async function findCredentials(
  domain: string,
  repository: string,
  search: CredentialSearch,
): Promise<Credentials | null> {
  for (const path of credentialFiles(search.env)) {
    const file = await readCredentialFile(path);
    if (file === null) continue;
    const found = await lookUp(file, path, domain, repository, search);
    if (found !== null) return found;
  }
  return null;
}

async function lookUp(
  file: CredentialFile,
  path: string,
  domain: string,
  repository: string,
  search: CredentialSearch,
): Promise<Credentials | null> {
  const keys = lookupKeys(domain, repository);
  const helpers = new Map(Object.entries(file.credHelpers ?? {}));
  const helperKey = keys.find((key) => helpers.has(key));
  const helper = helperKey === undefined ? file.credsStore : helpers.get(helperKey);
  if (helper) {
    const server = helperKey ?? (domain === 'docker.io' ? HUB_KEY : domain);
    const answer = await askHelper(helper, server, search);
    if (answer !== null) {
      const { username, secret } = answer;
      return username === '<token>'
        ? { kind: 'identity-token', token: secret }
        : { kind: 'basic', username, password: secret };
    }
  }
  const auths = new Map<string, Auth>();
  for (const [key, auth] of Object.entries(file.auths ?? {})) {
    if (auth && !auths.has(bareKey(key))) auths.set(bareKey(key), auth);
  }
  for (const key of keys) {
    const auth = auths.get(bareKey(key));
    const credentials = auth === undefined ? null : readAuth(auth, path);
    if (credentials !== null) return credentials;
  }
  return null;
}

/** Most specific first: `host/a/b`, `host/a`, `host`; Docker Hub goes by several names. */
function lookupKeys(domain: string, repository: string): string[] {
  const keys: string[] = [];
  const parts = [domain, ...repository.split('/')];
  for (let length = parts.length; length > 0; length--) keys.push(parts.slice(0, length).join('/'));
  if (domain === 'docker.io') keys.push(HUB_KEY, 'index.docker.io', 'registry-1.docker.io');
  return keys;
}

/** Old clients stored URLs: `https://host/v1/` is the host. */
function bareKey(key: string): string {
  return key
    .replace(/^https?:\/\//, '')
    .replace(/\/v[12]\/?$/, '')
    .replace(/\/+$/, '');
}

function readAuth(auth: Auth, path: string): Credentials | null {
  if (auth.identitytoken) return { kind: 'identity-token', token: auth.identitytoken };
  // It goes into a header as it is.
  if (auth.registrytoken && !/^[\x21-\x7e]+$/.test(auth.registrytoken))
    throw badFile(path, 'a "registrytoken" in it has characters that no token has');
  if (auth.registrytoken) return { kind: 'registry-token', token: auth.registrytoken };
  if (auth.username && auth.password)
    return { kind: 'basic', username: auth.username, password: auth.password };
  if (!auth.auth) return null;
  const decoded = Buffer.from(auth.auth, 'base64').toString('utf8');
  const colon = decoded.indexOf(':');
  if (colon <= 0) throw badFile(path, 'an "auth" in it is not the base64 of USER:PASSWORD');
  // Docker pads the decoded text with NULs.
  return {
    kind: 'basic',
    username: decoded.slice(0, colon),
    password: decoded.slice(colon + 1).replace(/\0+$/, ''),
  };
}

async function readCredentialFile(path: string): Promise<CredentialFile | null> {
  let content: string;
  try {
    const stats = await stat(path);
    // `REGISTRY_AUTH_FILE=/dev/null` is a common way to say "none".
    if (!stats.isFile()) return null;
    if (stats.size > MAX_FILE) throw badFile(path, `it is larger than ${MAX_FILE} bytes`);
    content = await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof VeneerError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return null;
    throw badFile(path, code === 'EACCES' ? 'permission denied' : (code ?? 'it cannot be read'));
  }
  if (content.trim() === '') return null;
  let value: unknown;
  try {
    value = JSON.parse(content);
  } catch {
    // No cause: V8's message quotes the text, and the text is secrets.
    throw badFile(path, 'it is not JSON');
  }
  const result = v.safeParse(fileSchema, value);
  if (!result.success)
    throw badFile(path, 'its auths, credsStore or credHelpers are not as docker writes them');
  return result.output;
}

function badFile(path: string, reason: string): VeneerError {
  return new VeneerError('registry/credentials', `Cannot use the credentials in ${path}: ${reason}`, {
    hint: 'Repair or remove the file, or point DOCKER_CONFIG or REGISTRY_AUTH_FILE at another.',
  });
}
