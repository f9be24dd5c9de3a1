/** Loop devices, loop(4): a block device that reads a file. */
import { closeSync, constants, openSync, readFileSync } from 'node:fs';
import { constants as os } from 'node:os';
import { VeneerError } from '../errors.ts';
import { check, sysError } from './error.ts';
import { errno, libc } from './libc.ts';
import { measureVerity } from './verity.ts';

// <linux/loop.h>
const LOOP_CTL_GET_FREE = 0x4c82;
const LOOP_CONFIGURE = 0x4c0a;
const LO_FLAGS_READ_ONLY = 1;
const LO_FLAGS_AUTOCLEAR = 4;
const LO_FLAGS_DIRECT_IO = 16;
/** struct loop_config: fd u32, block_size u32, struct loop_info64 (232 bytes), u64 reserved[8]. */
const LOOP_CONFIG = { size: 304, fd: 0, blockSize: 4, info: 8 } as const;
/** struct loop_info64 */
const LOOP_INFO = { flags: 52, fileName: 56, fileNameSize: 64 } as const;
const CONTROL = '/dev/loop-control';
/** Between "is free" and "take it" another process may come first. */
const ATTEMPTS = 64;

/** An attached loop device. It is cleared when `fd` is closed and nothing has it mounted. */
export interface LoopDevice {
  readonly fd: number;
  /** `/dev/loopN` */
  readonly path: string;
}

/**
 * Attaches `file` read-only to a free loop device that clears itself after its last user.
 *
 * @param blockSize logical block size of the device in bytes: 512, 1024, 2048 or 4096
 */
export function attachLoop(file: string, blockSize: number): LoopDevice {
  const backing = openSync(file, constants.O_RDONLY);
  try {
    const config = Buffer.alloc(LOOP_CONFIG.size);
    config.writeUInt32LE(backing, LOOP_CONFIG.fd);
    config.writeUInt32LE(blockSize, LOOP_CONFIG.blockSize);
    config.writeUInt32LE(flagsFor(backing), LOOP_CONFIG.info + LOOP_INFO.flags);
    config.write(file, LOOP_CONFIG.info + LOOP_INFO.fileName, LOOP_INFO.fileNameSize - 1, 'utf8');
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const path = `/dev/loop${findFreeLoop()}`;
      const fd = openSync(path, constants.O_RDONLY);
      if (libc('ioctlPointer')(fd, LOOP_CONFIGURE, config) !== -1) return { fd, path };
      const reason = errno();
      closeSync(fd);
      if (reason !== os.errno.EBUSY) throw sysError(reason, `attach ${file} to ${path}`);
    }
  } finally {
    closeSync(backing);
  }
  throw new VeneerError('sys/EBUSY', `Cannot attach ${file}: other processes took every free loop device`);
}

/**
 * A file with fs-verity is read by direct I/O. The other way (`lo_read_simple` in drivers/block/loop.c of kernels up to
 * 6.16) makes zeros of a whole request, and no error, when some of it could be read and then a block is damaged.
 */
function flagsFor(backing: number): number {
  const flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR;
  return measureVerity(backing) === null ? flags : flags | LO_FLAGS_DIRECT_IO;
}

/** The file behind a loop device, or null when it has none. */
export function readLoopBacking(device: string): string | null {
  try {
    const name = device.replace(/^\/dev\//, '');
    return readFileSync(`/sys/block/${name}/loop/backing_file`, 'utf8').replace(/\n$/, '');
  } catch {
    return null;
  }
}

function findFreeLoop(): number {
  const control = openControl();
  try {
    return check(libc('ioctlValue')(control, LOOP_CTL_GET_FREE, 0), 'find a free loop device');
  } finally {
    closeSync(control);
  }
}

function openControl(): number {
  try {
    return openSync(CONTROL, constants.O_RDWR);
  } catch (cause) {
    throw new VeneerError('sys/ENODEV', `Cannot use loop devices: ${(cause as Error).message}`, {
      hint: 'Load the loop module (modprobe loop); inside a container, pass its devices on.',
      cause,
    });
  }
}
