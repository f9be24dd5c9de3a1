/** Whether a disk has room for what nobody has asked for. */
import { statfsSync } from 'node:fs';

/** A tenth stays free, */
const SHARE = 10;
/** or so many bytes, where a tenth is more. */
const ENOUGH = 8 * 2 ** 30;

/** True as well where it cannot be told. */
export function hasSpareRoom(path: string): boolean {
  try {
    const { blocks, bavail, bsize } = statfsSync(path);
    return bavail * bsize >= Math.min((blocks * bsize) / SHARE, ENOUGH);
  } catch {
    return true;
  }
}
