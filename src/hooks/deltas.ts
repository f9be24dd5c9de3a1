/** The file that answers `delta-list`: one JSON object a line, each a name that may have changed. */
import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { open } from 'node:fs/promises';
import * as v from 'valibot';
import { VeneerError } from '../errors.ts';
import { cleanPath, hasDotDot } from '../tree/path.ts';

/** A name below the root, and what may have changed there. */
export interface DeltaPath {
  /** Byte string from the root, without a leading slash; '' for the root itself. */
  readonly path: string;
  /** With all that is in it. */
  readonly recursive: boolean;
}

/** Bytes of one line: a path in base64 and what stands around it. */
const LINE_MAX = 16_384;
const PATHS_MAX = 4_000_000;

const line = v.strictObject({
  path: v.optional(v.string()),
  path64: v.optional(v.pipe(v.string(), v.base64('not base64'))),
  recursive: v.optional(v.boolean(), false),
});

/** Reads the list; nothing of it is believed but that these names are worth a look. Throws `hooks/bad-reply`. */
export async function readDeltas(file: string, hook: string): Promise<DeltaPath[]> {
  checkRegular(file, hook);
  const handle = await open(file, constants.O_RDONLY);
  const paths = new Map<string, boolean>();
  let number = 0;
  try {
    for await (const text of handle.readLines({ encoding: 'utf8', autoClose: false })) {
      number++;
      if (text.trim() === '') continue;
      const { path, recursive } = parseLine(text, (reason) =>
        badList(file, hook, `line ${number}: ${reason}`),
      );
      paths.set(path, recursive || (paths.get(path) ?? false));
      if (paths.size > PATHS_MAX) throw badList(file, hook, `more than ${PATHS_MAX} names`);
    }
  } finally {
    await handle.close();
  }
  return [...paths].map(([path, recursive]) => ({ path, recursive }));
}

function parseLine(text: string, bad: (reason: string) => VeneerError): DeltaPath {
  if (text.length > LINE_MAX) throw bad(`more than ${LINE_MAX} chars`);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw bad('no JSON');
  }
  const result = v.safeParse(line, json);
  if (!result.success) throw bad(result.issues[0].message);
  const { path, path64, recursive } = result.output;
  if ((path === undefined) === (path64 === undefined)) throw bad('either path or path64 is needed');
  const raw = path === undefined ? Buffer.from(path64!, 'base64') : Buffer.from(path, 'utf8');
  const bytes = raw.toString('latin1');
  if (bytes.includes('\0') || hasDotDot(bytes)) throw bad('a path with ".." or a NUL byte in it');
  return { path: cleanPath(bytes).join('/'), recursive };
}

function checkRegular(file: string, hook: string): void {
  let fd: number;
  try {
    fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    throw badList(file, hook, (cause as Error).message);
  }
  try {
    if (!fstatSync(fd).isFile()) throw badList(file, hook, 'it is no regular file');
  } finally {
    closeSync(fd);
  }
}

function badList(file: string, hook: string, reason: string): VeneerError {
  return new VeneerError('hooks/bad-reply', `Cannot read the list of changes ${file} of ${hook}: ${reason}`);
}
