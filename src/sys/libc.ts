/**
 * libc.so.6 through koffi: the only importer of the FFI library.
 *
 * The library costs several milliseconds to load, so nothing is loaded before the first call, and each
 * function is bound when it is first asked for. Calls are synchronous; they may be made inside workers.
 */
import { createRequire } from 'node:module';
import type koffiTypes from 'koffi';

type Koffi = typeof koffiTypes;

/** A pointer argument: bytes that the call reads or fills, or NULL. */
export type Pointer = Uint8Array | null;

/** What is called. 64-bit integers pass as safe integers. */
interface Libc {
  flock(fd: number, operation: number): number;
  syncfs(fd: number): number;
  dup2(from: number, to: number): number;
  syncFileRange(fd: number, offset: number, size: number, flags: number): number;
  socket(family: number, type: number, protocol: number): number;
  connect(fd: number, address: Pointer, length: number): number;
  clock_gettime(clock: number, time: Pointer): number;
  ioctlPointer(fd: number, request: number, argument: Pointer): number;
  ioctlValue(fd: number, request: number, argument: number): number;
  mount(source: Pointer, target: Pointer, type: Pointer, flags: number, data: Pointer): number;
  umount2(target: Pointer, flags: number): number;
  chdir(path: Pointer): number;
  mknod(path: Pointer, mode: number, device: number): number;
  utimensat(dirFd: number, path: Pointer, times: Pointer, flags: number): number;
  renameat2(oldDirFd: number, oldPath: Pointer, newDirFd: number, newPath: Pointer, flags: number): number;
  lgetxattr(path: Pointer, name: Pointer, value: Pointer, size: number): number;
  lsetxattr(path: Pointer, name: Pointer, value: Pointer, size: number, flags: number): number;
  llistxattr(path: Pointer, list: Pointer, size: number): number;
  lremovexattr(path: Pointer, name: Pointer): number;
  openat2(nr: number, dirFd: number, path: Pointer, how: Pointer, size: number): number;
  openat(dirFd: number, path: Pointer, flags: number, mode: number): number;
  mkdirat(dirFd: number, path: Pointer, mode: number): number;
  symlinkat(target: Pointer, dirFd: number, path: Pointer): number;
  linkat(oldDirFd: number, oldPath: Pointer, newDirFd: number, newPath: Pointer, flags: number): number;
  mknodat(dirFd: number, path: Pointer, mode: number, device: number): number;
  fchownat(dirFd: number, path: Pointer, uid: number, gid: number, flags: number): number;
  futimens(fd: number, times: Pointer): number;
  fsetxattr(fd: number, name: Pointer, value: Pointer, size: number, flags: number): number;
  statx(dirFd: number, path: Pointer, flags: number, mask: number, out: Pointer): number;
  copyFileRange(
    from: number,
    fromAt: Pointer,
    to: number,
    toAt: Pointer,
    size: number,
    flags: number,
  ): number;
  moveMount(nr: number, fromFd: number, from: Pointer, toFd: number, to: Pointer, flags: number): number;
  fsopen(nr: number, type: Pointer, flags: number): number;
  fsconfig(nr: number, fd: number, command: number, key: Pointer, value: Pointer, aux: number): number;
  addKey(
    nr: number,
    type: Pointer,
    description: Pointer,
    payload: Pointer,
    size: number,
    ring: number,
  ): number;
  fsmount(nr: number, fd: number, flags: number, attributes: number): number;
}

type Prototype = readonly [symbol: string, result: string, args: readonly string[]];

// The mount API goes through syscall(2), because glibc has wrappers only since 2.36.
// Declaring ioctl, openat and syscall without "..." is right on x86-64 and arm64 Linux: integer arguments of
// variadic functions travel in the same registers there.
const PROTOTYPES: Record<keyof Libc, Prototype> = {
  flock: ['flock', 'int', ['int', 'int']],
  socket: ['socket', 'int', ['int', 'int', 'int']],
  connect: ['connect', 'int', ['int', 'void *', 'uint']],
  clock_gettime: ['clock_gettime', 'int', ['int', 'void *']],
  ioctlPointer: ['ioctl', 'int', ['int', 'ulong', 'void *']],
  ioctlValue: ['ioctl', 'int', ['int', 'ulong', 'long']],
  mount: ['mount', 'int', ['void *', 'void *', 'void *', 'ulong', 'void *']],
  umount2: ['umount2', 'int', ['void *', 'int']],
  chdir: ['chdir', 'int', ['void *']],
  mknod: ['mknod', 'int', ['void *', 'uint', 'ulong']],
  utimensat: ['utimensat', 'int', ['int', 'void *', 'void *', 'int']],
  renameat2: ['renameat2', 'int', ['int', 'void *', 'int', 'void *', 'uint']],
  lgetxattr: ['lgetxattr', 'long', ['void *', 'void *', 'void *', 'size_t']],
  lsetxattr: ['lsetxattr', 'int', ['void *', 'void *', 'void *', 'size_t', 'int']],
  llistxattr: ['llistxattr', 'long', ['void *', 'void *', 'size_t']],
  lremovexattr: ['lremovexattr', 'int', ['void *', 'void *']],
  openat2: ['syscall', 'long', ['long', 'int', 'void *', 'void *', 'size_t']],
  copyFileRange: ['copy_file_range', 'long', ['int', 'void *', 'int', 'void *', 'size_t', 'uint']],
  syncfs: ['syncfs', 'int', ['int']],
  dup2: ['dup2', 'int', ['int', 'int']],
  syncFileRange: ['sync_file_range', 'int', ['int', 'long', 'long', 'uint']],
  openat: ['openat', 'int', ['int', 'void *', 'int', 'uint']],
  mkdirat: ['mkdirat', 'int', ['int', 'void *', 'uint']],
  symlinkat: ['symlinkat', 'int', ['void *', 'int', 'void *']],
  linkat: ['linkat', 'int', ['int', 'void *', 'int', 'void *', 'int']],
  mknodat: ['mknodat', 'int', ['int', 'void *', 'uint', 'ulong']],
  fchownat: ['fchownat', 'int', ['int', 'void *', 'uint', 'uint', 'int']],
  futimens: ['futimens', 'int', ['int', 'void *']],
  fsetxattr: ['fsetxattr', 'int', ['int', 'void *', 'void *', 'size_t', 'int']],
  statx: ['statx', 'int', ['int', 'void *', 'int', 'uint', 'void *']],
  moveMount: ['syscall', 'long', ['long', 'int', 'void *', 'int', 'void *', 'uint']],
  fsopen: ['syscall', 'long', ['long', 'void *', 'uint']],
  fsconfig: ['syscall', 'long', ['long', 'int', 'uint', 'void *', 'void *', 'int']],
  addKey: ['syscall', 'long', ['long', 'void *', 'void *', 'void *', 'size_t', 'int']],
  fsmount: ['syscall', 'long', ['long', 'int', 'uint', 'uint']],
};

let koffi: Koffi | undefined;
let library: ReturnType<Koffi['load']> | undefined;
const bound: Partial<Libc> = {};

/** The named function, bound on first use. */
export function libc<K extends keyof Libc>(name: K): Libc[K] {
  const known = bound[name];
  if (known !== undefined) return known;
  library ??= loadLibrary('libc.so.6');
  const [symbol, result, args] = PROTOTYPES[name];
  const fn = library.func(symbol, result, [...args]) as unknown as Libc[K];
  bound[name] = fn;
  return fn;
}

/** Loads a shared library by its soname. Throws when it is not there. */
export function loadLibrary(soname: string): ReturnType<Koffi['load']> {
  koffi ??= createRequire(import.meta.url)('koffi') as Koffi;
  return koffi.load(soname);
}

/** Whether a call was made, or a library loaded, so far. */
export function isLibraryLoaded(): boolean {
  return koffi !== undefined;
}

/** errno of the last failed call. Only meaningful directly after a call that returned -1. */
export function errno(): number {
  return koffi?.errno() ?? 0;
}
