/**
 * Keeps the root file system after each layer as a read-only snapshot, by chainID. An image whose layers are there is
 * one snapshot away; of another the layers that it shares from below.
 */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { VeneerError } from '../errors.ts';
import { callbackHook, type Hook, type HookLayer, type HookSubject } from '../hooks/index.ts';
import { createSnapshot, createSubvolume, destroySubvolume, isBtrfs, isSubvolume } from '../sys/btrfs.ts';
import { cacheName, cacheOption, prepareCache } from './cache.ts';

export function btrfsDriver(options: Readonly<Record<string, string>>): Hook {
  const cache = cacheOption('btrfs', options);
  const kept = (subject: HookSubject, layer: HookLayer): string =>
    join(cache, 'chains', cacheName(layer.chainID, subject));
  return callbackHook(
    'btrfs',
    {
      'unpack.ociv1.image.prepare': ({ bundle }) => {
        prepareCache('btrfs', cache, 'chains');
        const place = existsSync(bundle) ? bundle : dirname(bundle);
        for (const path of [cache, place]) {
          if (!isBtrfs(path)) {
            throw new VeneerError('hooks/failed', `Cannot make snapshots: ${path} is not on a btrfs`, {
              hint: 'The cache and the bundle have to be on one btrfs.',
            });
          }
        }
        return { cumulative: true };
      },
      'unpack.ociv1.layer.try-skip': ({ layer, ...subject }) => {
        const from = kept(subject, layer);
        if (!isSubvolume(from)) return null;
        createSnapshot(from, subject.rootfs, { readonly: false });
        return { diffIDs: subject.layers.slice(0, layer.index + 1).map(({ diffID }) => diffID) };
      },
      'unpack.ociv1.layer.pre-extract': ({ layer, target }) => {
        if (layer.index > 0 || existsSync(target)) return null;
        createSubvolume(target);
        return {};
      },
      'unpack.ociv1.layer.commit': ({ layer, target, ...subject }) => {
        if (target !== subject.rootfs || !isSubvolume(target)) return null;
        try {
          createSnapshot(target, kept(subject, layer), { readonly: true });
        } catch (error) {
          // Another unpack was first, and it has the same.
          if (!(error instanceof VeneerError) || error.code !== 'sys/EEXIST') throw error;
        }
        return {};
      },
      'unpack.ociv1.image.abort': ({ rootfs }) => {
        if (isSubvolume(rootfs)) destroySubvolume(rootfs);
        return {};
      },
    },
    { verify: 'manifest' },
  );
}
