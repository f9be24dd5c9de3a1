/**
 * Mounting: fsopen(2), fsconfig(2), fsmount(2), move_mount(2) (Linux 5.2), and the older mount(2), umount2(2).
 *
 * A file system context is a file descriptor from {@link openFs}; {@link mountFs} turns it into a mount that
 * is attached nowhere and goes away with its descriptor. Close both with `fs.closeSync`.
 */
import { readSync } from 'node:fs';
import { VeneerError } from '../errors.ts';
import { check, cString, type SysPath, showPath, sysError } from './error.ts';
import { errno, libc } from './libc.ts';

// <asm-generic/unistd.h>: the same numbers on every architecture that Node runs on.
const SYS_move_mount = 429;
const SYS_fsopen = 430;
const SYS_fsconfig = 431;
const SYS_fsmount = 432;

// <linux/mount.h>
const FSOPEN_CLOEXEC = 1;
const FSMOUNT_CLOEXEC = 1;
const FSCONFIG_SET_FLAG = 0;
const FSCONFIG_SET_STRING = 1;
const FSCONFIG_SET_FD = 5;
const FSCONFIG_CMD_CREATE = 6;
const MOVE_MOUNT_F_EMPTY_PATH = 4;
const AT_FDCWD = -100;
const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;

/** fsconfig(2) takes string values of at most 255 bytes. */
export const MAX_FS_STRING = 255;
/** mount(2) takes one page of option text, its final NUL included. */
export const MAX_MOUNT_DATA = 4095;

/** Flags of fsmount(2): `MOUNT_ATTR_*` of <linux/mount.h>. */
export const MOUNT_ATTR = {
  RDONLY: 0x1,
  NOSUID: 0x2,
  NODEV: 0x4,
  NOEXEC: 0x8,
  NOATIME: 0x10,
  STRICTATIME: 0x20,
  NODIRATIME: 0x80,
  NOSYMFOLLOW: 0x200000,
} as const;

/** Flags of mount(2): `MS_*` of <sys/mount.h>. */
export const MS = {
  RDONLY: 0x1,
  NOSUID: 0x2,
  NODEV: 0x4,
  NOEXEC: 0x8,
  NOSYMFOLLOW: 0x100,
  NOATIME: 0x400,
  NODIRATIME: 0x800,
  PRIVATE: 0x40000,
  STRICTATIME: 0x1000000,
} as const;

/** A new, empty context for file systems of `type`. `sys/ENODEV`: this kernel does not have it. */
export function openFs(type: string): number {
  return check(libc('fsopen')(SYS_fsopen, cString(type), FSOPEN_CLOEXEC), `open a context for ${type}`);
}

/** Sets a parameter without a value. */
export function setFsFlag(fd: number, key: string): void {
  configure(fd, FSCONFIG_SET_FLAG, key, null, 0, key);
}

/** Sets a parameter to a text of at most {@link MAX_FS_STRING} bytes. */
export function setFsString(fd: number, key: string, value: SysPath): void {
  configure(fd, FSCONFIG_SET_STRING, key, cString(value), 0, `${key}=${showPath(value)}`);
}

/** Sets a parameter to an open file. Closing `value` afterwards changes nothing. */
export function setFsFd(fd: number, key: string, value: number): void {
  configure(fd, FSCONFIG_SET_FD, key, null, value, key);
}

/** Makes the superblock from all that was set. */
export function createFs(fd: number): void {
  configure(fd, FSCONFIG_CMD_CREATE, null, null, 0, 'the file system');
}

/** A detached mount of the created superblock; `attributes` are {@link MOUNT_ATTR} bits. */
export function mountFs(fd: number, attributes: number): number {
  const mount = libc('fsmount')(SYS_fsmount, fd, FSMOUNT_CLOEXEC, attributes);
  if (mount === -1) throw contextError(fd, errno(), 'make a mount');
  return mount;
}

/** Attaches a detached mount at a directory. */
export function attachMount(mountFd: number, target: SysPath): void {
  const result = libc('moveMount')(
    SYS_move_mount,
    mountFd,
    cString(''),
    AT_FDCWD,
    cString(target),
    MOVE_MOUNT_F_EMPTY_PATH,
  );
  check(result, `attach the mount at ${showPath(target)}`);
}

/** mount(2). `data` holds at most {@link MAX_MOUNT_DATA} bytes; `flags` are {@link MS} bits. */
export function mountOld(source: SysPath, target: SysPath, type: string, flags: number, data: string): void {
  if (Buffer.byteLength(data) > MAX_MOUNT_DATA) {
    throw new VeneerError(
      'sys/EINVAL',
      `Cannot mount at ${showPath(target)}: the options fill more than a page`,
    );
  }
  const result = libc('mount')(cString(source), cString(target), cString(type), flags, cString(data));
  check(result, `mount ${type} at ${showPath(target)}`);
}

/** umount2(2) of the topmost mount at `target`; `lazy` detaches it now and releases it when its last user ends. */
export function detachMount(target: SysPath, options: { lazy: boolean }): void {
  const flags = UMOUNT_NOFOLLOW | (options.lazy ? MNT_DETACH : 0);
  check(libc('umount2')(cString(target), flags), `unmount ${showPath(target)}`);
}

/** chdir(2) of the whole process; unlike `process.chdir` it also works inside a worker. */
export function changeDirectory(path: SysPath): void {
  check(libc('chdir')(cString(path)), `change to ${showPath(path)}`);
}

function configure(
  fd: number,
  command: number,
  key: string | null,
  value: Buffer | null,
  aux: number,
  what: string,
): void {
  const result = libc('fsconfig')(SYS_fsconfig, fd, command, key === null ? null : cString(key), value, aux);
  if (result === -1)
    throw contextError(fd, errno(), command === FSCONFIG_CMD_CREATE ? `create ${what}` : `set ${what}`);
}

/** The error of `number` with what the kernel wrote into the context's log. */
function contextError(fd: number, number: number, what: string): VeneerError {
  const log = readFsLog(fd);
  const error = sysError(number, what);
  if (log.length === 0) return error;
  return new VeneerError(error.code, `${error.message}: ${log.join('; ')}`);
}

/** Takes all messages from a context's log: text after "e ", "w " or "i ", one a read. */
export function readFsLog(fd: number): string[] {
  const lines: string[] = [];
  const buffer = Buffer.alloc(1024);
  // The kernel keeps at most eight messages; reading past the last is ENODATA.
  for (let i = 0; i < 16; i++) {
    let length: number;
    try {
      length = readSync(fd, buffer);
    } catch {
      break;
    }
    const line = buffer.toString('utf8', 0, length).trim();
    lines.push(/^[ewi] /.test(line) ? line.slice(2) : line);
  }
  return lines;
}
