/**
 * Mounts without root, by erofsfuse (erofs-utils): a process of the user's reads the image, and the kernel asks it.
 *
 * Where this process may mount (root, or in a user namespace of its own) overlayfs can be put above, which makes it
 * writable. Killed at any moment, it leaves an entry below `runDir` at most, or a mount that `unmount` still knows.
 */
import { spawnSync } from 'node:child_process';
import { accessSync, closeSync, constants, mkdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { VeneerError } from '../errors.ts';
import {
  attachMount,
  createFs,
  detachMount,
  mountFs,
  openFs,
  setFsFlag,
  setFsString,
} from '../sys/mount-api.ts';
import { overlaySource, readBootId, readNamespace } from './alive.ts';
import { checkImage } from './check-image.ts';
import { deleteEntry, type Entry, makeEntry, retireEntry, writeRecord } from './entry.ts';
import { findTopMount, type MountInfo, readMountInfo } from './mountinfo.ts';
import { attributeBits, parseOptions } from './options.ts';
import { explainMountError, mayMount, wrapSystemError } from './privilege.ts';
import { sweepStale } from './sweep.ts';
import { resolveTarget } from './target.ts';
import type { ErofsImage, MountRecord } from './types.ts';
import { type PreparedUpper, prepareUpper, upperPath, workPath } from './upper.ts';

/** What /proc/self/mountinfo calls these mounts. */
export const FUSE_TYPE = 'fuse.erofs';
export const PROGRAM = 'erofsfuse';
const INSTALL =
  'Install erofsfuse (Debian: erofsfuse, of erofs-utils 1.8 or newer) and fuse3; `veneer doctor` tells what is missing.';

export interface FuseRequest {
  readonly target: string;
  readonly image: ErofsImage;
  readonly options: readonly string[];
  /** As in MountRequest. */
  readonly rw?: { readonly upper?: string };
  readonly runDir: string;
  readonly label: string;
  /** Where erofsfuse is looked for: a PATH. */
  readonly path: string;
}

/** The path of a program of this name, or null. */
export function findProgram(name: string, path: string): string | null {
  for (const folder of path.split(delimiter)) {
    if (folder === '') continue;
    try {
      accessSync(join(folder, name), constants.X_OK);
      return join(folder, name);
    } catch {
      // Not here: the next one.
    }
  }
  return null;
}

/** Mounts. Throws `mount/unsupported` without erofsfuse, `mount/not-permitted`, `mount/bad-target`, … */
export function mountByFuse(request: FuseRequest): MountRecord {
  const { image, rw, runDir } = request;
  const program = findProgram(PROGRAM, request.path);
  if (program === null) {
    throw new VeneerError(
      'mount/unsupported',
      `Cannot mount ${request.label} without root: there is no ${PROGRAM}`,
      {
        hint: INSTALL,
      },
    );
  }
  if (rw !== undefined && !mayMount()) {
    throw new VeneerError(
      'mount/not-permitted',
      `Cannot mount ${request.label} writable: overlayfs wants CAP_SYS_ADMIN`,
      {
        hint: 'In a user namespace of your own you have it: run `unshare -Urm`, and this again in the shell that it starts.',
      },
    );
  }
  const target = resolveTarget(request.target);
  checkImage(image, request.label);
  sweepStale(runDir);
  const entry = makeEntry(runDir);
  try {
    return rw === undefined
      ? mountReadOnly(request, program, entry, target)
      : mountWritable(request, program, entry, target, rw);
  } catch (error) {
    deleteEntry(retireEntry(entry));
    throw wrapSystemError(error, `mount at ${target}`);
  } finally {
    closeSync(entry.fd);
  }
}

function mountReadOnly(request: FuseRequest, program: string, entry: Entry, target: string): MountRecord {
  const flags = parseOptions(request.options, false);
  const mount = startFuse(program, request, target, flags);
  return note(entry, describe(request, entry, target, mount, flags, null, false), () =>
    detachFuse(target, { lazy: true }),
  );
}

/** Writes the record of what is mounted; `undo`es that where it cannot. */
function note(entry: Entry, record: MountRecord, undo: () => void): MountRecord {
  try {
    writeRecord(entry, record);
    return record;
  } catch (error) {
    undo();
    throw error;
  }
}

/** overlayfs, whose own attributes are of the `user` kind, for the other ones need root. */
function mountWritable(
  request: FuseRequest,
  program: string,
  entry: Entry,
  target: string,
  rw: { readonly upper?: string },
): MountRecord {
  const flags = parseOptions(request.options, true);
  const lower = join(entry.path, 'lower');
  mkdirSync(lower, { mode: 0o700 });
  startFuse(program, request, lower, ['ro', 'nosuid', 'nodev']);
  let prepared: PreparedUpper | null = null;
  try {
    if (rw.upper !== undefined) prepared = prepareUpper(rw.upper, request.runDir);
    const directory = prepared?.directory ?? entry.path;
    if (prepared === null)
      for (const path of [upperPath(directory), workPath(directory)]) mkdirSync(path, { mode: 0o700 });
    const fs = explainMountError(() => openFs('overlay'));
    try {
      setFsString(fs, 'source', overlaySource(entry.id));
      setFsFlag(fs, 'userxattr');
      setFsString(fs, 'lowerdir', lower);
      setFsString(fs, 'upperdir', upperPath(directory));
      setFsString(fs, 'workdir', workPath(directory));
      explainMountError(() => createFs(fs), 'the overlay');
      const mount = mountFs(fs, attributeBits(flags));
      try {
        attachMount(mount, target);
      } finally {
        closeSync(mount);
      }
    } finally {
      closeSync(fs);
    }
    const mount = findTopMount(readMountInfo(), target)!;
    const record = describe(request, entry, target, mount, flags, directory, prepared === null);
    return note(entry, record, () => detachMount(target, { lazy: true }));
  } finally {
    // The overlay holds it by itself, and it ends with that.
    detachMount(lower, { lazy: true });
    if (prepared !== null) closeSync(prepared.fd);
  }
}

/** Starts erofsfuse, which goes into the background when the mount is there. */
export function startFuse(
  program: string,
  { image, label }: Pick<FuseRequest, 'image' | 'label'>,
  target: string,
  flags: readonly string[],
): MountInfo {
  const before = findTopMount(readMountInfo(), target)?.mountId;
  // libfuse wants commas in values escaped.
  const name = image.primary.replace(/[\\,]/g, '\\$&');
  const words = [
    '-o',
    [...flags, 'subtype=erofs', `fsname=${name}`].join(','),
    ...image.devices.map(({ path }) => `--device=${path}`),
    image.primary,
    target,
  ];
  const ran = spawnSync(program, words, { stdio: ['ignore', 'ignore', 'pipe'], encoding: 'utf8' });
  const mount = findTopMount(readMountInfo(), target);
  if (ran.status === 0 && mount !== undefined && mount.mountId !== before) return mount;
  const reason = ran.error?.message ?? lastLine(ran.stderr);
  throw new VeneerError('mount/refused', `Cannot mount ${label} at ${target}: ${PROGRAM}: ${reason}`, {
    hint: fuseHint(reason),
  });
}

function fuseHint(reason: string): string {
  if (/\/dev\/fuse.*(?:permission denied|not permitted)/i.test(reason))
    return 'Your user may not open /dev/fuse: root can allow it (chmod 0666 /dev/fuse, as udev does); a container must be given the device.';
  if (/fuse/.test(reason)) return INSTALL;
  return 'The directory must be yours; `veneer doctor` tells what this machine can do.';
}

function describe(
  { image, label }: FuseRequest,
  entry: Entry,
  target: string,
  mount: MountInfo,
  flags: readonly string[],
  upper: string | null,
  ephemeral: boolean,
): MountRecord {
  return {
    id: entry.id,
    label,
    target,
    mode: 'merged',
    backing: 'fuse',
    flags,
    images: [image],
    upper,
    ephemeral,
    type: upper === null ? FUSE_TYPE : 'overlay',
    mountId: mount.mountId,
    device: mount.device,
    namespace: readNamespace(),
    boot: readBootId(),
  };
}

/** Unmounts; for those who may not, fusermount3 does it (it is setuid root). */
export function detachFuse(target: string, { lazy }: { readonly lazy: boolean }): void {
  if (mayMount()) {
    detachMount(target, { lazy });
    return;
  }
  const words = ['-u', ...(lazy ? ['-z'] : []), '--', target];
  const ran = spawnSync('fusermount3', words, { stdio: ['ignore', 'ignore', 'pipe'], encoding: 'utf8' });
  if (ran.status === 0) return;
  const reason = ran.error === undefined ? lastLine(ran.stderr) : 'there is no fusermount3';
  throw new VeneerError(
    /busy/i.test(reason) ? 'sys/EBUSY' : 'mount/not-permitted',
    `Cannot unmount ${target}: ${reason}`,
    { hint: INSTALL },
  );
}

const lastLine = (text: string | null): string =>
  (text ?? '')
    .trim()
    .split('\n')
    .at(-1)!
    .replace(/^fuse(?:rmount3?)?: /, '') || 'it says nothing';
