/** Which files mounts use: what a sweep of the store must leave alone. */
import { listMounts } from './unmount.ts';

/** The files that the records below `runDir` name. */
export function mountedFiles(runDir: string): string[] {
  return listMounts(runDir).flatMap(({ images }) =>
    images.flatMap((image) =>
      'parts' in image
        ? image.parts.map(({ path }) => path)
        : [image.primary, ...image.devices.map(({ path }) => path)],
    ),
  );
}
