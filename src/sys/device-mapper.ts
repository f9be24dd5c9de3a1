/** Device-mapper devices: block devices made of others, read-only. <linux/dm-ioctl.h> */
import { randomBytes } from 'node:crypto';
import { closeSync, constants, existsSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { VeneerError } from '../errors.ts';
import { check } from './error.ts';
import { libc } from './libc.ts';

/** struct dm_ioctl */
const HEADER = {
  size: 312,
  version: 0,
  dataSize: 12,
  dataStart: 16,
  targetCount: 20,
  flags: 28,
  dev: 40,
  name: 48,
} as const;
/** struct dm_target_spec, then its parameters as text. */
const SPEC = { size: 40, start: 0, length: 8, next: 20, type: 24 } as const;
const MAX_DATA = 1 << 20;
/** _IOWR(0xfd, NUMBER, struct dm_ioctl) */
const request = (number: number): number => (0xc0000000 | (HEADER.size << 16) | (0xfd << 8) | number) >>> 0;
const DM_DEV_CREATE = request(3);
const DM_DEV_REMOVE = request(4);
const DM_DEV_SUSPEND = request(6);
const DM_TABLE_LOAD = request(9);
const DM_READONLY_FLAG = 1;
const DM_DEFERRED_REMOVE = 1 << 17;
const CONTROL = '/dev/mapper/control';
const SECTOR = 512;
/** Our devices are named after the process that makes them. */
const PREFIX = 'veneer-';
const NAME = /^veneer-(\d+)-[0-9a-f]+$/;

/** A part of a linear device: all of another one. */
export interface LinearPart {
  /** Path of a block device. */
  readonly path: string;
  /** Bytes, a multiple of 512. */
  readonly size: number;
}

/** A stretch of a device and how it comes about: a target of dmsetup(8). */
export interface MapperTarget {
  readonly type: 'linear' | 'verity';
  readonly sectors: number;
  /** Its parameters as the kernel's documentation has them. */
  readonly parameters: string;
}

/** A device that goes away when `fd` is closed and nothing has it mounted. */
export interface MapperDevice {
  readonly fd: number;
  /** `/dev/dm-N` */
  readonly path: string;
}

/** Makes a read-only device of `parts`, in order, see {@link makeDevice}. */
export function makeLinear(parts: readonly LinearPart[]): MapperDevice {
  return makeDevice(
    parts.map(({ path, size }) => ({ type: 'linear', sectors: size / SECTOR, parameters: `${path} 0` })),
  );
}

/**
 * Makes a read-only device of `targets`, one behind the other. A process that is killed in the middle may leave one
 * behind, which the next call removes.
 */
export function makeDevice(targets: readonly MapperTarget[]): MapperDevice {
  const control = openControl();
  const name = `${PREFIX}${process.pid}-${randomBytes(6).toString('hex')}`;
  try {
    removeOrphans(control);
    const created = call(control, DM_DEV_CREATE, name, 'make a device-mapper device', {
      flags: DM_READONLY_FLAG,
    });
    try {
      call(control, DM_TABLE_LOAD, name, 'describe a device-mapper device', {
        flags: DM_READONLY_FLAG,
        targets,
      });
      call(control, DM_DEV_SUSPEND, name, 'start a device-mapper device', {});
      const path = `/dev/dm-${minorOf(created)}`;
      const fd = openSync(path, constants.O_RDONLY);
      // from here on the kernel removes it after its last user
      call(control, DM_DEV_REMOVE, name, 'release a device-mapper device', { flags: DM_DEFERRED_REMOVE });
      return { fd, path };
    } catch (error) {
      call(control, DM_DEV_REMOVE, name, 'remove a device-mapper device', {});
      throw error;
    }
  } finally {
    closeSync(control);
  }
}

/** Devices whose maker died before it could hand them to the kernel. */
function removeOrphans(control: number): void {
  for (const device of readdirSync('/sys/block')) {
    if (!device.startsWith('dm-')) continue;
    try {
      const name = readFileSync(`/sys/block/${device}/dm/name`, 'utf8').trim();
      const maker = NAME.exec(name)?.[1];
      if (maker === undefined || existsSync(`/proc/${maker}`)) continue;
      call(control, DM_DEV_REMOVE, name, 'remove an abandoned device', {});
    } catch {
      // In use, as those that are mounted are, or gone meanwhile.
    }
  }
}

function call(
  control: number,
  command: number,
  name: string,
  what: string,
  { flags = 0, targets = [] }: { flags?: number; targets?: readonly MapperTarget[] },
): Buffer {
  const table = encodeTable(targets);
  const bytes = Buffer.alloc(HEADER.size + table.length);
  bytes.writeUInt32LE(4, HEADER.version);
  bytes.writeUInt32LE(bytes.length, HEADER.dataSize);
  bytes.writeUInt32LE(HEADER.size, HEADER.dataStart);
  bytes.writeUInt32LE(targets.length, HEADER.targetCount);
  bytes.writeUInt32LE(flags, HEADER.flags);
  bytes.write(name, HEADER.name, 'latin1');
  table.copy(bytes, HEADER.size);
  check(libc('ioctlPointer')(control, command, bytes), what);
  return bytes;
}

function encodeTable(targets: readonly MapperTarget[]): Buffer {
  let start = 0;
  const specs = targets.map(({ type, sectors, parameters }) => {
    const text = `${parameters}\0`;
    const bytes = Buffer.alloc((SPEC.size + Buffer.byteLength(text) + 7) & ~7);
    bytes.writeBigUInt64LE(BigInt(start), SPEC.start);
    bytes.writeBigUInt64LE(BigInt(sectors), SPEC.length);
    bytes.writeUInt32LE(bytes.length, SPEC.next);
    bytes.write(type, SPEC.type, 'latin1');
    bytes.write(text, SPEC.size);
    start += sectors;
    return bytes;
  });
  const table = Buffer.concat(specs);
  if (table.length > MAX_DATA)
    throw new VeneerError('sys/EINVAL', 'Cannot describe a device-mapper device: too many parts');
  return table;
}

/** huge_encode_dev(): the minor's low byte, then the major, then the rest of the minor. */
function minorOf(header: Buffer): number {
  const device = header.readUInt32LE(HEADER.dev);
  return (device & 0xff) | ((device >>> 12) & 0xfff00);
}

function openControl(): number {
  try {
    return openSync(CONTROL, constants.O_RDWR);
  } catch (cause) {
    throw new VeneerError('sys/ENODEV', `Cannot use the device-mapper: ${(cause as Error).message}`, {
      hint: 'Load the dm-mod module (modprobe dm-mod); inside a container, pass its devices on.',
      cause,
    });
  }
}
