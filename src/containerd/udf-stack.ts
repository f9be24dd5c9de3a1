/** The order in which overlayfs gets UDF volumes and their sidecars. */
import type { LowerImage } from '../mount/types.ts';
import type { UdfVolume } from '../store/udf-volumes.ts';

/** Lower mounts, bottom first: below each volume its whiteouts, above it its attributes. */
export function stackVolumes(volumes: readonly UdfVolume[]): LowerImage[] {
  const several = volumes.length > 1;
  return volumes.flatMap(
    ({ data, trailer, names, anchorSector, metadataDigest, attributes, whiteouts }, i) => {
      const name = several ? `layer ${i + 1} of ${volumes.length}` : 'the image';
      const sidecar = (primary: string | null, what: string): LowerImage[] =>
        primary === null ? [] : [{ primary, devices: [], sidecar: true, label: `the ${what} of ${name}` }];
      return [
        // what lies below the lowest volume is nothing
        ...(i === 0 ? [] : sidecar(whiteouts, 'whiteouts')),
        { parts: [...data, trailer], names, anchorSector, metadataDigest, label: name },
        ...sidecar(attributes, 'attributes'),
      ];
    },
  );
}
