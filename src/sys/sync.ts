/** syncfs(2), sync_file_range(2). */
import { closeSync, openSync } from 'node:fs';
import { check } from './error.ts';
import { libc } from './libc.ts';

// <linux/fs.h>
const SYNC_FILE_RANGE_WRITE = 2;

/** Puts all that was written to a file system on the disk; `place` is a path on it, or an open file. */
export function syncFileSystem(place: string | number): void {
  const fd = typeof place === 'number' ? place : openSync(place, 'r');
  try {
    check(libc('syncfs')(fd), 'put what is in memory of the file system on the disk');
  } finally {
    if (fd !== place) closeSync(fd);
  }
}

/**
 * Lets the kernel begin to write a part of a file to the disk, and does not wait for it. Only a later fsync makes it
 * durable, and tells when something went wrong.
 */
export function beginWriteback(fd: number, offset: number, size: number): void {
  libc('syncFileRange')(fd, offset, size, SYNC_FILE_RANGE_WRITE);
}
