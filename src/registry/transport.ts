/**
 * One HTTP exchange with a registry or with where it sends us: TLS, proxies, timeouts, and redirects by hand.
 *
 * "Home" is the registry's own host. Everything else is "away": it gets no credentials, no client certificates, and
 * may only be in a part of the network that the registry itself is in (or the internet).
 */

import { lookup as dnsLookup, type LookupAddress } from 'node:dns';
import { once } from 'node:events';
import {
  type ClientRequest,
  Agent as HttpAgent,
  request as httpRequest,
  type IncomingMessage,
} from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { LookupFunction } from 'node:net';
import { VeneerError } from '../errors.ts';
import { mayLeadTo, type Reach, reachOf, reachOfHost } from './addresses.ts';
import { UnavailableError } from './retry.ts';
import { awayContext, hostContext, readRoots, type TlsFiles } from './tls.ts';
import { cancelled, connectError, showUrl } from './transport-errors.ts';

export interface TransportOptions extends TlsFiles {
  /** The registry as the user wrote it, `docker.io`: names the certs.d folder. */
  readonly domain: string;
  /** `host[:port]` that the registry really has, `registry-1.docker.io`. */
  readonly host: string;
  /** Plain HTTP is allowed and certificates are not checked. */
  readonly insecure: boolean;
  /** Milliseconds until the response headers must be there. */
  readonly requestTimeout: number;
  readonly signal: AbortSignal;
  /** Resolves names of away hosts; the system's resolver by default. */
  readonly lookup?: typeof dnsLookup;
}

export interface Exchange {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT';
  readonly headers: Readonly<Record<string, string>>;
  /** Sent only to the origin of the first URL. */
  readonly authorization?: string | undefined;
  /** For POST and PUT; such requests follow no redirects. */
  readonly body?: string | Buffer | StreamedBody;
}

/** A long body; opened anew for each try. */
export interface StreamedBody {
  /** Bytes, exactly. */
  readonly size: number;
  open(): Promise<AsyncIterable<Buffer>>;
}

export interface Reply {
  readonly status: number;
  readonly message: IncomingMessage;
  /** Where the answer came from in the end. */
  readonly url: URL;
}

const MAX_REDIRECTS = 8;
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
/** Sockets a host; more layers than that wait. */
const MAX_SOCKETS = 16;
/** A rest of a body that is read to keep the connection rather than to drop it, bytes. */
const MAX_DRAIN = 64 << 10;
const USER_AGENT = 'veneer';

export class Transport {
  readonly #options: TransportOptions;
  readonly #agents = new Map<string, HttpAgent>();
  readonly #proxied: boolean;
  #roots: Promise<(string | Buffer)[]> | undefined;
  #homeReach: Reach;

  constructor(options: TransportOptions) {
    this.#options = options;
    const { env } = options;
    this.#proxied = Boolean(env.HTTPS_PROXY || env.https_proxy || env.HTTP_PROXY || env.http_proxy);
    this.#homeReach = reachOfHost(new URL(`https://${options.host}/`).hostname) ?? 'public';
  }

  /** Whether `url` is on the registry's own host and port. */
  isHome(url: URL): boolean {
    return url.host === new URL(`${url.protocol}//${this.#options.host}/`).host;
  }

  /** Sends, and follows redirects. The caller reads or discards the reply's body. */
  async send(start: URL, exchange: Exchange): Promise<Reply> {
    let url = start;
    let { authorization } = exchange;
    for (let redirects = 0; ; redirects++) {
      const reply = await this.#sendOnce(url, exchange, authorization);
      const { location } = reply.message.headers;
      if (!REDIRECTS.has(reply.status) || location === undefined) return reply;
      discardBody(reply.message);
      if (exchange.method !== 'GET' && exchange.method !== 'HEAD') {
        throw new VeneerError(
          'registry/refused',
          `Cannot send to ${showUrl(url)}: it redirects a ${exchange.method} request`,
        );
      }
      if (redirects === MAX_REDIRECTS) {
        throw new VeneerError(
          'registry/protocol',
          `Cannot fetch ${showUrl(start)}: more than ${MAX_REDIRECTS} redirects`,
        );
      }
      const next = this.checkTarget(location, url);
      if (next.origin !== url.origin) authorization = undefined;
      url = next;
    }
  }

  /** Where a server at `from` sends us, or `registry/refused`. Names are checked again when they are resolved. */
  checkTarget(location: string, from: URL): URL {
    const refuse = (reason: string): VeneerError =>
      new VeneerError('registry/refused', `Cannot follow ${showUrl(from)}: it leads to ${reason}`);
    if (location.length > 16 << 10 || !URL.canParse(location, from.href))
      throw refuse('something that is no URL');
    const to = new URL(location, from.href);
    if (to.protocol !== 'https:' && to.protocol !== 'http:') throw refuse(`a ${to.protocol} URL`);
    if (to.username !== '' || to.password !== '') throw refuse('a URL with credentials in it');
    if (from.protocol === 'https:' && to.protocol === 'http:') throw refuse(`${to.host} without TLS`);
    const reach = this.isHome(to) ? null : reachOfHost(to.hostname);
    if (reach !== null && !mayLeadTo(this.#homeReach, reach)) throw refuse(`a ${reach} address, ${to.host}`);
    return to;
  }

  close(): void {
    for (const agent of this.#agents.values()) agent.destroy();
    this.#agents.clear();
  }

  /** A kept connection may be dead by the time it is used again: such a failure says nothing, and costs no retry. */
  async #sendOnce(url: URL, exchange: Exchange, authorization: string | undefined): Promise<Reply> {
    for (let stale = 0; ; stale++) {
      const reply = await this.#attempt(url, exchange, authorization, stale < MAX_SOCKETS);
      if (reply !== null) return reply;
    }
  }

  /** Null when a reused connection turned out dead and `mayBeStale`. */
  async #attempt(
    url: URL,
    exchange: Exchange,
    authorization: string | undefined,
    mayBeStale: boolean,
  ): Promise<Reply | null> {
    const agent = await this.#agentFor(url);
    const { signal, requestTimeout } = this.#options;
    if (signal.aborted) throw cancelled(url);
    const headers: Record<string, string> = {
      'user-agent': USER_AGENT,
      // Blobs are what they are: their digests are of the bytes sent, so no coding on top.
      'accept-encoding': 'identity',
      ...exchange.headers,
      ...(typeof exchange.body === 'object' && 'open' in exchange.body
        ? { 'content-length': String(exchange.body.size) }
        : {}),
      ...(authorization === undefined ? {} : { authorization }),
    };
    const send = url.protocol === 'https:' ? httpsRequest : httpRequest;
    return await new Promise<Reply | null>((resolve, reject) => {
      const request: ClientRequest = send(url, { method: exchange.method, headers, agent, signal });
      const timer = setTimeout(() => {
        request.destroy(
          new UnavailableError(`Cannot fetch ${showUrl(url)}: no answer within ${requestTimeout / 1000} s`),
        );
      }, requestTimeout);
      request.on('error', (error) => {
        clearTimeout(timer);
        const { code } = error as NodeJS.ErrnoException;
        if (mayBeStale && request.reusedSocket && (code === 'ECONNRESET' || code === 'EPIPE')) resolve(null);
        else reject(connectError(error, url));
      });
      request.on('response', (message) => {
        clearTimeout(timer);
        // A body that fails while nobody reads it must not end the process; readers see the error all the same.
        message.on('error', () => {});
        if (this.isHome(url)) this.#noteHome(message);
        resolve({ status: message.statusCode ?? 0, message, url });
      });
      const { body } = exchange;
      if (typeof body === 'object' && 'open' in body)
        void sendBody(request, body, timer).catch((error: Error) => request.destroy(error));
      else request.end(body);
    });
  }

  /** What the registry's name resolved to decides where it may send us; behind a proxy only the name can tell. */
  #noteHome(message: IncomingMessage): void {
    const address = message.socket.remoteAddress;
    if (!this.#proxied && address !== undefined) this.#homeReach = reachOf(address);
  }

  async #agentFor(url: URL): Promise<HttpAgent> {
    const home = this.isHome(url);
    const proxied = this.#proxied && reachOfHost(url.hostname) !== 'loopback';
    const key = `${home} ${proxied} ${url.protocol}`;
    const existing = this.#agents.get(key);
    if (existing !== undefined) return existing;

    const { env, insecure } = this.#options;
    const options = {
      keepAlive: true,
      maxSockets: MAX_SOCKETS,
      ...(proxied ? { proxyEnv: env } : {}),
      ...(home || proxied ? {} : { lookup: this.#guardedLookup }),
    };
    const agent =
      url.protocol === 'https:'
        ? new HttpsAgent({
            ...options,
            secureContext: await this.#context(home),
            rejectUnauthorized: !(home && insecure),
          })
        : new HttpAgent(options);
    const raced = this.#agents.get(key);
    if (raced !== undefined) return raced;
    this.#agents.set(key, agent);
    return agent;
  }

  async #context(home: boolean): Promise<ReturnType<typeof awayContext>> {
    this.#roots ??= readRoots(this.#options);
    const roots = await this.#roots;
    return home ? await hostContext(this.#options.domain, roots, this.#options) : awayContext(roots);
  }

  /** Resolves names of away hosts, and drops the addresses we must not be led to: a name checked before could change. */
  readonly #guardedLookup: LookupFunction = (hostname, options, callback) => {
    (this.#options.lookup ?? dnsLookup)(
      hostname,
      { ...options, all: true },
      (error, addresses: LookupAddress[]) => {
        if (error !== null) return callback(error, '', 0);
        const allowed = addresses.filter(({ address }) => mayLeadTo(this.#homeReach, reachOf(address)));
        const first = allowed[0];
        if (first === undefined) {
          const reason = `Cannot follow the registry to ${hostname}: its address is not on the internet`;
          return callback(new VeneerError('registry/refused', reason), '', 0);
        }
        if (options.all === true) callback(null, allowed);
        else callback(null, first.address, first.family);
      },
    );
  };
}

/** Sends a long body. The answer is waited for from its end on, or from where the server stops taking it. */
async function sendBody(request: ClientRequest, body: StreamedBody, timer: NodeJS.Timeout): Promise<void> {
  for await (const chunk of await body.open()) {
    if (request.destroyed) return;
    timer.refresh();
    if (!request.write(chunk)) await canGoOn(request);
  }
  request.end();
}

/** Until the request takes more, or takes nothing any more; no listener of the one outlives the other. */
async function canGoOn(request: ClientRequest): Promise<void> {
  const over = new AbortController();
  const { signal } = over;
  try {
    await Promise.race([once(request, 'drain', { signal }), once(request, 'close', { signal })]);
  } finally {
    over.abort();
  }
}

/** Lets go of a body that nobody wants: short ones are read so that the connection can be used again. */
export function discardBody(message: IncomingMessage): void {
  const length = Number(message.headers['content-length'] ?? Number.NaN);
  if (length <= MAX_DRAIN) message.resume();
  else message.destroy();
}
