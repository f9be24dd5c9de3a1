/**
 * When the process ends, the FFI library syncs stdout and stderr to the disk (fsync(2)), in a destructor of its own.
 * Where one of them is a file, that waits for all that was written to the file system just before.
 */
import { closeSync, openSync } from 'node:fs';
import { isLibraryLoaded, libc } from './libc.ts';

/** Puts /dev/null in the place of stdout and stderr, where there is nothing to sync: for when nothing more is written. */
export function leaveStandardStreams(): void {
  if (!isLibraryLoaded()) return;
  let nowhere: number;
  try {
    nowhere = openSync('/dev/null', 'w');
  } catch {
    return; // It takes longer then.
  }
  for (const fd of [1, 2]) libc('dup2')(nowhere, fd);
  closeSync(nowhere);
}
