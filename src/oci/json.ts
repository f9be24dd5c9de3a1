/** JSON documents from outside: size, UTF-8, syntax and shape, each with its own message. */
import { isUtf8 } from 'node:buffer';
import * as v from 'valibot';
import { VeneerError } from '../errors.ts';

/** Image manifests and indexes: the OCI distribution spec asks registries to take at least 4 MiB; nobody may send more. */
export const MAX_MANIFEST_BYTES = 4 << 20;
/** Image configs; real ones are below 100 KiB. */
export const MAX_CONFIG_BYTES = 8 << 20;
export const MAX_LAYERS = 10_000;
/** Entries of one image index. */
export const MAX_INDEX_ENTRIES = 10_000;

/** Parses `bytes` against `schema`; `what` names them in messages. Throws `oci/limit` or `oci/invalid`. */
export function parseDocument<S extends v.GenericSchema>(
  schema: S,
  bytes: Uint8Array,
  limit: number,
  what: string,
): v.InferOutput<S> {
  if (bytes.length > limit) {
    throw new VeneerError(
      'oci/limit',
      `Cannot read ${what}: ${bytes.length} bytes, more than the limit of ${limit}`,
    );
  }
  let value: unknown;
  try {
    if (!isUtf8(bytes)) throw new Error('not UTF-8');
    // With or without a byte order mark.
    value = JSON.parse(
      Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
        .toString()
        .replace(/^\ufeff/, ''),
    );
  } catch (cause) {
    // V8 quotes the text in its message; the reason alone is enough and cannot flood a terminal.
    throw new VeneerError('oci/invalid', `Cannot read ${what}: not JSON in UTF-8`, { cause });
  }
  const result = v.safeParse(schema, value, { abortEarly: true });
  if (result.success) return result.output;
  const issue = result.issues[0];
  const path = v.getDotPath(issue);
  const at = path === null ? '' : `${path.slice(0, 100)}: `;
  throw new VeneerError('oci/invalid', `Cannot read ${what}: ${at}${issue.message.slice(0, 200)}`);
}
