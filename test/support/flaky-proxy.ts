/** An HTTP proxy in front of a registry that misbehaves as told, request by request. */
import { once } from 'node:events';
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  request,
  type ServerResponse,
} from 'node:http';
import type { TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';

/** What to do to one request; without any field it passes unchanged. */
export interface Fault {
  /** Answer this instead of asking the registry. */
  readonly answer?: {
    readonly status: number;
    readonly headers?: OutgoingHttpHeaders;
    readonly body?: string | Buffer;
  };
  /** Drop the connection without any answer. */
  readonly hangUp?: boolean;
  /** Never answer. */
  readonly hang?: boolean;
  /** Milliseconds before the registry is asked. */
  readonly delay?: number;
  /** Drop the connection after this many bytes of body. */
  readonly cutAfter?: number;
  /** Send nothing more after this many bytes of body, and keep the connection. */
  readonly stallAfter?: number;
  /** Flip the bits of the body's byte at this offset. */
  readonly corruptAt?: number;
  /** End the answer in good order after this many bytes, as if that were all. */
  readonly endAfter?: number;
  /** Send these bytes behind the body. */
  readonly append?: Buffer;
  /** Take the Range header out of the request. */
  readonly ignoreRange?: boolean;
  /** Change the headers of the answer; undefined takes one out. */
  readonly headers?: Readonly<Record<string, string | undefined>>;
  /** Change the status of the answer. */
  readonly status?: number;
}

export interface SeenRequest {
  readonly method: string;
  /** Path and query. */
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
}

export interface FlakyProxy {
  /** `127.0.0.1:PORT` */
  readonly host: string;
  /** Every request so far, in order. */
  readonly seen: readonly SeenRequest[];
  /** Decides about each request; `count` is how many with the same path came before. */
  rule: (request: SeenRequest, count: number) => Fault;
}

/** Starts a proxy on loopback to `target` (`host:port`, plain HTTP); it ends with the test. */
export async function startFlakyProxy(t: TestContext, target: string): Promise<FlakyProxy> {
  const seen: SeenRequest[] = [];
  const counts = new Map<string, number>();
  const server = createServer((incoming, outgoing) => {
    const { method = 'GET', url: path = '/', headers } = incoming;
    const entry = { method, path, headers };
    const count = counts.get(path) ?? 0;
    counts.set(path, count + 1);
    seen.push(entry);
    outgoing.on('error', () => {});
    serve(incoming, outgoing, target, proxy.rule(entry, count)).catch(() => outgoing.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as { port: number };
  const proxy: FlakyProxy = { host: `127.0.0.1:${port}`, seen, rule: () => ({}) };
  return proxy;
}

async function serve(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  target: string,
  fault: Fault,
): Promise<void> {
  if (fault.hang) return;
  if (fault.hangUp) {
    incoming.socket.destroy();
    return;
  }
  if (fault.delay !== undefined) await delay(fault.delay);
  if (fault.answer !== undefined) {
    outgoing.writeHead(fault.answer.status, fault.answer.headers);
    outgoing.end(fault.answer.body);
    return;
  }
  const reply = await forward(incoming, target, fault.ignoreRange ?? false);
  const headers: OutgoingHttpHeaders = { ...reply.headers };
  for (const [name, value] of Object.entries(fault.headers ?? {})) {
    if (value === undefined) delete headers[name];
    else headers[name] = value;
  }
  if (fault.endAfter !== undefined || fault.append !== undefined) delete headers['content-length'];
  outgoing.writeHead(fault.status ?? reply.statusCode ?? 502, headers);
  await sendBody(reply, outgoing, fault);
}

async function sendBody(reply: IncomingMessage, outgoing: ServerResponse, fault: Fault): Promise<void> {
  const stop = Math.min(fault.cutAfter ?? Infinity, fault.stallAfter ?? Infinity, fault.endAfter ?? Infinity);
  let at = 0;
  for await (const chunk of reply as AsyncIterable<Buffer>) {
    const part = Buffer.from(chunk.subarray(0, stop - at));
    const corrupt = (fault.corruptAt ?? -1) - at;
    if (corrupt >= 0 && corrupt < part.length) part[corrupt] = part[corrupt]! ^ 0xff;
    at += part.length;
    if (!outgoing.write(part)) await once(outgoing, 'drain');
    if (at < stop) continue;
    if (fault.stallAfter === stop) return;
    if (fault.cutAfter === stop) {
      // What was written has to leave first, or the cut would come early.
      outgoing.write('', () => outgoing.socket?.destroySoon());
      return;
    }
    break;
  }
  if (fault.append !== undefined) outgoing.write(fault.append);
  outgoing.end();
}

async function forward(
  incoming: IncomingMessage,
  target: string,
  ignoreRange: boolean,
): Promise<IncomingMessage> {
  const headers: OutgoingHttpHeaders = { ...incoming.headers };
  if (ignoreRange) delete headers.range;
  const outward = request({
    host: target.split(':')[0],
    port: target.split(':')[1],
    method: incoming.method,
    path: incoming.url,
    headers,
  });
  incoming.pipe(outward);
  const [reply] = (await once(outward, 'response')) as [IncomingMessage];
  return reply;
}
