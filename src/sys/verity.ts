/** fs-verity, Documentation/filesystems/fsverity.rst: files whose reads the kernel checks against a Merkle tree. */
import { constants } from 'node:os';
import { check, sysError } from './error.ts';
import { errno, libc } from './libc.ts';

// <linux/fsverity.h>
const FS_IOC_ENABLE_VERITY = 0x40806685;
const FS_IOC_MEASURE_VERITY = 0xc0046686;
/** struct fsverity_enable_arg: version, hash_algorithm, block_size, salt_size u32, and more that stays zero. */
const ENABLE_ARG = { size: 128, version: 0, algorithm: 4, blockSize: 8 } as const;
const HASH_SHA256 = 1;
/** struct fsverity_digest: algorithm, size u16, then the digest. */
const DIGEST = { size: 4 + 64, algorithm: 0, length: 2, bytes: 4 } as const;

/** What "this file system has no fs-verity" looks like: no such ioctl, no kernel support, a feature flag that is off. */
const ABSENT = ['ENOTTY', 'EOPNOTSUPP', 'ENOTSUP', 'EINVAL', 'ENOSYS'] as const;

const isAbsent = (number: number): boolean => ABSENT.some((name) => constants.errno[name] === number);

function measure(fd: number): { digest: Buffer } | { errno: number } {
  const digest = Buffer.alloc(DIGEST.size);
  digest.writeUInt16LE(DIGEST.size - DIGEST.bytes, DIGEST.length);
  if (libc('ioctlPointer')(fd, FS_IOC_MEASURE_VERITY, digest) === -1) return { errno: errno() };
  return { digest };
}

/** True when the file's file system has fs-verity, whether or not this file uses it. */
export function supportsVerity(fd: number): boolean {
  const result = measure(fd);
  return 'digest' in result || result.errno === constants.errno.ENODATA;
}

/** The digest that the kernel enforces for an open file, `sha256:…`; null when it enforces none. */
export function measureVerity(fd: number): string | null {
  const result = measure(fd);
  if ('errno' in result) {
    if (result.errno === constants.errno.ENODATA || isAbsent(result.errno)) return null;
    throw sysError(result.errno, 'ask for the fs-verity digest of a file');
  }
  const { digest } = result;
  const length = digest.readUInt16LE(DIGEST.length);
  const name = digest.readUInt16LE(DIGEST.algorithm) === HASH_SHA256 ? 'sha256' : 'other';
  return `${name}:${digest.toString('hex', DIGEST.bytes, DIGEST.bytes + length)}`;
}

/**
 * Makes the kernel check every read of a file from now on; it can never be written again. The file must be open
 * read-only, and nobody may have it open for writing. The kernel reads all of it. Enabled already is fine.
 *
 * @param blockSize of the Merkle tree, in bytes
 */
export function enableVerity(fd: number, blockSize: number): void {
  const argument = Buffer.alloc(ENABLE_ARG.size);
  argument.writeUInt32LE(1, ENABLE_ARG.version);
  argument.writeUInt32LE(HASH_SHA256, ENABLE_ARG.algorithm);
  argument.writeUInt32LE(blockSize, ENABLE_ARG.blockSize);
  const result = libc('ioctlPointer')(fd, FS_IOC_ENABLE_VERITY, argument);
  if (result === -1 && errno() === constants.errno.EEXIST) return;
  check(result, 'enable fs-verity');
}
