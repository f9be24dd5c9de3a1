/** What `unpack` and `raw unpack` have in common on the command line. */
import type { UnpackOptions } from '../../bundle/unpack-options.ts';
import type { CliContext } from '../context.ts';
import type { ImageFlag } from './define.ts';
import { idMapsOf, MAP_FLAGS, type MapFlags } from './map-flags.ts';

export interface UnpackFlags extends MapFlags {
  readonly image?: string;
  readonly 'keep-dirlinks': boolean;
}

export const UNPACK_FLAGS = {
  'keep-dirlinks': { brief: "Go through lower layers' symlinks to directories instead of replacing them" },
  ...MAP_FLAGS,
} as const satisfies Record<string, ImageFlag>;

export function unpackOptions(context: CliContext, flags: UnpackFlags): UnpackOptions {
  return {
    maps: { ...idMapsOf(flags), rootless: flags.rootless },
    keepDirlinks: flags['keep-dirlinks'],
    signal: context.signal,
  };
}
