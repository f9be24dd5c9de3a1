/** Which files mounts use: what a sweep of the store must leave alone. */
import { listMounts } from './unmount.ts';

/** The files that the living mounts recorded below `runDir` are made of. */
export function mountedFiles(runDir: string): string[] {
  const living = listMounts(runDir).filter(({ state }) => state !== 'stale');
  return living.flatMap(({ images }) =>
    images.flatMap((image) =>
      'parts' in image
        ? image.parts.map(({ path }) => path)
        : [image.primary, ...image.devices.map(({ path }) => path)],
    ),
  );
}
