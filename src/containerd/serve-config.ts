/** How the daemon is set up: /etc/veneer/config.toml, and flags that override it. */
import { readFileSync } from 'node:fs';
import { parse } from 'smol-toml';
import * as v from 'valibot';
import { VeneerError } from '../errors.ts';

export const CONFIG_FILE = '/etc/veneer/config.toml';
export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error'] as const;
export const MOUNT_FORMS = ['overlay', 'erofs', 'vmdk'] as const;

const path = (what: string) => v.pipe(v.string(), v.startsWith('/', `${what} must be an absolute path`));
const METRICS = /^(?:off|unix:\/.+|(?:\[[0-9a-fA-F:]+\]|[^:]+):\d{1,5})$/;
const isPort = (metrics: string): boolean => Number(/^[^/]*:(\d+)$/.exec(metrics)?.[1] ?? 0) <= 0xffff;
/** They separate the options of a mount, and the lower directories of an overlay. */
const PLAIN = /^[^,:\\]*$/;

/** The file's keys; flags have the same names with dashes. */
const schema = v.strictObject({
  /** The store. */
  root: v.optional(v.pipe(path('root'), v.regex(PLAIN, 'root must be without , : and \\'))),
  /** Socket of our services. */
  address: v.optional(path('address'), '/run/veneer/veneer.sock'),
  /** `off`, `unix:/PATH` or `HOST:PORT`. */
  metrics: v.optional(
    v.pipe(
      v.string(),
      v.regex(METRICS, 'metrics must be off, unix:/PATH or HOST:PORT'),
      v.check(isPort, 'metrics must have a port up to 65535'),
    ),
  ),
  /** containerd's own socket, for the content of blobs. */
  containerd: v.optional(path('containerd'), '/run/containerd/containerd.sock'),
  /** What clients are given to mount. */
  mounts: v.optional(v.picklist(MOUNT_FORMS), 'overlay'),
  /** Which file system shows committed layers. */
  format: v.optional(v.picklist(['erofs', 'udf']), 'erofs'),
  /** How the kernel reads the files. */
  backing: v.optional(v.picklist(['auto', 'file', 'loop']), 'auto'),
  log_level: v.optional(v.picklist(LOG_LEVELS), 'info'),
  /** Layers that are converted at a time; 0: two more than there are processors. */
  conversions: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(256)), 0),
  /** Blobs are converted as containerd stores them, before it asks. */
  convert_on_arrival: v.optional(v.boolean(), true),
});

export type ServeConfig = v.InferOutput<typeof schema>;
export type ServeOverrides = Partial<v.InferInput<typeof schema>>;

/**
 * Reads the file (`null`: none) and lays the overrides over it.
 * Throws `serve/config` with the file and the key that is wrong.
 */
export function readServeConfig(file: string | null, overrides: ServeOverrides): ServeConfig {
  const given = Object.fromEntries(Object.entries(overrides).filter(([, value]) => value !== undefined));
  const fromFile = file === null ? {} : readToml(file);
  const result = v.safeParse(schema, { ...fromFile, ...given });
  if (result.success) {
    const { format, mounts } = result.output;
    if (format === 'erofs' || mounts === 'overlay') return result.output;
    throw new VeneerError('serve/config', `Cannot give ${mounts} mounts of ${format} volumes`, {
      hint: 'format = "udf" goes with mounts = "overlay".',
    });
  }
  const issue = result.issues[0];
  const key = v.getDotPath(issue) ?? '';
  const where = file !== null && key in fromFile && !(key in given) ? file : 'the command line';
  throw new VeneerError(
    'serve/config',
    `Cannot use the configuration of ${where}: ${key}: ${issue.message.replace(/^Invalid key: .*/, 'there is no such key')}`,
    { hint: `Known keys are ${Object.keys(schema.entries).join(', ')}.` },
  );
}

function readToml(file: string): Record<string, unknown> {
  try {
    return parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.split('\n')[0] : String(cause);
    throw new VeneerError('serve/config', `Cannot read the configuration ${file}: ${reason}`, { cause });
  }
}
