/**
 * Takes images from veneer's own store: the merged image mounted, and an overlayfs above it for what is written.
 * Nothing is unpacked, and what changed is what is in the upper directory.
 */
import { existsSync, rmSync } from 'node:fs';
import { VeneerError } from '../errors.ts';
import { callbackHook, type Hook, type HookSubject } from '../hooks/index.ts';
import { applyMount } from '../mount/apply.ts';
import { probeCapabilities } from '../mount/capabilities.ts';
import { planMount } from '../mount/plan.ts';
import { mayMount } from '../mount/privilege.ts';
import { unmount } from '../mount/unmount.ts';
import { upperPath } from '../mount/upper.ts';
import { mountable } from '../store/mountable.ts';
import type { Store } from '../store/store.ts';
import { makeDirectory } from '../sys/make-directory.ts';
import { badOptions } from './cache.ts';
import { overlayFolder } from './overlay-mount.ts';

/** Why the store's image cannot be the root file system here; null when it can. */
function whyNot(store: Store, { maps, layers }: HookSubject): string | null {
  if (!mayMount()) return 'mounting needs root';
  const moved = [...maps.uid, ...maps.gid].some(({ container, host }) => container !== host);
  if (maps.rootless || moved) return 'owners in a mounted image cannot be mapped';
  const lacks = layers.filter(({ diffID }) => !existsSync(store.layout.layer(diffID)));
  return lacks.length === 0 ? null : `the store lacks ${lacks.length} of its ${layers.length} layers`;
}

/**
 * `openStore` opens the store at a root, or the default one; it is closed after each use. `required`: an image that it
 * does not have is an error, and none that is left to others.
 */
export function veneerDriver(
  options: Readonly<Record<string, string>>,
  openStore: (root?: string) => Store,
  required = false,
): Hook {
  const { root, ...others } = options;
  const inStore = async <T>(work: (store: Store) => T | Promise<T>): Promise<T> => {
    const store = openStore(root);
    try {
      return await work(store);
    } finally {
      store.close();
    }
  };
  const [other] = Object.keys(others);
  if (other !== undefined) throw badOptions('veneer', `it has no option ${JSON.stringify(other)}`);
  return callbackHook(
    'veneer',
    {
      'unpack.ociv1.image.prepare': (subject) =>
        inStore((store) => {
          const reason = whyNot(store, subject);
          if (reason === null) return { cumulative: true, deltas: true };
          if (required) throw cannotMount(subject, reason);
          return null;
        }),
      'unpack.ociv1.layer.try-skip': ({ layer, ...subject }, { signal }) =>
        inStore(async (store) => {
          if (layer.index < subject.layers.length - 1 || whyNot(store, subject) !== null) return null;
          try {
            await mountImage(store, subject, signal);
          } catch (error) {
            // Left there, it would say in repack that nothing was changed.
            rmSync(overlayFolder(subject.bundle), { recursive: true, force: true });
            throw error;
          }
          return { diffIDs: subject.layers.map(({ diffID }) => diffID) };
        }),
      'unpack.ociv1.image.abort': ({ bundle, rootfs, deeds }) =>
        inStore((store) => {
          if (!deeds.some(({ event }) => event === 'unpack.ociv1.layer.try-skip')) return null;
          try {
            unmount(rootfs, store.layout.run);
          } catch (error) {
            if (!(error instanceof VeneerError) || error.code !== 'mount/not-mounted') throw error;
          }
          rmSync(overlayFolder(bundle), { recursive: true, force: true });
          return {};
        }),
      'repack.ociv1.delta-list': ({ bundle }) => {
        const upper = upperPath(overlayFolder(bundle));
        return existsSync(upper) ? { overlay: upper } : null;
      },
    },
    { verify: 'manifest' },
  );
}

async function mountImage(
  store: Store,
  { layers, bundle, rootfs, source }: HookSubject,
  signal: AbortSignal,
): Promise<void> {
  makeDirectory(rootfs, 0o755);
  // The store must not be swept between the look at its files and the mount that holds them.
  const lock = store.share();
  try {
    const image = { layers: layers.map(({ diffID }) => ({ diffId: diffID })) };
    const images = await mountable(store, image, 'merged', { signal });
    const request = {
      target: rootfs,
      mode: 'merged',
      images,
      rw: { upper: overlayFolder(bundle) },
      options: [],
      backing: 'auto',
      runDir: store.layout.run,
      label: `${source.layout}:${source.tag}`,
    } as const;
    applyMount(planMount(request, probeCapabilities()));
  } finally {
    lock.release();
  }
}

function cannotMount({ source }: HookSubject, reason: string): VeneerError {
  return new VeneerError('hooks/failed', `Cannot mount ${source.layout}:${source.tag}: ${reason}`, {
    hint: `Get it into the store with "veneer pull oci:${source.layout}:${source.tag}" as root, or unpack with --storage plain.`,
  });
}
