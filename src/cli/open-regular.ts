/** Opens files that are read at random, and nothing else. */
import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { VeneerError } from '../errors.ts';

/** A read-only descriptor. Throws `cli/not-a-file`; a FIFO that nobody writes to does not hold it up. */
export function openRegular(path: string): number {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  if (fstatSync(fd).isFile()) return fd;
  closeSync(fd);
  throw new VeneerError('cli/not-a-file', `Cannot read ${path}: it is not a regular file`);
}
