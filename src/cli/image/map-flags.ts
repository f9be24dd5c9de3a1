/** The flags of commands that make trees or containers for other ids than the image's. */
import { type IdMap, parseIdMap } from '../../rootfs/id-map.ts';
import type { ImageFlag } from './define.ts';

export interface MapFlags {
  readonly 'uid-map': readonly string[];
  readonly 'gid-map': readonly string[];
  readonly rootless: boolean;
}

export const MAP_FLAGS = {
  'uid-map': { brief: 'Map user ids', placeholder: 'CONTAINER:HOST[:SIZE]', many: true },
  'gid-map': { brief: 'Map group ids', placeholder: 'CONTAINER:HOST[:SIZE]', many: true },
  rootless: { brief: 'For a user without privileges; root in the container is you, unless mapped otherwise' },
} as const satisfies Record<string, ImageFlag>;

export function idMapsOf(flags: MapFlags): {
  readonly uidMaps: readonly IdMap[];
  readonly gidMaps: readonly IdMap[];
} {
  const mapsOf = (flag: 'uid-map' | 'gid-map', own: number): IdMap[] => {
    const given = flags[flag].map((text) => parseIdMap(text, flag));
    return flags.rootless && given.length === 0 ? [{ container: 0, host: own, size: 1 }] : given;
  };
  return {
    uidMaps: mapsOf('uid-map', process.geteuid?.() ?? 0),
    gidMaps: mapsOf('gid-map', process.getegid?.() ?? 0),
  };
}
