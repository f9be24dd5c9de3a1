/** Putting files of the host, or a deletion, into an image as a layer: `umoci insert`. */
import { lstatSync } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import { type Finding, VeneerError } from '../errors.ts';
import type { DirectoryData } from '../rootfs/directory-data.ts';
import { isPortableXattr } from '../rootfs/host-tree.ts';
import type { OwnerMaps } from '../rootfs/owners.ts';
import { readDirectoryTree } from '../rootfs/read-directory.ts';
import { readChangedNames } from '../rootfs/read-names.ts';
import { DEFAULT_DIR_MODE } from '../tree/build.ts';
import { clampTimes } from '../tree/clamp-times.ts';
import { fillPiece, layerTar, TreeNode } from '../tree/index.ts';
import { checkName, cleanPath } from '../tree/path.ts';
import { addLayer, type LayerHistory, type NewLayer } from './add-layer.ts';
import { changeLayout, type LayoutChange } from './change-layout.ts';
import { readImage } from './image-documents.ts';
import { putReference, resolveReference } from './references.ts';

export interface Insertion {
  /** A file or directory of the host; null: the target is deleted. */
  readonly source: string | null;
  /** Where in the image, a byte string. */
  readonly target: string;
  /** What lower layers have in the target directory is gone; says nothing of a file. */
  readonly opaque: boolean;
}

export interface InsertOptions {
  readonly compression: NewLayer['compression'];
  readonly history: LayerHistory['edit'];
  readonly maps: OwnerMaps;
  /** Later times become this one, seconds since the epoch. */
  readonly latest: number | null;
  readonly signal?: AbortSignal | undefined;
}

export interface Inserted {
  readonly digest: string;
  readonly size: number;
  readonly findings: readonly Finding[];
}

/** Puts one layer on the image `from` of the layout and names the result `to`. */
export async function insertIntoImage(
  layoutPath: string,
  from: string,
  to: string,
  insertion: Insertion,
  options: InsertOptions,
): Promise<Inserted> {
  const read = await readInsertion(insertion, options);
  try {
    if (options.latest !== null) clampTimes(read, options.latest);
    const put = async (layout: LayoutChange): Promise<Inserted> => {
      const image = await readImage(layout, await resolveReference(layout, from));
      const data = (_source: number, at: number, length: number): Buffer => read.data!.read(at, length);
      const tar = layerTar(read, (node, at, piece) => fillPiece(node, at, piece, data));
      const history = { edit: withoutAuthor(options.history), createdBy: 'umoci insert' };
      const entry = await addLayer(layout, image, { tar, compression: options.compression }, history);
      putReference(layout, to, entry);
      return { digest: entry.digest as string, size: entry.size as number, findings: read.findings };
    };
    return await changeLayout(layoutPath, put, options.signal);
  } finally {
    read.data?.close();
  }
}

/** umoci names the image's author for other changes, but not for this one. */
function withoutAuthor(edit: LayerHistory['edit']): LayerHistory['edit'] {
  return edit === null ? null : { ...edit, author: edit.author ?? '' };
}

interface ReadInsertion {
  readonly root: TreeNode;
  /** Null: there are no files. */
  readonly data: DirectoryData | null;
  readonly findings: readonly Finding[];
}

async function readInsertion(
  { source, target, opaque }: Insertion,
  { maps, signal }: InsertOptions,
): Promise<ReadInsertion> {
  const parts = cleanPath(target);
  for (const part of parts) checkName(part, 0);
  const root = makeImplied();
  const name = parts.at(-1);
  if (source === null) {
    if (name === undefined) throw cannot(target, 'the root cannot be deleted');
    makeParents(root, parts.slice(0, -1)).whiteouts = new Set([name]);
    return { root, data: null, findings: [] };
  }
  const options = { owners: maps, keepXattr: isPortableXattr, ...(signal === undefined ? {} : { signal }) };
  const path = resolve(source);
  const isDirectory = look(path, source).isDirectory();
  const { tree, data } = isDirectory
    ? await readDirectoryTree(path, options)
    : await readChangedNames(dirname(path), [{ path: latin1(basename(path)), recursive: false }], options);
  const node = isDirectory ? tree.root : tree.root.children!.get(latin1(basename(path)));
  try {
    if (node === undefined) throw cannot(target, `${source} is nothing that an image can hold`);
    node.opaque = opaque && isDirectory;
    if (name !== undefined) makeParents(root, parts.slice(0, -1)).children!.set(name, node);
    else if (!isDirectory) throw cannot(target, `the root is a directory, and ${source} is none`);
    return { root: name === undefined ? node : root, data, findings: tree.findings };
  } catch (error) {
    data.close();
    throw error;
  }
}

const latin1 = (name: string): string => Buffer.from(name).toString('latin1');

function look(path: string, source: string): ReturnType<typeof lstatSync> & object {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  if (stats !== undefined) return stats;
  throw new VeneerError('io/failed', `Cannot insert ${source}: there is no such file`);
}

/** A directory that the layer says nothing of. */
function makeImplied(): TreeNode {
  const node = new TreeNode(DEFAULT_DIR_MODE);
  node.implied = true;
  return node;
}

function makeParents(root: TreeNode, names: readonly string[]): TreeNode {
  let dir = root;
  for (const name of names) {
    const next = makeImplied();
    dir.children!.set(name, next);
    dir = next;
  }
  return dir;
}

function cannot(target: string, reason: string): VeneerError {
  return new VeneerError('cli/usage', `Cannot insert at ${Buffer.from(target, 'latin1')}: ${reason}`);
}
