/** Requests to one repository of a registry: base URL, authentication, retries. */
import { VeneerError } from '../errors.ts';
import type { Reference } from '../oci/reference.ts';
import { reachOfHost } from './addresses.ts';
import { Authenticator } from './auth.ts';
import { type BodyLimits, readBody } from './body.ts';
import { type Credentials, findCredentials } from './credentials.ts';
import { type RetryContext, type RetryPolicy, UnavailableError, withRetries } from './retry.ts';
import { statusError } from './status.ts';
import { discardBody, type Exchange, type Reply, Transport } from './transport.ts';

export interface ClientOptions {
  readonly reference: Reference;
  readonly insecure: boolean;
  /** Ask for the right to push too. */
  readonly write: boolean;
  readonly ca: string | Buffer | undefined;
  readonly certsDirs: readonly string[] | undefined;
  /** Undefined: search the files of docker and podman. Null: none. */
  readonly credentials: Credentials | null | undefined;
  readonly env: NodeJS.ProcessEnv;
  readonly timeouts: Timeouts;
  readonly retry: RetryPolicy;
  readonly onRetry: RetryContext['onRetry'];
}

/** Milliseconds, all of them. */
export interface Timeouts extends BodyLimits {
  readonly requestTimeout: number;
  readonly helperTimeout: number;
}

/** Docker Hub's registry has another name than Docker Hub. */
const HOSTS: ReadonlyMap<string, string> = new Map([['docker.io', 'registry-1.docker.io']]);

export class RegistryClient {
  readonly #options: ClientOptions;
  readonly #host: string;
  readonly #scope: string;
  readonly #transport: Transport;
  readonly #closing = new AbortController();
  readonly retries: RetryContext;
  #session: Promise<Session> | undefined;

  constructor(options: ClientOptions) {
    const { reference, insecure, ca, certsDirs, env, timeouts, retry, onRetry } = options;
    this.#options = options;
    this.#host = HOSTS.get(reference.domain) ?? reference.domain;
    this.#scope = `repository:${reference.repository}:${options.write ? 'pull,push' : 'pull'}`;
    this.retries = { policy: retry, signal: this.#closing.signal, onRetry };
    this.#transport = new Transport({
      domain: reference.domain,
      host: this.#host,
      insecure,
      ca,
      certsDirs,
      env,
      requestTimeout: timeouts.requestTimeout,
      signal: this.#closing.signal,
    });
  }

  /** A whole small document with its reply, retried as long as that makes sense; `path` is below the repository. */
  fetchDocument(
    path: string,
    headers: Readonly<Record<string, string>>,
    limit: number,
    what: string,
  ): Promise<{ reply: Reply; bytes: Buffer }> {
    return withRetries(this.retries, async () => {
      const reply = await this.fetch(path, headers, what);
      if (reply.status !== 200) throw await this.failure(reply, what);
      return { reply, bytes: await readBody(reply, limit, this.#options.timeouts, what) };
    });
  }

  get limits(): BodyLimits {
    return this.#options.timeouts;
  }

  /** One request below the repository, with authentication but without retries of its own. Any status but 401 comes back. */
  fetch(path: string, headers: Readonly<Record<string, string>>, what: string): Promise<Reply> {
    return this.send(path, { method: 'GET', headers }, what);
  }

  /** As {@link fetch}, of any kind. A URL instead of a path is where a reply of the registry led to. */
  async send(to: string | URL, exchange: Exchange, what: string): Promise<Reply> {
    const { base, auth } = await this.#connect();
    const url = typeof to === 'string' ? new URL(`${this.#options.reference.repository}/${to}`, base) : to;
    for (let renewed = false; ; renewed = true) {
      const authorization = auth.current(this.#scope);
      const sent = this.#transport.isHome(url) ? { ...exchange, authorization } : exchange;
      const reply = await this.#transport.send(url, sent);
      if (reply.status !== 401 || renewed || !this.#transport.isHome(reply.url)) return reply;
      const challenge = reply.message.headers['www-authenticate'];
      if (challenge === undefined) throw await this.failure(reply, what);
      discardBody(reply.message);
      await auth.renew(this.#scope, challenge, authorization);
    }
  }

  /** Where a reply's Location leads, or `registry/refused`. */
  follow(reply: Reply, location: string): URL {
    return this.#transport.checkTarget(location, reply.url);
  }

  /** The error that a reply stands for. */
  async failure(reply: Reply, what: string, verb: 'fetch' | 'push' = 'fetch'): Promise<VeneerError> {
    const session = await this.#connect();
    return statusError(reply, what, (text) => session.auth.redact(text), verb);
  }

  close(): void {
    this.#closing.abort();
    this.#transport.close();
  }

  /** Finds out once how the registry is reached and what it asks for; a failure is forgotten, so that a retry asks again. */
  #connect(): Promise<Session> {
    this.#session ??= this.#ping().catch((error: unknown) => {
      this.#session = undefined;
      // Nothing listens there, as far as we ever saw: most likely a wrong name, and waiting would only delay saying so.
      if (error instanceof UnavailableError && error.refused) {
        throw new VeneerError(error.code, error.message, { cause: error.cause });
      }
      throw error;
    });
    return this.#session;
  }

  async #ping(): Promise<Session> {
    const { insecure, reference, timeouts } = this.#options;
    const secure = new URL(`https://${this.#host}/v2/`);
    const plain = new URL(`http://${this.#host}/v2/`);
    let base = secure;
    let reply: Reply;
    try {
      reply = await this.#transport.send(secure, { method: 'GET', headers: {} });
    } catch (error) {
      const mayBePlain = insecure || reachOfHost(plain.hostname) === 'loopback';
      if (!mayBePlain || !speaksNoTls(error)) throw error;
      base = plain;
      reply = await this.#transport.send(plain, { method: 'GET', headers: {} });
    }
    const auth = new Authenticator({
      transport: this.#transport,
      limits: timeouts,
      base,
      domain: reference.domain,
      credentials: () => this.#findCredentials(),
    });
    const { status, message } = reply;
    // Only the registry itself may ask for credentials, not where it sends us.
    if (status === 401 && this.#transport.isHome(reply.url)) {
      discardBody(message);
      await auth.renew(this.#scope, message.headers['www-authenticate'], undefined);
    } else if (status === 200 || status === 403) {
      discardBody(message);
    } else if (status === 404) {
      discardBody(message);
      throw new VeneerError('registry/protocol', `Cannot use ${this.#host} as a registry: it has no /v2/`);
    } else {
      throw await statusError(reply, `/v2/ of ${this.#host}`, (text) => auth.redact(text));
    }
    return { base, auth };
  }

  async #findCredentials(): Promise<Credentials | null> {
    const { credentials, reference, env, timeouts } = this.#options;
    if (credentials !== undefined) return credentials;
    return findCredentials(reference.domain, reference.repository, {
      env,
      helperTimeout: timeouts.helperTimeout,
    });
  }
}

interface Session {
  /** `https://HOST/v2/` */
  readonly base: URL;
  readonly auth: Authenticator;
}

/** The failures of a TLS handshake with a server that has plain HTTP, or has nothing on the HTTPS port. */
function speaksNoTls(error: unknown): boolean {
  if (error instanceof UnavailableError) return error.cause !== undefined;
  if (!(error instanceof VeneerError) || error.code !== 'registry/tls') return false;
  const code = (error.cause as NodeJS.ErrnoException | undefined)?.code ?? '';
  return code === 'EPROTO' || code.startsWith('ERR_SSL');
}
