/**
 * The table of commands. Each is loaded only when it is the one that runs; and commands import the modules they
 * need instead of a room's index, for every module costs a part of a millisecond at each start.
 */
import type { CliCommand } from './command.ts';

export interface CommandEntry {
  readonly brief: string;
  /** Other names for it. */
  readonly aliases?: readonly string[];
  load(): Promise<{ readonly default: CliCommand }>;
}

/** A command whose first argument is a command. */
export interface CommandFamily {
  readonly brief: string;
  readonly commands: CommandTable;
  /** Exit codes are umoci's. */
  readonly umoci?: true;
}

export type CommandTable = Readonly<Record<string, CommandEntry | CommandFamily>>;

/** umoci's. Help and completion show the short names. */
const IMAGE_COMMANDS: CommandTable = {
  init: { brief: 'Make an empty OCI layout', load: () => import('./commands/image/init.ts') },
  new: { brief: 'Put an image without layers into a layout', load: () => import('./commands/image/new.ts') },
  ls: { brief: 'List the tags of a layout', aliases: ['list'], load: () => import('./commands/image/ls.ts') },
  tag: { brief: 'Give an image of a layout one more tag', load: () => import('./commands/image/tag.ts') },
  rm: {
    brief: 'Take a tag out of a layout',
    aliases: ['remove'],
    load: () => import('./commands/image/rm.ts'),
  },
  gc: {
    brief: 'Delete blobs that no tag of a layout needs',
    load: () => import('./commands/image/gc.ts'),
  },
  stat: {
    brief: 'Show what a layout, or the store, says of an image',
    load: () => import('./commands/image/stat.ts'),
  },
  config: {
    brief: 'Change what an image says of itself',
    load: () => import('./commands/image/config.ts'),
  },
  unpack: {
    brief: 'Unpack an image into a bundle, to run it or change it',
    load: () => import('./commands/image/unpack.ts'),
  },
  repack: {
    brief: 'Make a layer of what was changed in a bundle',
    load: () => import('./commands/image/repack.ts'),
  },
  insert: {
    brief: 'Put files into an image, or a deletion',
    load: () => import('./commands/image/insert.ts'),
  },
  raw: {
    brief: 'Parts of what the other commands do',
    commands: {
      unpack: {
        brief: "Unpack an image's tree, and nothing else",
        load: () => import('./commands/image/raw/unpack.ts'),
      },
      'add-layer': {
        brief: 'Put a tar on an image as a layer, as it is',
        load: () => import('./commands/image/raw/add-layer.ts'),
      },
      'mtree-validate': {
        brief: 'Compare a directory with an mtree file',
        load: () => import('./commands/image/raw/mtree-validate.ts'),
      },
      'runtime-config': {
        brief: "Write a container's config.json for an image",
        aliases: ['config'],
        load: () => import('./commands/image/raw/runtime-config.ts'),
      },
    },
  },
};

const DELTA_COMMANDS: CommandTable = {
  create: {
    brief: 'Write what it takes to make one image of another',
    load: () => import('./commands/delta/create.ts'),
  },
  apply: {
    brief: 'Make an image of another one and a delta',
    load: () => import('./commands/delta/apply.ts'),
  },
  push: {
    brief: 'Put a delta beside its image in a registry',
    load: () => import('./commands/delta/push.ts'),
  },
  inspect: {
    brief: 'Tell what is in a delta and where its bytes went',
    load: () => import('./commands/delta/inspect.ts'),
  },
};

const HOOKS_COMMANDS: CommandTable = {
  check: { brief: 'Try hooks out on small images', load: () => import('./commands/hooks/check.ts') },
};

export const COMMANDS: CommandTable = {
  pull: { brief: 'Fetch an image into the store, ready to mount', load: () => import('./commands/pull.ts') },
  mount: { brief: 'Mount an image', load: () => import('./commands/mount.ts') },
  umount: {
    brief: 'Unmount and release all that the mount took',
    load: () => import('./commands/umount.ts'),
  },
  ls: { brief: 'List files of an image, without mounting it', load: () => import('./commands/ls.ts') },
  cat: { brief: 'Print files of an image', load: () => import('./commands/cat.ts') },
  cp: { brief: 'Copy files out of an image', load: () => import('./commands/cp.ts') },
  stat: { brief: 'Show all that is known of a file in an image', load: () => import('./commands/stat.ts') },
  checkout: {
    brief: 'Put an image together in a directory, without mounting it',
    load: () => import('./commands/checkout.ts'),
  },
  diff: {
    brief: 'Tell what changed from one image to another',
    load: () => import('./commands/diff.ts'),
  },
  images: { brief: 'List the images in the store', load: () => import('./commands/images.ts') },
  layers: {
    brief: 'List the layers in the store, or of one image',
    load: () => import('./commands/layers.ts'),
  },
  export: {
    brief: 'Write the exact tar of a layer, or an image as a docker archive',
    load: () => import('./commands/export.ts'),
  },
  rm: { brief: "Take an image's name out of the store", load: () => import('./commands/rm.ts') },
  gc: { brief: 'Delete what no image needs', load: () => import('./commands/gc.ts') },
  fsck: {
    brief: 'Check that the store is consistent; rebuild its index',
    load: () => import('./commands/fsck.ts'),
  },
  verify: { brief: 'Re-hash everything in the store', load: () => import('./commands/verify.ts') },
  config: { brief: 'Show or change what the store is set to', load: () => import('./commands/config.ts') },
  doctor: {
    brief: 'Tell what this machine can do, and what to install',
    load: () => import('./commands/doctor.ts'),
  },
  index: { brief: 'Write the metadata image of a tar', load: () => import('./commands/index-tar.ts') },
  convert: {
    brief: 'Turn one layer into one self-contained image',
    load: () => import('./commands/convert.ts'),
  },
  merge: { brief: 'Merge layer images into one metadata image', load: () => import('./commands/merge.ts') },
  disk: {
    brief: 'Make one virtual disk of an image, or look into one',
    load: () => import('./commands/disk.ts'),
  },
  delta: { brief: 'Binary differences between images', commands: DELTA_COMMANDS },
  image: { brief: "umoci's commands and flags, on an OCI layout", commands: IMAGE_COMMANDS, umoci: true },
  hooks: { brief: 'What a site plugs into unpack and repack', commands: HOOKS_COMMANDS },
  serve: {
    brief: 'Serve containerd as its snapshotter and differ',
    load: () => import('./commands/serve.ts'),
  },
  completion: { brief: 'Print a shell completion script', load: () => import('./commands/completion.ts') },
};

export const isFamily = (entry: CommandEntry | CommandFamily): entry is CommandFamily => 'commands' in entry;

/** Every command under its full name (`image ls`). */
export function allCommands(
  table: CommandTable = COMMANDS,
  before = '',
): [name: string, entry: CommandEntry][] {
  return Object.entries(table).flatMap(([word, entry]): [string, CommandEntry][] =>
    isFamily(entry) ? allCommands(entry.commands, `${before}${word} `) : [[before + word, entry]],
  );
}

/** Every family under its full name. */
export function allFamilies(
  table: CommandTable = COMMANDS,
  before = '',
): [name: string, family: CommandFamily][] {
  return Object.entries(table).flatMap(([word, entry]): [string, CommandFamily][] =>
    isFamily(entry) ? [[before + word, entry], ...allFamilies(entry.commands, `${before}${word} `)] : [],
  );
}

/** The command or family of that name in a table. */
export function findCommand(table: CommandTable, name: string): CommandEntry | CommandFamily | undefined {
  if (Object.hasOwn(table, name)) return table[name];
  return Object.values(table).find((entry) => !isFamily(entry) && entry.aliases?.includes(name));
}
