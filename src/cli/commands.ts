/**
 * The table of commands. Each is loaded only when it is the one that runs; and commands import the modules they
 * need instead of a room's index, for every module costs a part of a millisecond at each start.
 */
import type { CliCommand } from './command.ts';

export interface CommandEntry {
  readonly brief: string;
  load(): Promise<{ readonly default: CliCommand }>;
}

export const COMMANDS: Readonly<Record<string, CommandEntry>> = {
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
  diff: {
    brief: 'Tell what changed from one image to another',
    load: () => import('./commands/diff.ts'),
  },
  images: { brief: 'List the images in the store', load: () => import('./commands/images.ts') },
  layers: {
    brief: 'List the layers in the store, or of one image',
    load: () => import('./commands/layers.ts'),
  },
  rm: { brief: "Take an image's name out of the store", load: () => import('./commands/rm.ts') },
  gc: { brief: 'Delete what no image needs', load: () => import('./commands/gc.ts') },
  fsck: {
    brief: 'Check that the store is consistent; rebuild its index',
    load: () => import('./commands/fsck.ts'),
  },
  verify: { brief: 'Re-hash everything in the store', load: () => import('./commands/verify.ts') },
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
  completion: { brief: 'Print a shell completion script', load: () => import('./commands/completion.ts') },
};
