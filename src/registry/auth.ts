/** Answers to what a registry asks for: basic authentication, and bearer tokens (distribution spec, "token authentication"). */
import { performance } from 'node:perf_hooks';
import * as v from 'valibot';
import { VeneerError } from '../errors.ts';
import { type BodyLimits, readBody } from './body.ts';
import { type Challenge, parseChallenges } from './challenge.ts';
import type { Credentials } from './credentials.ts';
import { statusError } from './status.ts';
import type { Exchange, Reply, Transport } from './transport.ts';
import { showUrl } from './transport-errors.ts';

export interface AuthOptions {
  readonly transport: Transport;
  readonly limits: BodyLimits;
  /** The registry's base URL. */
  readonly base: URL;
  /** Registry as the user names it, for messages. */
  readonly domain: string;
  /** Looked up once, when first asked for. */
  readonly credentials: () => Promise<Credentials | null>;
}

interface Grant {
  /** Value of the Authorization header. */
  readonly header: string;
  /** `performance.now()` from which on it is not used any more. */
  readonly expires: number;
}

const MAX_TOKEN_ANSWER = 1 << 20;
const MAX_TOKEN = 64 << 10;
/** What the spec says holds when the server names no lifetime, seconds. */
const DEFAULT_LIFETIME = 60;
const CLIENT_ID = 'veneer';

const tokenSchema = v.object({
  token: v.nullish(v.string()),
  access_token: v.nullish(v.string()),
  expires_in: v.nullish(v.number()),
});

export class Authenticator {
  readonly #options: AuthOptions;
  readonly #grants = new Map<string, Grant>();
  readonly #renewing = new Map<string, Promise<Grant>>();
  #credentials: Promise<Credentials | null> | undefined;

  constructor(options: AuthOptions) {
    this.#options = options;
  }

  /** The Authorization header for `scope` if one is known and fresh. */
  current(scope: string): string | undefined {
    const grant = this.#grants.get(scope);
    if (grant === undefined) return undefined;
    if (performance.now() < grant.expires) return grant.header;
    this.#grants.delete(scope);
    return undefined;
  }

  /**
   * Gets a new header for `scope` after a 401 to a request that was sent with `refused`. Requests that fail together
   * share one renewal. Throws `registry/auth` when there is nothing (more) to offer.
   */
  async renew(
    scope: string,
    challengeHeader: string | undefined,
    refused: string | undefined,
  ): Promise<void> {
    const current = this.current(scope);
    if (current !== undefined && current !== refused) return;
    let renewal = this.#renewing.get(scope);
    if (renewal === undefined) {
      renewal = this.#obtain(scope, challengeHeader, refused).finally(() => this.#renewing.delete(scope));
      this.#renewing.set(scope, renewal);
    }
    this.#grants.set(scope, await renewal);
  }

  /** Hides the secrets in text that a server sent: some echo what they got. */
  async redact(text: string): Promise<string> {
    const secrets = [...this.#grants.values()].map(({ header }) => header.replace(/^\w+ /, ''));
    const credentials = await this.#credentials?.catch(() => null);
    if (credentials) secrets.push(credentials.kind === 'basic' ? credentials.password : credentials.token);
    return secrets.reduce(
      (left, secret) => (secret.length < 3 ? left : left.replaceAll(secret, '***')),
      text,
    );
  }

  async #obtain(
    scope: string,
    challengeHeader: string | undefined,
    refused: string | undefined,
  ): Promise<Grant> {
    const challenges = parseChallenges(challengeHeader ?? '');
    const bearer = challenges.find(({ scheme, params }) => scheme === 'bearer' && params.has('realm'));
    const credentials = await (this.#credentials ??= this.#options.credentials());
    if (credentials?.kind === 'registry-token')
      return this.#unlessRefused(`Bearer ${credentials.token}`, refused);
    if (bearer !== undefined) return this.#fetchToken(scope, bearer, credentials);
    if (!challenges.some(({ scheme }) => scheme === 'basic')) {
      throw this.#failure('it asks for no kind of authentication that we know');
    }
    if (credentials === null) throw this.#failure('it wants a user and a password, and none are stored');
    if (credentials.kind !== 'basic')
      throw this.#failure('it wants a user and a password, and a token is stored');
    return this.#unlessRefused(basicHeader(credentials.username, credentials.password), refused);
  }

  /** Credentials that never change are tried once. */
  #unlessRefused(header: string, refused: string | undefined): Grant {
    if (header === refused) throw this.#failure('the stored credentials are refused');
    return { header, expires: Number.POSITIVE_INFINITY };
  }

  async #fetchToken(scope: string, challenge: Challenge, credentials: Credentials | null): Promise<Grant> {
    const { transport, limits, base, domain } = this.#options;
    const realm = transport.checkTarget(challenge.params.get('realm')!, base);
    const service = challenge.params.get('service');
    const query = new URLSearchParams(service === undefined ? { scope } : { service, scope });
    let exchange: Exchange;
    if (credentials?.kind === 'identity-token') {
      query.set('grant_type', 'refresh_token');
      query.set('client_id', CLIENT_ID);
      query.set('refresh_token', credentials.token);
      const headers = { 'content-type': 'application/x-www-form-urlencoded' };
      exchange = { method: 'POST', headers, body: query.toString() };
    } else {
      for (const [name, value] of query) realm.searchParams.set(name, value);
      const authorization =
        credentials?.kind === 'basic' ? basicHeader(credentials.username, credentials.password) : undefined;
      exchange = { method: 'GET', headers: {}, authorization };
    }
    const reply = await transport.send(realm, exchange);
    const what = `a token for ${domain}`;
    if (reply.status === 401 || reply.status === 403) {
      reply.message.destroy();
      throw this.#failure(
        credentials === null
          ? 'its token server wants credentials, and none are stored'
          : 'its token server refuses the stored credentials',
      );
    }
    if (reply.status !== 200) throw await statusError(reply, what, (text) => this.redact(text));
    return this.#readGrant(await readBody(reply, MAX_TOKEN_ANSWER, limits, what), reply);
  }

  #readGrant(body: Buffer, reply: Reply): Grant {
    let answer: v.InferOutput<typeof tokenSchema> | undefined;
    try {
      const result = v.safeParse(tokenSchema, JSON.parse(body.toString('utf8')));
      if (result.success) answer = result.output;
    } catch {
      // Handled below; the cause would quote the answer, which may hold a token.
    }
    const token = answer?.token || answer?.access_token;
    if (!token || token.length > MAX_TOKEN || !/^[\x21-\x7e]+$/.test(token)) {
      throw new VeneerError(
        'registry/protocol',
        `Cannot log in to ${this.#options.domain}: ${showUrl(reply.url)} sends no usable token`,
      );
    }
    const seconds = Math.max(answer?.expires_in ?? DEFAULT_LIFETIME, DEFAULT_LIFETIME);
    // Renew a little early: the token has to last until the request arrives.
    return { header: `Bearer ${token}`, expires: performance.now() + seconds * 900 };
  }

  #failure(reason: string): VeneerError {
    const { domain } = this.#options;
    return new VeneerError('registry/auth', `Cannot log in to ${domain}: ${reason}`, {
      hint: `Log in with: docker login ${domain}`,
    });
  }
}

function basicHeader(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`, 'utf8').toString('base64')}`;
}
