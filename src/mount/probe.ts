/** Real tries with tiny files and mounts that are attached nowhere. */
import { closeSync, existsSync, mkdtempSync, openSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { planImage } from '../erofs/plan.ts';
import { writeImage } from '../erofs/writer.ts';
import { VeneerError } from '../errors.ts';
import { cloneFile } from '../sys/inode.ts';
import { attachLoop } from '../sys/loop.ts';
import { createFs, MOUNT_ATTR, mountFs, openFs, setFsFlag, setFsString } from '../sys/mount-api.ts';
import { supportsVerity } from '../sys/verity.ts';
import { S_IFDIR, S_IFIFO, TreeNode } from '../tree/node.ts';
import type { Backing } from './types.ts';

export type Attempt = { readonly ok: true } | { readonly ok: false; readonly reason: string };

/** What is in a tiny image. */
export const NAME = 'probe';

/** Runs `work` with a private directory beside the store, or null where none can be made; removes it. */
export function withScratch<T>(directory: string, work: (scratch: string | null) => T): T {
  const scratch = makeScratch(nearestExisting(resolve(directory)));
  try {
    return work(scratch);
  } finally {
    if (scratch !== null) rmSync(scratch, { recursive: true, force: true });
  }
}

function makeScratch(parent: string): string | null {
  try {
    return mkdtempSync(join(parent, '.veneer-doctor-'));
  } catch {
    return null;
  }
}

function nearestExisting(directory: string): string {
  let path = directory;
  while (!existsSync(path)) path = dirname(path);
  return path;
}

/** Mounts an image of one entry and reads its root. */
export function tryErofs(scratch: string | null, blockSize: number, backing: Backing): Attempt {
  return attempt(() => {
    const path = writeTinyImage(scratch, blockSize);
    const loop = backing === 'loop' ? attachLoop(path, 512) : null;
    try {
      withFs('erofs', (fs) => {
        setFsFlag(fs, 'ro');
        setFsString(fs, 'source', loop?.path ?? path);
        createFs(fs);
        const mount = mountFs(fs, MOUNT_ATTR.RDONLY);
        try {
          const names = readdirSync(`/proc/self/fd/${mount}`).join();
          if (names !== NAME)
            throw new VeneerError('io/failed', `Cannot read the mounted image: it holds ${names}`);
        } finally {
          closeSync(mount);
        }
      });
    } finally {
      if (loop !== null) closeSync(loop.fd);
    }
  });
}

export function tryLoop(scratch: string | null): Attempt {
  return attempt(() => closeSync(attachLoop(writeTinyImage(scratch, 4096), 512).fd));
}

export function tryOverlay(): Attempt {
  return attempt(() => withFs('overlay', () => undefined));
}

/** Null when there is no place to try. */
export function tryReflink(scratch: string | null): boolean | null {
  return tryOnFile(scratch, (source, path) => {
    const target = openSync(`${path}-clone`, 'w');
    try {
      cloneFile(source, target);
      return true;
    } catch {
      return false;
    } finally {
      closeSync(target);
    }
  });
}

/** Null when there is no place to try. */
export function tryVerity(scratch: string | null): boolean | null {
  return tryOnFile(scratch, supportsVerity);
}

function tryOnFile(scratch: string | null, work: (fd: number, path: string) => boolean): boolean | null {
  if (scratch === null) return null;
  const path = join(scratch, 'file');
  writeFileSync(path, Buffer.alloc(4096));
  const fd = openSync(path, 'r');
  try {
    return work(fd, path);
  } finally {
    closeSync(fd);
  }
}

/** An image of one entry in the scratch directory. */
export function writeTinyImage(scratch: string | null, blockSize: number): string {
  if (scratch === null)
    throw new VeneerError('io/failed', 'Cannot try it: no file can be written beside the store');
  const root = new TreeNode(S_IFDIR | 0o755);
  root.children!.set(NAME, new TreeNode(S_IFIFO | 0o600));
  const plan = planImage({ root, sources: [], findings: [] }, { blockSize });
  const pieces: Buffer[] = [];
  writeImage(plan, { write: (chunk) => pieces.push(Buffer.from(chunk)) }, () => Buffer.alloc(0));
  const path = join(scratch, `tiny-${blockSize}.erofs`);
  writeFileSync(path, Buffer.concat(pieces));
  return path;
}

function withFs(type: string, work: (fs: number) => void): void {
  const fs = openFs(type);
  try {
    work(fs);
  } finally {
    closeSync(fs);
  }
}

export function attempt(work: () => void): Attempt {
  try {
    work();
    return { ok: true };
  } catch (error) {
    return { ok: false, reason: (error as Error).message };
  }
}
