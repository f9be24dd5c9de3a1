/** What the kernel's own defaults must not decide for overlays of snapshots. */
import { existsSync } from 'node:fs';

/** Parameters of the module stand for options that this kernel has. */
const PARAMETERS = '/sys/module/overlay/parameters';

/**
 * `index=off`: the same upper directory may be mounted again over another mount of the same lower. `redirect_dir` and
 * `metacopy` would leave marks in the upper directory that no layer can say, and would follow those of image layers.
 */
export function overlayOptions(parameters = PARAMETERS): string[] {
  const wanted = [
    ['index', 'index=off'],
    ['redirect_dir', 'redirect_dir=nofollow'],
    ['metacopy', 'metacopy=off'],
  ] as const;
  return wanted.filter(([name]) => existsSync(`${parameters}/${name}`)).map(([, option]) => option);
}
