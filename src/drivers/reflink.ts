/**
 * Keeps unpacked images on a file system that can share blocks between files (XFS, btrfs) and makes root file systems
 * that share them: every file is made, none is read or written. For disks on which snapshots of directories do not go.
 */
import { spawn } from 'node:child_process';
import { existsSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { VeneerError } from '../errors.ts';
import { callbackHook, type Hook, type HookLayer, type HookSubject } from '../hooks/index.ts';
import { isMounted } from '../mount/mountinfo.ts';
import { syncFileSystem } from '../sys/sync.ts';
import { bundleMark, cacheName, cacheOption, prepareCache } from './cache.ts';

export function reflinkDriver(options: Readonly<Record<string, string>>): Hook {
  const cache = cacheOption('reflink', options);
  const kept = (subject: HookSubject, layer: HookLayer): string =>
    join(cache, 'trees', cacheName(layer.chainID, subject));
  const unfinished = (subject: HookSubject): string => join(cache, 'tmp', bundleMark(subject));
  return callbackHook(
    'reflink',
    {
      'unpack.ociv1.image.prepare': () => {
        prepareCache('reflink', cache, 'trees');
        prepareCache('reflink', cache, 'tmp');
        return { cumulative: true };
      },
      'unpack.ociv1.layer.try-skip': async ({ layer, ...subject }, { signal }) => {
        const from = kept(subject, layer);
        if (!existsSync(from)) return null;
        await shareTree(from, subject.rootfs, signal);
        return { diffIDs: subject.layers.slice(0, layer.index + 1).map(({ diffID }) => diffID) };
      },
      'unpack.ociv1.layer.commit': async ({ layer, target, ...subject }, { signal }) => {
        // A tree for each layer below would cost as much as the image.
        if (layer.index < subject.layers.length - 1 || existsSync(kept(subject, layer))) return null;
        rmSync(unfinished(subject), { recursive: true, force: true });
        await shareTree(target, unfinished(subject), signal);
        // A name in the cache says that all of the tree is on the disk.
        syncFileSystem(cache);
        try {
          renameSync(unfinished(subject), kept(subject, layer));
        } catch (error) {
          // Another unpack was first, and it has the same.
          if (!existsSync(kept(subject, layer))) throw error;
          rmSync(unfinished(subject), { recursive: true });
        }
        return {};
      },
      'unpack.ociv1.image.abort': (subject) => {
        rmSync(unfinished(subject), { recursive: true, force: true });
        // Another hook's mount holds what is not ours to remove.
        if (!isMounted(subject.rootfs)) rmSync(subject.rootfs, { recursive: true, force: true });
        return {};
      },
    },
    { verify: 'manifest' },
  );
}

/** A copy with all attributes and hard links whose files share their blocks with those of `from`. */
async function shareTree(from: string, to: string, signal: AbortSignal): Promise<void> {
  const child = spawn('cp', ['-aT', '--reflink=always', '--', from, to], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { PATH: process.env.PATH, LC_ALL: 'C' },
    signal,
  });
  let message = '';
  child.stderr.on('data', (chunk: Buffer) => {
    if (message.length < 1000) message += chunk.toString('utf8');
  });
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (status === 0) return;
  const [line] = message.split('\n');
  throw new VeneerError('hooks/failed', `Cannot share the files of ${from}: ${line}`, {
    hint: 'The cache and the bundle have to be on one file system that can share blocks: XFS or btrfs.',
  });
}
