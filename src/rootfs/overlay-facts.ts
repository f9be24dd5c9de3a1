/** What overlayfs writes into an upper directory to say what it does to the lower ones (kernel, filesystems/overlayfs.rst). */
import { VeneerError } from '../errors.ts';
import type { FileFacts } from '../sys/stat.ts';
import { S_IFCHR, S_IFDIR, S_IFMT } from '../tree/node.ts';
import { showPath } from '../tree/path.ts';

/** Where overlayfs keeps its attributes: `user` when it was mounted with `userxattr`. */
export type OverlayNamespace = 'trusted' | 'user';

export interface OverlayFacts {
  /** A directory: nothing of the lower ones shows through. */
  readonly opaque: boolean;
  /** A directory: it holds whiteouts that are files with an attribute. */
  readonly markedWhiteouts: boolean;
  /** A file with that attribute. */
  readonly whiteout: boolean;
}

export const NO_FACTS: OverlayFacts = { opaque: false, markedWhiteouts: false, whiteout: false };

/** Is it the device that stands for a removed name? */
export function isWhiteoutDevice({ mode, rdevMajor, rdevMinor }: FileFacts): boolean {
  return (mode & S_IFMT) === S_IFCHR && rdevMajor === 0 && rdevMinor === 0;
}

/**
 * Takes overlayfs's own attributes out of `xattrs`, and gives those that it keeps for somebody above it their names
 * back. Throws `rootfs/overlay` when the upper directory alone does not tell what the inode is.
 */
export function takeOverlayFacts(
  path: string,
  mode: number,
  xattrs: Map<string, string>,
  namespace: OverlayNamespace,
): OverlayFacts {
  const found = { ...NO_FACTS };
  const prefix = `${namespace}.overlay.`;
  for (const [name, value] of [...xattrs]) {
    if (!name.startsWith(prefix)) continue;
    xattrs.delete(name);
    const fact = name.slice(prefix.length);
    switch (fact) {
      case 'opaque':
        if (value === 'y') found.opaque = true;
        else if (value === 'x') found.markedWhiteouts = true;
        break;
      case 'whiteout':
        found.whiteout = true;
        break;
      case 'redirect':
        throw notWhole(path, (mode & S_IFMT) === S_IFDIR ? 'a directory that was renamed' : 'a renamed file');
      case 'metacopy':
        throw notWhole(path, 'a file whose bytes are in a lower layer');
      default:
        if (fact.startsWith('overlay.')) xattrs.set(prefix + fact.slice('overlay.'.length), value);
    }
  }
  return found;
}

function notWhole(path: string, what: string): VeneerError {
  return new VeneerError(
    'rootfs/overlay',
    `Cannot read the upper directory: ${showPath(path)} is ${what}, and what it is stands in the lower layers`,
    { hint: 'Mount overlays that are to be read with redirect_dir=off (or nofollow) and metacopy=off.' },
  );
}
