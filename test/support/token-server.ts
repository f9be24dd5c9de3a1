/** A token server as docker-registry trusts it: signed JWTs for those who may pull. */
import { randomUUID, sign, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage } from 'node:http';
import type { TestContext } from 'node:test';
import { PASSWORD, TOKEN_ISSUER, TOKEN_SERVICE, USER } from './registry.ts';

export interface TokenServerOptions {
  /** Paths of PEM files; the certificate is the registry's root as well. */
  readonly certificate: string;
  readonly key: string;
  /** Seconds a token is good for. */
  readonly lifetime?: number;
}

export interface TokenServer {
  readonly realm: string;
  /** Every request so far: method, query or form, and the Authorization header. */
  readonly seen: {
    readonly method: string;
    readonly query: URLSearchParams;
    readonly authorization: string | undefined;
  }[];
  /** Who may pull: with the password of {@link USER}, with {@link IDENTITY_TOKEN}, or everybody. */
  anonymous: boolean;
  /** Seconds the tokens say they are good for, if not their true lifetime. */
  claimedLifetime: number | undefined;
  /** Seconds the tokens are really good for. */
  lifetime: number;
}

export const IDENTITY_TOKEN = 'an-identity-token';

export async function startTokenServer(t: TestContext, options: TokenServerOptions): Promise<TokenServer> {
  const x5c = [new X509Certificate(readFileSync(options.certificate)).raw.toString('base64')];
  const key = readFileSync(options.key);
  const server = createServer(async (incoming, outgoing) => {
    const url = new URL(incoming.url ?? '/', 'http://token');
    const query =
      incoming.method === 'POST' ? new URLSearchParams(await readText(incoming)) : url.searchParams;
    const { authorization } = incoming.headers;
    state.seen.push({ method: incoming.method ?? '', query, authorization });
    const basic = `Basic ${Buffer.from(`${USER}:${PASSWORD}`).toString('base64')}`;
    const allowed =
      state.anonymous || authorization === basic || query.get('refresh_token') === IDENTITY_TOKEN;
    if (!allowed) {
      outgoing.writeHead(401, { 'content-type': 'application/json' });
      outgoing.end(JSON.stringify({ errors: [{ code: 'UNAUTHORIZED', message: `no: ${authorization}` }] }));
      return;
    }
    const token = makeToken({ scope: query.get('scope') ?? '', x5c, key, lifetime: state.lifetime });
    const name = incoming.method === 'POST' ? 'access_token' : 'token';
    outgoing.writeHead(200, { 'content-type': 'application/json' });
    outgoing.end(JSON.stringify({ [name]: token, expires_in: state.claimedLifetime ?? state.lifetime }));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as { port: number };
  const state: TokenServer = {
    realm: `http://127.0.0.1:${port}/token`,
    seen: [],
    anonymous: false,
    claimedLifetime: undefined,
    lifetime: options.lifetime ?? 300,
  };
  return state;
}

function makeToken(input: { scope: string; x5c: string[]; key: Buffer; lifetime: number }): string {
  const [type, name, actions] = input.scope.split(':');
  const now = Math.floor(Date.now() / 1000);
  const claims = {
    iss: TOKEN_ISSUER,
    sub: USER,
    aud: TOKEN_SERVICE,
    exp: now + input.lifetime,
    nbf: now - 10,
    iat: now,
    jti: randomUUID(),
    access: [{ type, name, actions: actions?.split(',') }],
  };
  const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const text = `${encode({ typ: 'JWT', alg: 'ES256', x5c: input.x5c })}.${encode(claims)}`;
  const signature = sign('sha256', Buffer.from(text), { key: input.key, dsaEncoding: 'ieee-p1363' });
  return `${text}.${signature.toString('base64url')}`;
}

async function readText(incoming: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of incoming) text += chunk;
  return text;
}
