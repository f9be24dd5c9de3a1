/** Response bodies: bounded, and never waited for longer than the idle timeout. */
import type { IncomingMessage } from 'node:http';
import { VeneerError } from '../errors.ts';
import { UnavailableError } from './retry.ts';
import type { Reply } from './transport.ts';
import { bodyError, showUrl } from './transport-errors.ts';

export interface BodyLimits {
  /** Milliseconds without a byte until the body counts as stalled. */
  readonly idleTimeout: number;
  /** Milliseconds a small document may take as a whole. */
  readonly documentTimeout: number;
}

/**
 * The chunks of a body. The time the consumer takes does not count as idle. Leaving the iteration early drops the
 * connection; a body that ends before its Content-Length fails as a cut one.
 */
export async function* streamBody(reply: Reply, idleTimeout: number): AsyncGenerator<Buffer, void, void> {
  const { message, url } = reply;
  let waiting = true;
  let at = 0;
  const timer = setTimeout(() => {
    if (waiting) message.destroy(stalled(url, idleTimeout, at));
    else timer.refresh();
  }, idleTimeout);
  const chunks = message[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  try {
    for (;;) {
      waiting = true;
      timer.refresh();
      const next = await chunks.next();
      waiting = false;
      if (next.done) return;
      at += next.value.length;
      yield next.value;
    }
  } catch (error) {
    throw bodyError(error, url, at);
  } finally {
    clearTimeout(timer);
    release(message);
  }
}

/** A whole body of at most `limit` bytes; longer ones are `oci/limit`. `what` names it in messages. */
export async function readBody(
  reply: Reply,
  limit: number,
  limits: BodyLimits,
  what: string,
): Promise<Buffer> {
  const announced = Number(reply.message.headers['content-length'] ?? 0);
  const tooLong = (): VeneerError =>
    new VeneerError(
      'oci/limit',
      `Cannot read ${what}: ${showUrl(reply.url)} sends more than the limit of ${limit} bytes`,
    );
  if (announced > limit) {
    release(reply.message);
    throw tooLong();
  }
  const deadline = setTimeout(() => {
    reply.message.destroy(
      new UnavailableError(`Cannot read ${what}: it took longer than ${limits.documentTimeout / 1000} s`),
    );
  }, limits.documentTimeout);
  try {
    const chunks: Buffer[] = [];
    let length = 0;
    for await (const chunk of streamBody(reply, limits.idleTimeout)) {
      length += chunk.length;
      if (length > limit) throw tooLong();
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  } finally {
    clearTimeout(deadline);
  }
}

function release(message: IncomingMessage): void {
  if (!message.readableEnded) message.destroy();
}

function stalled(url: URL, milliseconds: number, at: number): UnavailableError {
  const where = at === 0 ? '' : ` after byte ${at}`;
  return new UnavailableError(
    `Cannot fetch ${showUrl(url)}: it stalled for ${milliseconds / 1000} s${where}`,
  );
}
