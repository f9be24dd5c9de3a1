/**
 * The digest of a metadata image, checked before each mount: the kernel parses it with all its rights, and where no
 * fs-verity protects it this is what stands between the kernel and damage. (Tars, which it only copies from, are
 * `verify`'s.)
 *
 * Hashing is for files that changed. Beside the image stands, in NAME.checked, which digest its inode had at which
 * change time; no write(2), truncation, replacement or restored backup leaves all of that as it was. What goes around the
 * file system (bits that rot on the disk) is `verify`'s and fs-verity's to find. See docs/decisions/0054.
 */
import { createHash } from 'node:crypto';
import { type BigIntStats, closeSync, fstatSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { VeneerError } from '../errors.ts';
import { storeError } from './io-errors.ts';
import { digestHex } from './layout.ts';

export const REFETCH =
  'run `veneer verify`; what is damaged is fetched anew after `veneer rm` and `veneer gc`';

/**
 * Milliseconds. A file that changed this shortly before is not noted: it could change once more within one tick of the
 * file system's clock, two seconds at most.
 */
const SETTLED = 2000;

/** What the note beside an image is called. */
export const checkedName = (file: string): string => `${file}.checked`;

/** Throws `store/mismatch` when the file is not what `digest` says. */
export function checkDigest(path: string, digest: string): void {
  const note = checkedName(path);
  let found: string;
  let seen: string;
  let settled: boolean;
  try {
    const fd = openSync(path, 'r');
    try {
      // Taken before the bytes are read: what changes in between has another stamp afterwards.
      const stats = fstatSync(fd, { bigint: true });
      seen = `${digest} ${stampOf(stats)}\n`;
      settled = Date.now() - Number(stats.ctimeMs) > SETTLED;
      if (readNote(note) === seen) return;
      found = createHash('sha256').update(readFileSync(fd)).digest('hex');
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    throw storeError(`read ${path}`, error);
  }
  if (found !== digestHex(digest)) {
    const message = `Cannot use ${path}: its digest is sha256:${found}, not ${digest}`;
    throw new VeneerError('store/mismatch', message, { hint: REFETCH });
  }
  if (settled) writeNote(note, seen);
}

/** Inode, change time and size; the modification time alone can be set by anybody who may write. */
function stampOf({ ino, ctimeNs, size }: BigIntStats): string {
  return `${ino}:${ctimeNs}:${size}`;
}

function readNote(path: string): string | null {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return null;
  }
}

/** Not atomic and not durable: a crash leaves a note that fits no file, and the next mount hashes again. */
function writeNote(path: string, text: string): void {
  try {
    writeFileSync(path, text, { mode: 0o600 });
  } catch {
    // A store that cannot be written can be mounted from all the same.
  }
}
