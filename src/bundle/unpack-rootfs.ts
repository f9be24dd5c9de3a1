/** Unpacking a root file system: all layers merged and written at once, or over what is there. */
import { lstatSync, mkdirSync, readdirSync, utimesSync } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import { type Finding, VeneerError } from '../errors.ts';
import { adaptToHost } from '../rootfs/host-tree.ts';
import { LayeredRoot } from '../rootfs/layered-root.ts';
import { type LayerBlob, withLayers } from '../rootfs/open-layers.ts';
import { filesOf } from '../rootfs/source-files.ts';
import { type WrittenTree, writeTree } from '../rootfs/write-tree.ts';
import { Folder, removeTree } from '../sys/folder.ts';
import { type FileTree, mergeLayers } from '../tree/index.ts';
import type { ImageBlobs } from './find-image.ts';
import { findingOf, type UnpackOptions, writeOptions } from './unpack-options.ts';

/** What was left out of it; how many bytes share blocks with the store, null when nothing came from there. */
export interface UnpackedRootfs {
  readonly findings: readonly Finding[];
  readonly shared: number | null;
}

/**
 * Makes the root file system `rootfs` of an image. A directory may be there: what is in it is a lower layer then, and
 * something between the two stays there after an error. `finish` runs when all of a new one is written, and its failure
 * is one of the whole. Returns what was left out.
 */
export async function unpackRootfs(
  { layers }: ImageBlobs,
  rootfs: string,
  options: UnpackOptions,
  finish: (tree: FileTree, written: WrittenTree) => Promise<void> = async () => {},
): Promise<UnpackedRootfs> {
  const existed = lstatSync(rootfs, { throwIfNoEntry: false }) !== undefined;
  // What is there already is not ours to remove.
  if (existed && namesIn(rootfs).length > 0) return unpackOver(layers, rootfs, options);
  if (!existed) mkdirSync(rootfs, 0o700);
  try {
    const write = async (tree: FileTree, files: readonly number[], share: boolean) => {
      const findings = [...tree.findings, ...adaptToHost(tree, options.maps)];
      const written = await writeTree(rootfs, tree, files, {
        ...writeOptions(options),
        inspect: true,
        share,
      });
      await finish(tree, written);
      return {
        findings: [...findings, ...written.problems.map(findingOf)],
        shared: share ? written.shared : null,
      };
    };
    const stored = (await options.openStored?.(layers.map(({ diffId }) => diffId))) ?? null;
    if (stored === null) return await writeLayers(layers, rootfs, options, write);
    try {
      return await write(stored.tree, stored.files, true);
    } finally {
      stored.close();
    }
  } catch (error) {
    removeRootfs(rootfs, existed);
    throw error;
  }
}

/** Layer by layer over what is in `rootfs`. */
async function unpackOver(
  layers: readonly LayerBlob[],
  rootfs: string,
  options: UnpackOptions,
): Promise<UnpackedRootfs> {
  const { maps, keepDirlinks, signal } = options;
  return withLayers(layers, { temporary: rootfs, signal }, async (opened) => {
    const root = await LayeredRoot.over(rootfs, keepDirlinks ? 'keep' : 'follow', writeOptions(options));
    const nameless = opened.every(({ tree }) => tree.root.implied);
    const findings: Finding[] = [];
    for (const layer of opened) {
      signal?.throwIfAborted();
      findings.push(...layer.tree.findings, ...adaptToHost(layer.tree, maps));
      findings.push(...(await root.add(layer)).map(findingOf));
    }
    // As in a new one: what the clock says is in no layer.
    if (nameless) utimesSync(rootfs, 0, 0);
    return { findings, shared: null };
  });
}

/** Has `write` write the tree that the layers of a layout make. */
async function writeLayers<T>(
  layers: readonly LayerBlob[],
  temporary: string,
  { keepDirlinks, signal }: UnpackOptions,
  write: (tree: FileTree, files: readonly number[], share: boolean) => Promise<T>,
): Promise<T> {
  return withLayers(layers, { temporary, signal }, async (opened) => {
    const trees = opened.map((layer) => layer.tree);
    const tree = mergeLayers(trees, keepDirlinks ? 'keep' : 'follow');
    return write(tree, filesOf(tree, opened), false);
  });
}

function namesIn(rootfs: string): string[] {
  try {
    return readdirSync(rootfs);
  } catch (cause) {
    throw new VeneerError('rootfs/not-empty', `Cannot unpack into ${rootfs}: ${(cause as Error).message}`, {
      cause,
    });
  }
}

/** What an error left; a directory that was there before stays, empty. */
export function removeRootfs(rootfs: string, existed: boolean): void {
  const parent = Folder.open(existed ? rootfs : dirname(resolve(rootfs)));
  try {
    const names = existed ? parent.names() : [Buffer.from(basename(resolve(rootfs))).toString('latin1')];
    for (const name of names) removeTree(parent, name);
  } finally {
    parent.close();
  }
}
