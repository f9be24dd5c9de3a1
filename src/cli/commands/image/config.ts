/** `veneer image config` */
import type { ConfigEdit, HistoryEdit } from '../../../bundle/edit-config.ts';
import type { CliContext, CommonFlags } from '../../context.ts';
import { checkTag, defineImageCommand, IMAGE_FLAG, imageOf, tell } from '../../image/define.ts';
import { HISTORY_FLAGS, type HistoryFlags, historyOf } from '../../image/history-flags.ts';
import { usageError } from '../../parse.ts';
import { withStore } from '../../with-store.ts';

/** Flags that set one value, by what they set. */
const VALUES = {
  user: 'config.user',
  workingDir: 'config.workingdir',
  stopSignal: 'config.stopsignal',
  created: 'created',
  author: 'author',
  os: 'platform.os',
  architecture: 'platform.arch',
  variant: 'platform.variant',
} as const;
/** Flags that may be repeated. */
const LISTS = {
  exposedPorts: 'config.exposedports',
  env: 'config.env',
  volumes: 'config.volume',
  labels: 'config.label',
  annotations: 'manifest.annotation',
  entrypoint: 'config.entrypoint',
  cmd: 'config.cmd',
  clear: 'clear',
} as const;

type Flags = HistoryFlags & { readonly image?: string; readonly tag?: string; readonly store?: string } & {
  readonly [flag in (typeof VALUES)[keyof typeof VALUES]]?: string;
} & { readonly [flag in (typeof LISTS)[keyof typeof LISTS]]: readonly string[] };

const value = (placeholder: string, brief: string, alias?: string) => ({
  placeholder,
  brief,
  ...(alias === undefined ? {} : { aliases: [alias] }),
});
const list = (placeholder: string, brief: string) => ({ placeholder, brief, many: true }) as const;

/** All that goes with --image only. */
const OF_LAYOUTS = [
  'image',
  'tag',
  ...Object.values(VALUES),
  ...Object.values(LISTS),
  ...Object.keys(HISTORY_FLAGS),
];

export default defineImageCommand<Flags>({
  name: 'image config',
  brief: 'Change what an image says of itself, or show it of one in the store',
  usage: ['image config --image DIR[:TAG] [--tag NEW-TAG] [FLAGS]', 'image config --store IMAGE [--json]'],
  description: `Writes a new config and manifest; the old ones stay until "veneer image gc". Without --tag the new image takes the
old one's tag. What the flags do not name stays as it is. The history gets an entry, unless --no-history.

--clear empties one of config.labels, manifest.annotations, config.exposedports, config.env, config.volume, config.cmd
and config.entrypoint before the other flags are looked at.

Images in veneer's store go by the digest that they were pulled with, and are not changed: --store prints the config of
one as JSON, without --json on many lines. To change one, change it in a layout and pull that.`,
  examples: [
    ['image config --image images:mine --config.cmd sh --config.cmd -l', 'a command of two words'],
    ['image config --image images:mine --tag new --config.env LANG=C.UTF-8', 'keep the old one as "mine"'],
    ['image config --image images:mine --clear config.env --no-history', 'no variables, and no trace'],
    ['image config --store debian:12', 'what an image in the store says'],
  ],
  flags: {
    'config.user': value('USER', 'User, and perhaps group, to run as: NAME or ID, NAME:GROUP'),
    'config.exposedports': list('PORT', 'One more port: 80, 53/udp'),
    'config.env': list('NAME=VALUE', 'Set a variable'),
    'config.entrypoint': list('WORD', 'Replace the entry point; one flag a word'),
    'config.cmd': list('WORD', 'Replace the command; one flag a word'),
    'config.volume': list('PATH', 'One more volume'),
    'config.label': list('NAME=VALUE', 'Set a label'),
    'config.workingdir': value('PATH', 'Folder to run in'),
    'config.stopsignal': value('SIGNAL', 'Signal that ends the container'),
    created: value('TIME', 'Time of creation, RFC 3339'),
    author: value('WHO', 'Author of the image'),
    'platform.os': value('OS', 'Operating system it is for', 'os'),
    'platform.arch': value('ARCH', 'Architecture it is for, as Go names it', 'architecture'),
    'platform.variant': value('VARIANT', 'Variant of the architecture'),
    'manifest.annotation': list('NAME=VALUE', 'Set an annotation of the manifest'),
    clear: list('WHAT', 'Empty this first'),
    tag: value('NEW-TAG', 'Tag of the changed image'),
    store: value('IMAGE', 'Show the config of an image in the store instead'),
    ...HISTORY_FLAGS,
    ...IMAGE_FLAG,
  },
  async run(context, flags) {
    if (flags.store !== undefined) return showStored(context, flags, flags.store);
    const { dir, tag } = imageOf('image config', flags);
    const newTag = flags.tag === undefined ? tag : checkTag('image config', flags.tag);
    const history: HistoryEdit | null = await historyOf('image config', context.env, flags);
    const { changeLayout } = await import('../../../bundle/change-layout.ts');
    const { CLEARABLE, editConfig } = await import('../../../bundle/edit-config.ts');
    const edit = editOf(flags);
    for (const what of edit.clear) {
      if (!CLEARABLE.some((name) => name === what))
        throw usageError(
          'image config',
          `--clear knows ${CLEARABLE.join(', ')}, not ${JSON.stringify(what)}`,
        );
    }
    const blob = await changeLayout(dir, (layout) => editConfig(layout, tag, newTag, edit, history));
    done(context, flags, { layout: dir, tag: newTag, manifest: blob });
  },
});

/** The config as it is stored. */
async function showStored(context: CliContext, flags: Flags & CommonFlags, name: string): Promise<void> {
  const given = new Map<string, unknown>(Object.entries(flags));
  const other = OF_LAYOUTS.find((flag) => {
    const value = given.get(flag);
    return Array.isArray(value) ? value.length > 0 : value !== undefined && value !== false;
  });
  if (other !== undefined)
    throw usageError(
      'image config',
      `--store only shows, and does not go with --${other}: images in the store are what was pulled; change the image in a layout (--image DIR:TAG), then "veneer pull oci:DIR:TAG"`,
    );
  const { readStoredImage } = await import('../../../bundle/stored-image.ts');
  const { parseRaw } = await import('../../../bundle/layout-folder.ts');
  const { compactJson, encodeIndented } = await import('../../../oci/encode-json.ts');
  const { configBytes } = await withStore(context, flags, async (store) => readStoredImage(store, name));
  const { out } = context;
  const text = out.json ? compactJson(configBytes.toString('utf8')) : encodeIndented(parseRaw(configBytes));
  // JSON lets control characters of terminals through that are none of ASCII's.
  out.lines(text.replace(/[\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, escaped));
}

const escaped = (char: string): string => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`;

function done(
  context: CliContext,
  flags: Parameters<typeof tell>[1],
  result: { readonly layout: string; readonly tag: string; readonly manifest: { readonly digest: string } },
): void {
  tell(context, flags, result, `${result.tag} is ${result.manifest.digest} now`);
}

function editOf(flags: Flags): ConfigEdit {
  const values = Object.entries(VALUES).flatMap(([key, flag]) =>
    flags[flag] === undefined ? [] : [[key, flags[flag]] as const],
  );
  const { entrypoint, cmd, ...lists } = Object.fromEntries(
    Object.entries(LISTS).map(([key, flag]) => [key, flags[flag]]),
  ) as Record<keyof typeof LISTS, readonly string[]>;
  return {
    ...Object.fromEntries(values),
    ...lists,
    ...(entrypoint.length === 0 ? {} : { entrypoint }),
    ...(cmd.length === 0 ? {} : { cmd }),
  };
}
