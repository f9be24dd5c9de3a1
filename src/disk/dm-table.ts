/** A disk as a device-mapper table: linear and zero targets over the files, dm-linear(5) in the kernel's documentation. Pure. */
import { VeneerError } from '../errors.ts';
import type { DiskPlan, DiskSegment } from './segments.ts';

/** Lines of `dmsetup create`; `deviceOf` names the block device of a file. */
export function linearTable(
  segments: readonly DiskSegment[],
  deviceOf: (path: string) => string,
  bytesIn: (segment: DiskSegment) => { path: string; at: number },
): string[] {
  const lines: string[] = [];
  let start = 0;
  for (const segment of segments) {
    if (segment.kind === 'zero') lines.push(`${start} ${segment.sectors} zero`);
    else {
      const { path, at } = segment.kind === 'file' ? segment : bytesIn(segment);
      lines.push(`${start} ${segment.sectors} linear ${deviceOf(path)} ${at / 512}`);
    }
    start += segment.sectors;
  }
  return lines;
}

/** A word for sh. Throws `disk/unsupported` for a path with control characters. */
function quote(path: string): string {
  if (/[\x00-\x1f\x7f\ufffd]/.test(path)) {
    throw new VeneerError('disk/unsupported', `Cannot name ${JSON.stringify(path)} in a script`);
  }
  return `'${path.replaceAll("'", "'\\''")}'`;
}

/**
 * A shell script that makes `/dev/mapper/NAME` of the disk, read-only: device-mapper takes block devices only, so every
 * file gets a loop device first. Whatever fails, it gives back what it took.
 */
export function linearScript(
  plan: DiskPlan,
  bytesIn: (segment: DiskSegment) => { path: string; at: number },
): string {
  const files: string[] = [];
  const deviceOf = (path: string): string => {
    let index = files.indexOf(path);
    if (index === -1) index = files.push(path) - 1;
    return `$d${index}`;
  };
  const table = linearTable(plan.segments, deviceOf, bytesIn);
  return `${[
    '#!/bin/sh',
    '# usage: sh THIS NAME     makes /dev/mapper/NAME, read-only',
    '# undo:  dmsetup remove NAME     (its loop devices go with it)',
    'set -eu',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the shell's
    'name=${1:?usage: sh "$0" NAME}',
    'loops=',
    'trap \'for d in $loops; do losetup -d "$d"; done\' EXIT',
    'attach() { d=$(losetup --find --show --read-only -- "$1"); loops="$loops $d"; }',
    ...files.map((path, i) => `attach ${quote(path)}; d${i}=$d`),
    'dmsetup create --readonly "$name" <<TABLE',
    ...table,
    'TABLE',
    '# Detaching what is in use makes a loop device end with its last user (losetup -d is lazy then).',
  ].join('\n')}\n`;
}
