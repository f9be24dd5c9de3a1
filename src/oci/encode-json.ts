/**
 * JSON documents of images as Go's encoding/json writes them, which the tools of the field are made with: a document
 * that is read and written again keeps its digest, and two tools that do the same to an image get the same blobs.
 *
 * Members stand in the order of the specification's structs (image-spec, specs-go/v1), those that a struct does not
 * know behind them, sorted: an edit must not lose what somebody else put there. Maps are sorted by their keys' bytes.
 */

export type Json = null | boolean | number | string | readonly Json[] | JsonObject;

export interface JsonObject {
  readonly [name: string]: Json;
}

/** How a member is written. */
interface Member {
  /** Left out when it is empty: null, false, 0, "", [] or {} (Go's `omitempty`). */
  readonly optional?: true;
  /** RFC 3339, written in Go's shortest form. */
  readonly time?: true;
  /** What the value, or each of its elements, is. */
  readonly of?: Shape;
}

/** The members of a struct, in their order. */
export type Shape = Readonly<Record<string, Member>>;

const always: Member = {};
const optional: Member = { optional: true };

const PLATFORM: Shape = {
  architecture: always,
  os: always,
  'os.version': optional,
  'os.features': optional,
  variant: optional,
};

export const DESCRIPTOR: Shape = {
  mediaType: always,
  digest: always,
  size: always,
  urls: optional,
  annotations: optional,
  data: optional,
  platform: { optional: true, of: PLATFORM },
  artifactType: optional,
};

export const MANIFEST: Shape = {
  schemaVersion: always,
  mediaType: optional,
  artifactType: optional,
  config: { of: DESCRIPTOR },
  layers: { of: DESCRIPTOR },
  subject: { optional: true, of: DESCRIPTOR },
  annotations: optional,
};

export const INDEX: Shape = {
  schemaVersion: always,
  mediaType: optional,
  artifactType: optional,
  manifests: { of: DESCRIPTOR },
  subject: { optional: true, of: DESCRIPTOR },
  annotations: optional,
};

export const HISTORY: Shape = {
  created: { optional: true, time: true },
  created_by: optional,
  author: optional,
  comment: optional,
  empty_layer: optional,
};

export const CONFIG: Shape = {
  created: { optional: true, time: true },
  author: optional,
  ...PLATFORM,
  config: {
    of: {
      User: optional,
      ExposedPorts: optional,
      Env: optional,
      Entrypoint: optional,
      Cmd: optional,
      Volumes: optional,
      WorkingDir: optional,
      Labels: optional,
      StopSignal: optional,
      ArgsEscaped: optional,
    },
  },
  rootfs: { of: { type: always, diff_ids: always } },
  history: { optional: true, of: HISTORY },
};

/** The document as bytes, with the line feed that Go's encoder puts behind it. */
export function encodeDocument(value: JsonObject, shape: Shape): Buffer {
  return Buffer.from(`${encode(value, shape)}\n`);
}

/** Without the line feed: a part of a document, or a line of output. */
export function encode(value: Json, shape?: Shape): string {
  if (typeof value === 'string') return encodeText(value);
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  if (isArray(value)) return `[${value.map((element) => encode(element, shape)).join(',')}]`;
  const members: string[] = [];
  for (const [name, member] of Object.entries(shape ?? {})) {
    if (!Object.hasOwn(value, name)) continue;
    const inner = value[name]!;
    if (member.optional && isEmpty(inner)) continue;
    const text =
      member.time && typeof inner === 'string' ? encodeText(shortTime(inner)) : encode(inner, member.of);
    members.push(`${encodeText(name)}:${text}`);
  }
  const others = Object.keys(value).filter((name) => shape === undefined || !Object.hasOwn(shape, name));
  for (const name of others.sort(compareBytes)) members.push(`${encodeText(name)}:${encode(value[name]!)}`);
  return `{${members.join(',')}}`;
}

const isArray: (value: Json) => value is readonly Json[] = Array.isArray;

function isEmpty(value: Json): boolean {
  if (value === null || typeof value !== 'object') return !value;
  return (isArray(value) ? value : Object.keys(value)).length === 0;
}

function encodeText(text: string): string {
  return escapeText(JSON.stringify(text));
}

/** Go escapes what could end a script in HTML, and JavaScript's two line separators. */
function escapeText(json: string): string {
  return json.replace(
    /[<>&\u2028\u2029]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/**
 * For people, a tab a level. Members stay in their order, but in maps with numbers for names, which JavaScript moves to
 * the front: those are sorted by their bytes.
 */
export function encodeIndented(value: Json, before = ''): string {
  if (value === null || typeof value !== 'object') return encode(value);
  const names = isArray(value) ? [] : Object.keys(value);
  if (names.some((name) => /^\d+$/.test(name))) names.sort(compareBytes);
  const inner = `${before}\t`;
  const parts = isArray(value)
    ? value.map((element) => encodeIndented(element, inner))
    : names.map((name) => `${encodeText(name)}: ${encodeIndented(value[name]!, inner)}`);
  const [open, close] = isArray(value) ? '[]' : '{}';
  if (parts.length === 0) return `${open}${close}`;
  return `${open}\n${parts.map((part) => inner + part).join(',\n')}\n${before}${close}`;
}

/** A JSON text without the blanks between its words; members stay in their order. */
export function compactJson(json: string): string {
  return escapeText(json.replace(/("(?:[^"\\]|\\.)*")|[ \t\n\r]+/g, (_, text?: string) => text ?? ''));
}

function compareBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/** RFC 3339, as Go's time.Parse takes it: `T` and `Z` in upper case, any number of digits in a fraction. */
const TIME = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)$/;

/** A time in the form Go prints: nanoseconds at most, no trailing zeros, `Z` for UTC. Others are returned as they are. */
export function shortTime(time: string): string {
  const match = TIME.exec(time);
  if (match === null) return time;
  const fraction = (match[2] ?? '').slice(0, 9).replace(/0+$/, '');
  const zone = match[3] === '+00:00' || match[3] === '-00:00' ? 'Z' : match[3];
  return `${match[1]}${fraction === '' ? '' : `.${fraction}`}${zone}`;
}

/** Whether a text is a time that exists, in RFC 3339. */
export function isTime(text: string): boolean {
  const match = TIME.exec(text);
  // 31 February is a date to Date.parse: what it makes of it is another day.
  const seconds = match === null ? Number.NaN : Date.parse(`${match[1]}Z`);
  return !Number.isNaN(seconds) && new Date(seconds).toISOString().startsWith(match![1]!);
}
