/**
 * hooks.toml: which hooks there are. What is in it runs with our rights, so it is read from where the flag, the
 * environment, the user or the system says, and never when somebody else could have written it.
 */
import {
  closeSync,
  constants,
  fstatSync,
  openSync,
  readFileSync,
  realpathSync,
  type Stats,
  statSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { parse } from 'smol-toml';
import * as v from 'valibot';
import { VeneerError } from '../errors.ts';
import { execHook } from './exec.ts';
import type { Hook, HookPolicy } from './hook.ts';
import { HOOK_EVENTS, type HookEvent } from './protocol.ts';

export const SYSTEM_FILE = '/etc/veneer/hooks.toml';

const events = v.picklist(HOOK_EVENTS, 'no such event');
const someEvents = v.pipe(
  v.union(
    [events, v.pipe(v.array(events), v.minLength(1, 'an empty list'))],
    'not an event, or a list of events',
  ),
  v.transform((value) => (typeof value === 'string' ? [value] : value)),
);
const texts = v.union([
  v.pipe(
    v.string(),
    v.transform((text) => [text]),
  ),
  v.array(v.string()),
]);

const hookSchema = v.strictObject({
  name: v.optional(v.pipe(v.string(), v.minLength(1, 'empty'))),
  event: v.optional(someEvents),
  command: v.optional(v.pipe(v.array(v.string()), v.minLength(1, 'an empty list'))),
  driver: v.optional(v.string()),
  options: v.optional(v.record(v.string(), v.string())),
  timeout: v.optional(
    v.pipe(v.number(), v.gtValue(0, 'not more than 0'), v.maxValue(86_400, 'more than a day')),
  ),
  on_error: v.optional(v.picklist(['abort', 'fallback'], 'neither "abort" nor "fallback"')),
  verify: v.optional(v.picklist(['tree', 'manifest', 'none'], 'not "tree", "manifest" or "none"')),
  match: v.optional(v.strictObject({ media_type: v.optional(texts) })),
  env: v.optional(v.array(v.pipe(v.string(), v.regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'not a variable name')))),
});

const fileSchema = v.strictObject({ hook: v.optional(v.array(hookSchema), []) });

type HookEntry = v.InferOutput<typeof hookSchema>;

/** Makes one of the drivers that come with veneer. Throws for names and options that it does not know. */
export type MakeDriver = (name: string, options: Readonly<Record<string, string>>) => Hook;

export interface ReadHooksOptions {
  readonly makeDriver: MakeDriver;
  /** Folders that the file must not be in: images and bundles come from others. */
  readonly outside?: readonly string[];
}

export interface FindOptions {
  /** What the flag says; '' for no hooks at all. */
  readonly flag?: string;
  readonly env?: NodeJS.ProcessEnv;
}

/** The file that counts: flag, `$VENEER_HOOKS`, the user's, the system's; null when there is none. */
export function findHooksFile({ flag, env = process.env }: FindOptions = {}): string | null {
  for (const said of [flag, env.VENEER_HOOKS]) {
    if (said !== undefined) return said === '' ? null : resolve(said);
  }
  const user = join(env.XDG_CONFIG_HOME || join(env.HOME || homedir(), '.config'), 'veneer/hooks.toml');
  return [user, SYSTEM_FILE].find(isThere) ?? null;
}

/** A home that is another user's, kept in the environment by sudo and such, has no hooks of ours. */
function isThere(path: string): boolean {
  try {
    statSync(path);
    return true;
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'EACCES'].includes((error as NodeJS.ErrnoException).code ?? '')) return false;
    throw error;
  }
}

/** The hooks of a file, in its order. Throws `hooks/bad-config`. */
export function readHooksFile(path: string, { makeDriver, outside = [] }: ReadHooksOptions): Hook[] {
  const text = readTrusted(path, outside);
  let document: unknown;
  try {
    document = parse(text);
  } catch (cause) {
    throw badFile(path, (cause as Error).message.split('\n')[0]!, cause);
  }
  const result = v.safeParse(fileSchema, document);
  if (!result.success) {
    const [issue] = result.issues;
    const at = issue.path?.map(({ key }) => String(key)).join('.');
    throw badFile(path, `${at === undefined ? '' : `${at}: `}${issue.message}`);
  }
  return result.output.hook.map((entry, index) => makeHook(path, entry, index, makeDriver));
}

function makeHook(path: string, entry: HookEntry, index: number, makeDriver: MakeDriver): Hook {
  const policy: HookPolicy = {
    ...(entry.on_error === undefined ? {} : { onError: entry.on_error }),
    ...(entry.verify === undefined ? {} : { verify: entry.verify }),
    ...(entry.timeout === undefined ? {} : { timeout: entry.timeout }),
    ...(entry.match?.media_type === undefined ? {} : { mediaTypes: entry.match.media_type }),
  };
  const bad = (reason: string): VeneerError => badFile(path, `hook.${index}: ${reason}`);
  const { command, driver } = entry;
  if ((command === undefined) === (driver === undefined)) throw bad('needs either a command or a driver');
  if (driver !== undefined) {
    if (entry.event !== undefined || entry.env !== undefined)
      throw bad('event and env do not go with a driver');
    const made = makeDriver(driver, entry.options ?? {});
    return { ...made, ...policy, name: entry.name ?? made.name };
  }
  if (entry.options !== undefined) throw bad('options go with a driver; give a command arguments');
  const program = command![0]!;
  if (!isAbsolute(program)) throw bad(`${JSON.stringify(program)} is not the absolute path of a program`);
  return execHook({
    ...policy,
    name: entry.name ?? program,
    command: command!,
    events: new Set<HookEvent>(entry.event ?? HOOK_EVENTS),
    ...(entry.env === undefined ? {} : { env: entry.env }),
  });
}

/** Reads the file if nobody but root and us can have written it, or can put another in its place. */
function readTrusted(path: string, outside: readonly string[]): string {
  let fd: number;
  let real: string;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    real = realpathSync(path);
  } catch (cause) {
    throw badFile(path, (cause as Error).message, cause);
  }
  try {
    const stats = fstatSync(fd);
    if (!stats.isFile()) throw badFile(path, 'it is no regular file');
    for (const folder of outside) {
      const within = safeRealpath(folder);
      if (within !== null && `${real}/`.startsWith(`${within}/`)) {
        throw badFile(path, `it is in ${folder}: hooks never come from an image or a bundle`);
      }
    }
    checkOwner(path, stats, 'it');
    const folder = statSync(dirname(real));
    if ((folder.mode & 0o1000) === 0) checkOwner(path, folder, 'its folder');
    return readFileSync(fd, 'utf8');
  } finally {
    closeSync(fd);
  }
}

function checkOwner(path: string, { uid, mode }: Stats, what: string): void {
  if (uid !== 0 && uid !== process.geteuid?.()) {
    throw badFile(path, `${what} belongs to user ${uid}, neither to root nor to us`);
  }
  if ((mode & 0o022) !== 0) {
    throw new VeneerError(
      'hooks/bad-config',
      `Cannot use the hooks in ${path}: others may write to ${what}`,
      {
        hint: `chmod go-w ${what === 'it' ? path : dirname(path)}`,
      },
    );
  }
}

function safeRealpath(path: string): string | null {
  try {
    return realpathSync(path);
  } catch {
    return null;
  }
}

function badFile(path: string, reason: string, cause?: unknown): VeneerError {
  return new VeneerError('hooks/bad-config', `Cannot use the hooks in ${path}: ${reason}`, { cause });
}
