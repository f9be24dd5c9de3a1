/** Copies between open files inside the kernel; XFS and Btrfs share the blocks where their bounds allow it. */
import { constants } from 'node:os';
import { sysError } from './error.ts';
import { errno, libc } from './libc.ts';

/** The kernel takes no more at once (MAX_RW_COUNT, <linux/fs.h>), less some for alignment. */
const MAX_PIECE = 1 << 30;

/**
 * copy_file_range(2): returns how many of `length` bytes were copied. Fewer: the kernel cannot do the rest between
 * these files, or the source ends there.
 */
export function copyRange(from: number, fromAt: number, length: number, to: number, toAt: number): number {
  const offsets = [Buffer.alloc(8), Buffer.alloc(8)] as const;
  let done = 0;
  while (done < length) {
    offsets[0].writeBigInt64LE(BigInt(fromAt + done));
    offsets[1].writeBigInt64LE(BigInt(toAt + done));
    const size = Math.min(MAX_PIECE, length - done);
    const count = libc('copyFileRange')(from, offsets[0], to, offsets[1], size, 0);
    if (count === 0) return done;
    if (count === -1) {
      const reason = errno();
      const { ENOTSUP, EOPNOTSUPP, EXDEV, EINVAL, ENOSYS, EPERM, ETXTBSY } = constants.errno;
      if ([ENOTSUP, EOPNOTSUPP, EXDEV, EINVAL, ENOSYS, EPERM, ETXTBSY].includes(reason)) return done;
      throw sysError(reason, 'copy between files');
    }
    done += count;
  }
  return done;
}
