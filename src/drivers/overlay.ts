/**
 * Keeps each layer in a directory of its own and puts an overlayfs over them, as container engines do. Layers are made
 * side by side and shared by all images.
 */
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { callbackHook, type Hook, type HookLayer, type HookSubject } from '../hooks/index.ts';
import { checkPrivilege } from '../mount/privilege.ts';
import { upperPath } from '../mount/upper.ts';
import { syncFileSystem } from '../sys/sync.ts';
import { bundleMark, cacheName, cacheOption, prepareCache } from './cache.ts';
import { mountOverlay, overlayFolder, unmountOverlay } from './overlay-mount.ts';

export function overlayDriver(options: Readonly<Record<string, string>>): Hook {
  const cache = cacheOption('overlay', options);
  const layers = join(cache, 'layers');
  /** A layer that leans on those below is kept for its chain. */
  const find = (subject: HookSubject, layer: HookLayer): string | undefined =>
    [layer.diffID, layer.chainID]
      .map((digest) => join(layers, cacheName(digest, subject)))
      .find((path) => existsSync(path));
  const unfinished = (subject: HookSubject): string => join(cache, 'tmp', bundleMark(subject));
  return callbackHook(
    'overlay',
    {
      'unpack.ociv1.image.prepare': () => {
        checkPrivilege('make an overlay of layers');
        prepareCache('overlay', cache, 'layers');
        prepareCache('overlay', cache, 'tmp');
        return { deltas: true };
      },
      'unpack.ociv1.layer.try-skip': ({ layer, ...subject }) => {
        const directory = find(subject, layer);
        return directory === undefined ? null : { directory, diffIDs: [layer.diffID] };
      },
      'unpack.ociv1.layer.extract-to': ({ layer, ...subject }) => {
        const directory = join(unfinished(subject), String(layer.index));
        rmSync(directory, { recursive: true, force: true });
        mkdirSync(directory, { recursive: true, mode: 0o700 });
        return { directory };
      },
      'unpack.ociv1.layer.commit': ({ layer, target, portable, ...subject }) => {
        if (!target.startsWith(unfinished(subject))) return null;
        // A name in the cache says that all of the layer is on the disk.
        syncFileSystem(target);
        const name = cacheName(portable ? layer.diffID : layer.chainID, subject);
        try {
          renameSync(target, join(layers, name));
        } catch (error) {
          // Another unpack was first, and it has the same.
          if (!existsSync(join(layers, name))) throw error;
        }
        return {};
      },
      'unpack.ociv1.image.assemble': ({ directories, ...subject }) => {
        if (directories.length !== subject.layers.length) return null;
        const lowers = subject.layers.map((layer) => find(subject, layer));
        const missing = lowers.indexOf(undefined);
        if (missing >= 0) throw new Error(`layer ${missing} has gone from ${basename(layers)}`);
        mountOverlay(lowers as string[], subject.bundle, subject.rootfs);
        rmSync(unfinished(subject), { recursive: true, force: true });
        return {};
      },
      'unpack.ociv1.image.abort': (subject) => {
        unmountOverlay(subject.rootfs);
        rmSync(unfinished(subject), { recursive: true, force: true });
        rmSync(overlayFolder(subject.bundle), { recursive: true, force: true });
        return {};
      },
      'repack.ociv1.delta-list': ({ bundle }) => {
        const upper = upperPath(overlayFolder(bundle));
        return existsSync(upper) ? { overlay: upper } : null;
      },
    },
    { verify: 'manifest' },
  );
}
