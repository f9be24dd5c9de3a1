/** Mount options, mount(8)'s words: which pass, and what they mean to fsmount(2) and mount(2). */
import { VeneerError } from '../errors.ts';
import { MOUNT_ATTR, MS } from '../sys/mount-api.ts';

interface Flag {
  readonly attribute: number;
  readonly old: number;
}

const FLAGS: Readonly<Record<string, Flag>> = {
  ro: { attribute: MOUNT_ATTR.RDONLY, old: MS.RDONLY },
  nosuid: { attribute: MOUNT_ATTR.NOSUID, old: MS.NOSUID },
  nodev: { attribute: MOUNT_ATTR.NODEV, old: MS.NODEV },
  noexec: { attribute: MOUNT_ATTR.NOEXEC, old: MS.NOEXEC },
  noatime: { attribute: MOUNT_ATTR.NOATIME, old: MS.NOATIME },
  strictatime: { attribute: MOUNT_ATTR.STRICTATIME, old: MS.STRICTATIME },
  nodiratime: { attribute: MOUNT_ATTR.NODIRATIME, old: MS.NODIRATIME },
  nosymfollow: { attribute: MOUNT_ATTR.NOSYMFOLLOW, old: MS.NOSYMFOLLOW },
};

/** The opposite of a flag, or the default among flags that exclude each other. */
const CLEARS: Readonly<Record<string, readonly string[]>> = {
  suid: ['nosuid'],
  dev: ['nodev'],
  exec: ['noexec'],
  atime: ['noatime'],
  diratime: ['nodiratime'],
  symfollow: ['nosymfollow'],
  relatime: ['noatime', 'strictatime'],
  noatime: ['strictatime'],
  strictatime: ['noatime'],
};

/** Reads options as mount(8) does: comma-separated or apart, the last of opposites wins. Returns flags in a fixed order. */
export function parseOptions(options: readonly string[], writable: boolean): string[] {
  const set = new Set<string>(writable ? [] : ['ro']);
  for (const word of options.flatMap((text) => text.split(',')).filter((text) => text !== '')) {
    if (word === 'defaults' || (word === 'ro' && !writable) || (word === 'rw' && writable)) continue;
    if (word === 'rw' || word === 'ro') {
      throw new VeneerError(
        'mount/bad-option',
        `Cannot mount with option ${word}: it contradicts the mode asked for`,
        {
          hint: 'Images are read-only; --rw puts a writable layer above them.',
        },
      );
    }
    if (!Object.hasOwn(FLAGS, word) && !Object.hasOwn(CLEARS, word)) {
      const known = [...Object.keys(FLAGS), ...Object.keys(CLEARS)];
      throw new VeneerError('mount/bad-option', `Cannot mount with option ${word}: it is not known`, {
        hint: `Known are ${[...new Set(known)].sort().join(', ')}.`,
      });
    }
    for (const cleared of CLEARS[word] ?? []) set.delete(cleared);
    if (Object.hasOwn(FLAGS, word)) set.add(word);
  }
  return Object.keys(FLAGS).filter((name) => set.has(name));
}

/** `MOUNT_ATTR_*` bits of flags from {@link parseOptions}. */
export function attributeBits(flags: readonly string[]): number {
  return flags.reduce((bits, name) => bits | FLAGS[name]!.attribute, 0);
}

/** `MS_*` bits of the same. */
export function oldFlagBits(flags: readonly string[]): number {
  return flags.reduce((bits, name) => bits | FLAGS[name]!.old, 0);
}
