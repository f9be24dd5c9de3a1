/**
 * UDF volumes of a stored image, made for one mount. Nothing of them is kept in the store: trailers are planned
 * anew from the layers' own metadata images each time, so there is none that anybody else could have written.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { ByteSink } from '../bytes/io.ts';
import { ErofsReader } from '../erofs/reader.ts';
import type { Finding } from '../errors.ts';
import type { ReadData } from '../tree/file-data.ts';
import type { FileTree } from '../tree/index.ts';
import {
  flatDigest,
  type NameEncoding,
  planUdf,
  UDF_BLOCK,
  type UdfPlan,
  type UdfPlanOptions,
  writeUdf,
} from '../udf/index.ts';
import { fileSource, openStored, readExactly } from './data-files.ts';
import { storeError } from './io-errors.ts';
import type { MountableImage } from './mountable.ts';
import type { Store } from './store.ts';
import { sidecarsOf, writeSidecar } from './udf-sidecar.ts';

export interface VolumePart {
  readonly path: string;
  /** Bytes, whole blocks. */
  readonly size: number;
}

/** One volume: a layer with the trailer behind its tar, or all tars of an image with one trailer. */
export interface UdfVolume {
  /** In front of the data of a standard volume, else null. */
  readonly header: VolumePart | null;
  readonly data: readonly VolumePart[];
  readonly trailer: VolumePart;
  readonly names: NameEncoding;
  readonly anchorSector: number;
  readonly metadataDigest: string;
  /** EROFS images for overlayfs to lay above and below it; null where there is nothing to say. */
  readonly attributes: string | null;
  readonly whiteouts: string | null;
  /** What neither the volume nor its sidecars hold. */
  readonly findings: readonly Finding[];
}

export interface VolumeKind {
  /**
   * With a header that makes it mount without options. Its names are Unicode then, as all readers of UDF take
   * them, unless some have a place only as bytes.
   */
  readonly standard: boolean;
}

/**
 * Writes trailers and sidecars of `images` (see `mountable`) into a new directory of the store's work area; open
 * files outlive it, so it may go as soon as the mount stands. A crash leaves it, and it is swept.
 */
export function writeVolumes(
  store: Store,
  images: readonly MountableImage[],
  kind: VolumeKind,
): { directory: string; volumes: UdfVolume[] } {
  const directory = join(store.work(), `udf-${randomBytes(9).toString('hex')}`);
  try {
    mkdirSync(directory, { mode: 0o700 });
    return {
      directory,
      volumes: images.map((image, i) => writeVolume(image, join(directory, `${i}`), kind)),
    };
  } catch (error) {
    throw storeError('write UDF volumes', error);
  }
}

/** Removes what {@link writeVolumes} wrote; mounts and open files go on. */
export function discardVolumes(directory: string): void {
  rmSync(directory, { recursive: true, force: true });
}

function writeVolume(image: MountableImage, prefix: string, { standard }: VolumeKind): UdfVolume {
  const paths = [image.primary, ...image.devices.map(({ path }) => path)];
  const fds = paths.map(openStored);
  try {
    const tree = new ErofsReader(fileSource(fds[0]!, image.primary)).readTree();
    const read: ReadData = (source, at, length) => readExactly(fds[source]!, at, length, paths[source]!);
    const { parts: data, bases, blocks } = placeDevices(image);
    const plan = planVolume(tree, { whiteouts: 'sidecar', bases, firstBlock: blocks, header: standard });
    const identity = {
      tarLength: blocks * UDF_BLOCK,
      digest: flatDigest(image.devices.map(({ tag }) => tag)),
    };
    const trailer = `${prefix}.udf`;
    const { metadataDigest, header: front } = writeFile(trailer, blocks * UDF_BLOCK, (sink) =>
      writeUdf(plan, identity, sink, read),
    );
    const header = `${prefix}.header`;
    if (front !== null) writeFile(header, 0, (sink) => sink.write(front, 0));
    const sidecars = sidecarsOf(tree, plan);
    const side = (sidecar: FileTree | null, kind: string): string | null => {
      if (sidecar === null) return null;
      const path = `${prefix}.${kind}.erofs`;
      writeFile(path, 0, (sink) => writeSidecar(sidecar, sink, read));
      return path;
    };
    return {
      header: front === null ? null : { path: header, size: front.length },
      data,
      trailer: { path: trailer, size: (plan.blocks - blocks) * UDF_BLOCK },
      names: plan.options.names,
      anchorSector: plan.origin + plan.anchorBlock,
      metadataDigest,
      attributes: side(sidecars.attributes, 'attributes'),
      whiteouts: side(sidecars.whiteouts, 'whiteouts'),
      findings: plan.unheld.lost,
    };
  } finally {
    for (const fd of fds) closeSync(fd);
  }
}

/** With the names that lose the fewest. */
function planVolume(tree: FileTree, options: Omit<UdfPlanOptions, 'names'>): UdfPlan {
  if (!options.header) return planUdf(tree, { ...options, names: 'bytes' });
  const unicode = planUdf(tree, { ...options, names: 'unicode' });
  if (unicode.unheld.missing.size === 0) return unicode;
  const bytes = planUdf(tree, { ...options, names: 'bytes' });
  return bytes.unheld.missing.size < unicode.unheld.missing.size ? bytes : unicode;
}

/**
 * The data files behind each other. One that is no whole number of blocks, as broken tars may be, has no place
 * there: its data is copied. Source 0 is the metadata image itself, whose data is copied too.
 */
function placeDevices(image: MountableImage): { parts: VolumePart[]; bases: number[]; blocks: number } {
  const parts: VolumePart[] = [];
  const bases = [-1];
  let end = 0;
  for (const { path, size } of image.devices) {
    const whole = size > 0 && size % UDF_BLOCK === 0;
    bases.push(whole ? end : -1);
    if (!whole) continue;
    parts.push({ path, size });
    end += size;
  }
  return { parts, bases, blocks: end / UDF_BLOCK };
}

/** Writes a new file; the sink's offsets count from `begin`. */
function writeFile<T>(path: string, begin: number, write: (sink: ByteSink) => T): T {
  const fd = openSync(path, 'wx', 0o400);
  try {
    return write({
      write(chunk, at) {
        for (let done = 0; done < chunk.length; )
          done += writeSync(fd, chunk, done, chunk.length - done, at - begin + done);
      },
    });
  } finally {
    closeSync(fd);
  }
}
