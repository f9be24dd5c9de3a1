/** Command lines of the programs that veneer is measured against. */
import { join } from 'node:path';
import { type BenchImage, TOOLS } from './inputs.ts';

export const MKFS = join(TOOLS, 'mkfs.erofs');
export const UMOCI = join(TOOLS, 'umoci');

const quote = (word: string): string =>
  /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;

/** Several command lines as one process tree; the first that fails ends it. */
export function shell(...commands: ReadonlyArray<readonly string[]>): string[] {
  return ['sh', '-c', commands.map((words) => words.map(quote).join(' ')).join(' && ')];
}

/** Where mkfs.erofs puts the image of layer `i`. */
export const layerImage = (out: string, i: number): string =>
  join(out, `${String(i).padStart(3, '0')}.erofs`);
export const mergedImage = (out: string): string => join(out, 'merged.erofs');

/** One image a layer. `--aufs` turns whiteouts into what a merge understands, as containerd does it. */
export function mkfsLayers(
  inputs: readonly string[],
  out: string,
  ...options: readonly string[]
): string[][] {
  return inputs.map((input, i) => [MKFS, '--quiet', '--aufs', ...options, layerImage(out, i), input]);
}

/** All layer images as one, without copying data. */
export function mkfsMerge(layers: number, out: string, from = out): string[] {
  const images = Array.from({ length: layers }, (_, i) => layerImage(from, i));
  return [MKFS, '--quiet', '--aufs', '--ovlfs-strip=1', mergedImage(out), ...images];
}

/** GNU tar, each layer into a folder of its own: no image yet, but the least that unpacking can cost. */
export function untar(image: BenchImage, into: string): string[] {
  return shell(
    ...image.blobs.flatMap((blob, i) => [
      ['mkdir', `${into}/${i}`],
      ['tar', '-xzf', blob, '-C', `${into}/${i}`, '--numeric-owner'],
    ]),
  );
}

export function umociUnpack(image: BenchImage, bundle: string): string[] {
  return [UMOCI, 'unpack', '--image', `${image.layout}:latest`, bundle];
}
