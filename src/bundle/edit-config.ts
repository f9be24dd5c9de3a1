/** Changing what an image says about itself: `umoci config`. */
import { VeneerError } from '../errors.ts';
import type { Json, JsonObject } from '../oci/encode-json.ts';
import { isTime } from '../oci/encode-json.ts';
import type { BlobFacts, LayoutChange } from './change-layout.ts';
import { commitImage, readImage } from './image-documents.ts';
import { parseRaw } from './layout-folder.ts';
import { putReference, resolveReference } from './references.ts';

/** What can be emptied before the rest is set. */
export const CLEARABLE = [
  'config.labels',
  'manifest.annotations',
  'config.exposedports',
  'config.env',
  'config.volume',
  'config.cmd',
  'config.entrypoint',
] as const;

/** What is undefined stays as it is. `KEY=VALUE` lists and sets are added to, the two commands are replaced. */
export interface ConfigEdit {
  readonly clear: readonly string[];
  /** RFC 3339. */
  readonly created?: string;
  readonly author?: string;
  readonly os?: string;
  readonly architecture?: string;
  readonly variant?: string;
  readonly user?: string;
  readonly stopSignal?: string;
  readonly workingDir?: string;
  readonly exposedPorts: readonly string[];
  readonly env: readonly string[];
  readonly volumes: readonly string[];
  readonly labels: readonly string[];
  readonly annotations: readonly string[];
  readonly entrypoint?: readonly string[];
  readonly cmd?: readonly string[];
}

/** The entry that an edit leaves in the image's history; null leaves none. */
export interface HistoryEdit {
  readonly author?: string;
  readonly comment?: string;
  /** RFC 3339. */
  readonly created: string;
  readonly createdBy?: string;
}

/**
 * Changes the image `from` of the layout and names the result `to`, which may be the same name. Returns its manifest,
 * or the outermost index above it. Throws `cli/usage` for values that are none.
 */
export async function editConfig(
  layout: LayoutChange,
  from: string,
  to: string,
  edit: ConfigEdit,
  history: HistoryEdit | null,
): Promise<BlobFacts> {
  const image = await readImage(layout, await resolveReference(layout, from));
  const config = editDocument(parseRaw(image.configBytes), edit);
  const raw = parseRaw(image.manifestBytes);
  const manifest = { ...raw, annotations: editAnnotations(raw.annotations, edit) };
  const entries = (config.history ?? []) as readonly Json[];
  const all = history === null ? entries : [...entries, historyEntry(config, history, 'umoci config', true)];
  const root = await commitImage(layout, image.path, manifest, { ...config, history: all });
  putReference(layout, to, root);
  return { digest: root.digest as string, size: root.size as number };
}

function editDocument(document: JsonObject, edit: ConfigEdit): JsonObject {
  if (edit.created !== undefined && !isTime(edit.created)) throw noTime('created', edit.created);
  return {
    ...document,
    ...defined({
      created: edit.created,
      author: edit.author,
      os: edit.os,
      architecture: edit.architecture,
      variant: edit.variant,
    }),
    config: editRunConfig((document.config ?? {}) as JsonObject, edit),
  };
}

function editRunConfig(config: JsonObject, edit: ConfigEdit): JsonObject {
  const old = (name: string, key: string): Json => (edit.clear.includes(key) ? null : (config[name] ?? null));
  const set = (name: string, key: string, added: readonly string[]): JsonObject => ({
    ...(old(name, key) as JsonObject | null),
    ...Object.fromEntries(added.map((element) => [element, {}])),
  });
  return {
    ...config,
    ...defined({ User: edit.user, StopSignal: edit.stopSignal, WorkingDir: edit.workingDir }),
    ExposedPorts: set('ExposedPorts', 'config.exposedports', edit.exposedPorts),
    Volumes: set('Volumes', 'config.volume', edit.volumes),
    Env: editEnv((old('Env', 'config.env') ?? []) as readonly string[], edit.env),
    Entrypoint: edit.entrypoint ?? old('Entrypoint', 'config.entrypoint'),
    Cmd: edit.cmd ?? old('Cmd', 'config.cmd'),
    Labels: {
      ...(old('Labels', 'config.labels') as JsonObject | null),
      ...Object.fromEntries(edit.labels.map((label) => keyAndValue('config.label', label))),
    },
  };
}

function editAnnotations(old: Json | undefined, { clear, annotations }: ConfigEdit): JsonObject {
  return {
    ...(clear.includes('manifest.annotations') ? {} : (old as JsonObject | null | undefined)),
    ...Object.fromEntries(annotations.map((text) => keyAndValue('manifest.annotation', text))),
  };
}

/** A variable that is there already keeps its place. */
function editEnv(old: readonly string[], added: readonly string[]): string[] {
  const env = [...old];
  for (const text of added) {
    const [name] = keyAndValue('config.env', text);
    const at = env.findIndex((known) => known.startsWith(`${name}=`));
    if (at < 0) env.push(text);
    else env[at] = text;
  }
  return env;
}

/** The entry of a change to an image with this config; `createdBy` when the user does not say what made it. */
export function historyEntry(
  config: JsonObject,
  history: HistoryEdit,
  createdBy: string,
  emptyLayer: boolean,
): JsonObject {
  if (!isTime(history.created)) throw noTime('history.created', history.created);
  return {
    created: history.created,
    // The name that readers of layouts look for; what is compared with umoci's work is equal.
    created_by: history.createdBy ?? createdBy,
    author: history.author ?? config.author ?? '',
    comment: history.comment ?? '',
    empty_layer: emptyLayer,
  };
}

function keyAndValue(flag: string, text: string): [key: string, value: string] {
  const at = text.indexOf('=');
  if (at > 0) return [text.slice(0, at), text.slice(at + 1)];
  throw new VeneerError('cli/usage', `Cannot use --${flag} ${JSON.stringify(text)}: it is not NAME=VALUE`);
}

function noTime(flag: string, text: string): VeneerError {
  return new VeneerError(
    'cli/usage',
    `Cannot use --${flag} ${JSON.stringify(text)}: not a time in RFC 3339`,
    {
      hint: 'write it like 2026-01-31T12:00:00Z',
    },
  );
}

function defined(values: Readonly<Record<string, string | undefined>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(values).filter((pair): pair is [string, string] => pair[1] !== undefined),
  );
}
