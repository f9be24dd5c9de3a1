/**
 * EROFS files of whatever origin, ready to mount. No metadata made by others goes to the kernel: our reader takes it
 * apart, with all its checks, and our writer makes metadata anew in a folder that nobody else can write to. The data
 * stays where it is; the file itself becomes a device when it holds some.
 */
import { randomBytes } from 'node:crypto';
import { unlinkSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fittingBlockSize, planImage } from '../erofs/plan.ts';
import { writeImage } from '../erofs/writer.ts';
import type { Finding } from '../errors.ts';
import type { ErofsImage } from '../mount/types.ts';
import { mergeLayers } from '../tree/merge.ts';
import { usedSources } from '../tree/walk.ts';
import { openImageFile } from './open-image.ts';
import { OutputFile } from './output-file.ts';

export interface RewrittenImage {
  readonly image: ErofsImage;
  readonly findings: readonly Finding[];
  /** Removes the metadata; a mount that stands goes on. */
  discard(): void;
}

/**
 * @param folder where the metadata is written
 * @param byDevice see `PlanOptions`: for erofsfuse
 * @param devices files of the device table, in order; what no file's data stands in need not be there
 */
export async function rewriteImage(
  folder: string,
  path: string,
  devices: readonly string[],
  { byDevice = false } = {},
): Promise<RewrittenImage> {
  const file = await openImageFile(path, devices);
  try {
    const tree = mergeLayers([file.tree]);
    const sourceOf = (source: number): number => file.tree.sources.indexOf(tree.sources[source]!);
    const plan = planImage(tree, { blockSize: fittingBlockSize(usedSources(tree)), byDevice });
    const used = plan.devices.map(({ source }) => {
      const index = sourceOf(source);
      // Fails when it was not given, or is another file by its size.
      const { size } = file.data(index);
      return { path: resolve(index === 0 ? path : devices[index - 1]!), size };
    });
    const primary = join(folder, `${randomBytes(9).toString('hex')}.erofs`);
    const out = new OutputFile(primary, false);
    try {
      writeImage(plan, out, (source, at, length) => file.data(sourceOf(source)).read(at, length));
      out.commit();
    } finally {
      out.discard();
    }
    return {
      image: { primary, devices: used },
      findings: tree.findings,
      discard: () => unlinkSync(primary),
    };
  } finally {
    file.close();
  }
}
