/** A disk as a device-mapper table: linear targets over its files, see dm-linear in the kernel's documentation. Pure. */
import { VeneerError } from '../errors.ts';
import type { DiskExtent } from './extra.ts';

/** A word for sh. Throws `disk/unsupported` for a path with control characters. */
function quote(path: string): string {
  if (/[\x00-\x1f\x7f\ufffd]/.test(path)) {
    throw new VeneerError('disk/unsupported', `Cannot name ${JSON.stringify(path)} in a script`);
  }
  return `'${path.replaceAll("'", "'\\''")}'`;
}

/**
 * A shell script that makes `/dev/mapper/NAME` of the disk, read-only: the device-mapper takes block devices only, so
 * every file gets a loop device first. Whatever fails, it gives back what it took.
 */
export function linearScript(extents: readonly DiskExtent[]): string {
  const files = [...new Set(extents.map(({ file }) => file))];
  const devices = new Map(files.map((file, i) => [file, `$d${i}`]));
  let start = 0;
  const table = extents.map(({ sectors, file, offset }) => {
    const line = `${start} ${sectors} linear ${devices.get(file)} ${offset}`;
    start += sectors;
    return line;
  });
  return `${[
    '#!/bin/sh',
    '# usage: sh THIS NAME     makes /dev/mapper/NAME, read-only',
    '# undo:  dmsetup remove NAME     (its loop devices go with it)',
    'set -eu',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the shell's
    'name=${1:?usage: sh "$0" NAME}',
    'loops=',
    '# Detaching what is in use makes a loop device end with its last user.',
    'trap \'for d in $loops; do losetup -d "$d"; done\' EXIT',
    'attach() { d=$(losetup --find --show --read-only -- "$1"); loops="$loops $d"; }',
    ...files.map((path, i) => `attach ${quote(path)}; d${i}=$d`),
    'dmsetup create --readonly "$name" <<TABLE',
    ...table,
    'TABLE',
  ].join('\n')}\n`;
}
