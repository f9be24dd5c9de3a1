/** What clients are given to mount, and from it back to the snapshot: the forms of `--mounts`. Pure. */
import { dirname } from 'node:path';
import { fsPath, workPath } from './upper.ts';

/** As `containerd.types.Mount`. */
export interface MountForm {
  readonly type: string;
  readonly source: string;
  readonly target: string;
  readonly options: string[];
}

const form = (type: string, source: string, options: string[]): MountForm => ({
  type,
  source,
  target: '',
  options,
});

export const bindForm = (source: string, writable: boolean): MountForm =>
  form('bind', source, [writable ? 'rw' : 'ro', 'rbind']);

/** overlayfs over one lower directory. `extra`: what the kernel's own defaults must not decide. */
export function overlayForm(directory: string, lower: string, extra: readonly string[]): MountForm {
  return form('overlay', 'overlay', [
    `workdir=${workPath(directory)}`,
    `upperdir=${fsPath(directory)}`,
    `lowerdir=${lower}`,
    ...extra,
  ]);
}

/**
 * An EROFS image with the files of its device table in order, or a disk that holds both. `extra`: what a kernel wants
 * that does not mount regular files.
 */
export function erofsForm(
  image: string,
  devices: readonly string[],
  extra: readonly string[] = [],
): MountForm {
  return form('erofs', image, ['ro', ...extra, ...devices.map((path) => `device=${path}`)]);
}

/** overlayfs over the mount before it in the list: containerd 2.2 and newer put its place in. */
export function templateForm(directory: string, extra: readonly string[]): MountForm {
  const { options } = overlayForm(directory, '{{ mount 0 }}', extra);
  return form('format/overlay', 'overlay', options);
}

/** The directory of the active snapshot that these mounts write to, or null. */
export function findUpperDirectory(
  mounts: readonly Pick<MountForm, 'type' | 'source' | 'options'>[],
): string | null {
  const top = mounts.at(-1);
  if (top === undefined) return null;
  const upper = top.options.find((option) => option.startsWith('upperdir='))?.slice('upperdir='.length);
  const path = upper ?? (/(?:^|\/)bind$/.test(top.type) && top.options.includes('rw') ? top.source : null);
  return path?.endsWith('/fs') ? dirname(path) : null;
}
