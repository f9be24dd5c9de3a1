/** HTTP statuses to errors, with what the registry says about them (distribution spec, "Error Codes"). */
import * as v from 'valibot';
import { VeneerError } from '../errors.ts';
import { parseRetryAfter, UnavailableError } from './retry.ts';
import { discardBody, type Reply } from './transport.ts';
import { showUrl } from './transport-errors.ts';

const MAX_BODY = 64 << 10;
const MAX_SHOWN = 200;
const BODY_TIMEOUT = 5000;
/** 4xx statuses that pass: request timeout, too early, too many requests. */
const PASSING: ReadonlySet<number> = new Set([408, 425, 429]);

const errorsSchema = v.object({
  errors: v.array(v.object({ code: v.optional(v.string(), ''), message: v.optional(v.string(), '') })),
});

/** The error for a reply that is not what was asked for; reads and drops its body. `what` was asked for. */
export async function statusError(
  reply: Reply,
  what: string,
  redact: (text: string) => Promise<string>,
  verb: 'fetch' | 'push' = 'fetch',
): Promise<VeneerError> {
  const { status, url } = reply;
  const retryAfter = parseRetryAfter(reply.message.headers['retry-after'], Date.now());
  const said = (await redact(await readReason(reply))).replace(/[^\x20-\x7e]+/g, ' ').slice(0, MAX_SHOWN);
  const text = `Cannot ${verb} ${what}: ${showUrl(url)} answers ${status}${said === '' ? '' : ` (${said})`}`;
  if (PASSING.has(status) || (status >= 500 && status !== 501 && status !== 505)) {
    const seconds = retryAfter === undefined ? undefined : Math.ceil(retryAfter / 1000);
    const hint = seconds === undefined ? {} : { hint: `The registry asks to wait ${seconds} s.` };
    return new UnavailableError(text, { retryAfter, ...hint });
  }
  const hint = 'Check the name and the tag; a private repository also needs docker login.';
  if (status === 401) return new VeneerError('registry/auth', text, { hint });
  if (status === 403) return new VeneerError('registry/denied', text, { hint });
  if (status === 404) return new VeneerError('registry/not-found', text, { hint });
  return new VeneerError('registry/protocol', text);
}

/** The registry's own words as they came, '' when it has none. */
async function readReason(reply: Reply): Promise<string> {
  const { message } = reply;
  if (!/json/.test(message.headers['content-type'] ?? '')) {
    discardBody(message);
    return '';
  }
  const timer = setTimeout(() => message.destroy(), BODY_TIMEOUT);
  try {
    const chunks: Buffer[] = [];
    let length = 0;
    for await (const chunk of message as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > MAX_BODY) return '';
      chunks.push(chunk);
    }
    const result = v.safeParse(errorsSchema, JSON.parse(Buffer.concat(chunks).toString('utf8')));
    if (!result.success) return '';
    const words = result.output.errors.map(({ code, message }) => [code, message].filter(Boolean).join(': '));
    return words.join('; ');
  } catch {
    // The status says enough when its explanation does not arrive whole.
    return '';
  } finally {
    clearTimeout(timer);
  }
}
