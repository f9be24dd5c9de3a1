/** The hooks that come with veneer, by name. */
import type { MakeDriver } from '../hooks/index.ts';
import type { Store } from '../store/store.ts';
import { btrfsDriver } from './btrfs.ts';
import { badOptions } from './cache.ts';
import { overlayDriver } from './overlay.ts';
import { reflinkDriver } from './reflink.ts';
import { veneerDriver } from './veneer.ts';

export const DRIVER_NAMES = ['btrfs', 'overlay', 'reflink', 'veneer'] as const;

/** `openStore` opens the store at a root, or the one that is used otherwise. */
export function driverMaker(openStore: (root?: string) => Store): MakeDriver {
  return (name, options) => {
    switch (name) {
      case 'btrfs':
        return btrfsDriver(options);
      case 'overlay':
        return overlayDriver(options);
      case 'reflink':
        return reflinkDriver(options);
      case 'veneer':
        return veneerDriver(options, openStore);
    }
    throw badOptions(JSON.stringify(name), `there is none of this name, only ${DRIVER_NAMES.join(', ')}`);
  };
}
