/** A standard UDF volume of a stored image: a header, its tars behind each other, then the trailer. */
import { readFileSync } from 'node:fs';
import type { Finding } from '../../errors.ts';
import type { MountDevice } from '../../store/mountable.ts';
import { discardVolumes, type UdfVolume, writeVolumes } from '../../store/udf-volumes.ts';
import { standardOptions } from '../../udf/index.ts';
import type { DiskInput } from './input.ts';

export interface UdfDisk {
  readonly header: Buffer;
  /** The tars, whole, with their digests. */
  readonly parts: readonly { readonly path: string; readonly size: number; readonly digest: string }[];
  readonly trailer: Buffer;
  /** For mount(8) in the guest. */
  readonly mountOptions: readonly string[];
  /** What the volume cannot hold, and what it leaves to a sidecar that is not on the disk. */
  readonly findings: readonly Finding[];
}

/** Plans the volume anew, as a mount does. */
export function makeUdfDisk({
  stored,
  image,
  digest,
  deviceDigests,
}: DiskInput & { readonly stored: NonNullable<DiskInput['stored']> }): UdfDisk {
  const devices = image.devices.map(
    ({ path, size }, i): MountDevice => ({ path, size, tag: deviceDigests[i]!.slice(7) }),
  );
  const { path: primary, size } = image.primary;
  const { directory, volumes } = writeVolumes(stored.store, [{ primary, size, digest, devices }], {
    standard: true,
  });
  try {
    const volume = volumes[0]!;
    const digests = new Map(devices.map(({ path, tag }) => [path, `sha256:${tag}`]));
    return {
      header: readFileSync(volume.header!.path),
      parts: volume.data.map((part) => ({ ...part, digest: digests.get(part.path)! })),
      trailer: readFileSync(volume.trailer.path),
      mountOptions: ['ro', ...standardOptions(volume.names)],
      findings: [...volume.findings, ...leftOut(volume)],
    };
  } finally {
    discardVolumes(directory);
  }
}

function leftOut({ attributes }: UdfVolume): Finding[] {
  if (attributes === null) return [];
  return [
    {
      code: 'udf/no-sidecar',
      message:
        'extended attributes and parts of times are not on the disk: UDF in Linux has no place for them',
    },
  ];
}
