/** Opens what IMAGE names: an image of the store, or an EROFS image file with the files its data stands in. */
import { closeSync, statSync } from 'node:fs';
import type { ByteSource } from '../bytes/io.ts';
import { VeneerError } from '../errors.ts';
import type { FileTree, TreeNode } from '../tree/node.ts';
import type { CliContext, CommonFlags } from './context.ts';
import { readFile } from './file-data.ts';
import type { ImageFlags } from './image-flags.ts';
import { type ImagePath, isFileInstead, namesFile } from './image-path.ts';
import { openRegular } from './open-regular.ts';
import { storeRoot } from './root.ts';

export interface OpenImage {
  /** As it should be called in messages. */
  readonly name: string;
  readonly tree: FileTree;
  /** A regular file's bytes in order, holes as zeros; `end` is exclusive. A chunk may be overwritten by the next. */
  readFile(node: TreeNode, range?: { start?: number; end?: number }): AsyncIterable<Buffer>;
  /** The bytes of `tree.sources[index]`. Throws `cli/no-device` when that device was not given. */
  data(index: number): ByteSource;
  /**
   * What every source is, for comparing it with those of other images: the digest in the store; of an image file the
   * file that was given for it, for the digest in its device table is only claimed. Without that file the claim.
   */
  readonly sourceIds: readonly string[];
  close(): void;
}

/** Opens the image of every path (each image once) for the time of `work`. */
export async function withImages<T>(
  context: CliContext,
  flags: ImageFlags & CommonFlags,
  paths: readonly ImagePath[],
  work: (images: readonly OpenImage[]) => Promise<T>,
): Promise<T> {
  const opened = new Map<string, OpenImage>();
  try {
    for (const { image } of paths) {
      if (!opened.has(image)) opened.set(image, await openImage(context, flags, image, flags.device ?? []));
    }
    return await work(paths.map(({ image }) => opened.get(image)!));
  } finally {
    for (const image of opened.values()) image.close();
  }
}

/** What begins like a path is one; anything else is looked for in the store first, then among files. */
export async function openImage(
  context: CliContext,
  flags: CommonFlags,
  image: string,
  devices: readonly string[],
): Promise<OpenImage> {
  if (namesFile(image, devices)) return openImageFile(image, devices);
  try {
    return await openStoredImage(storeRoot(flags, context.env), image);
  } catch (error) {
    if (!isFileInstead(error, image)) throw error;
    return openImageFile(image, devices);
  }
}

async function openStoredImage(root: string, image: string): Promise<OpenImage> {
  const { resolveImage } = await import('../store/images.ts');
  const { openTree } = await import('../store/open-tree.ts');
  const { Store } = await import('../store/store.ts');
  const store = Store.open(root);
  try {
    const record = resolveImage(store, image);
    const opened = await openTree(store, record);
    return {
      name: record.name,
      tree: opened.tree,
      readFile: opened.readFile,
      data: opened.data,
      sourceIds: opened.tree.sources.map(({ digest }) => digest),
      close() {
        opened.close();
        store.close();
      },
    };
  } catch (error) {
    store.close();
    throw error;
  }
}

/** An EROFS file: `devices` are the files of its device table, in order. */
export async function openImageFile(path: string, devices: readonly string[]): Promise<OpenImage> {
  const { ErofsReader } = await import('../erofs/reader.ts');
  const { fileSource } = await import('../store/data-files.ts');
  const descriptors: number[] = [];
  const open = (file: string): ByteSource => {
    const fd = openRegular(file);
    descriptors.push(fd);
    return fileSource(fd, file);
  };
  const close = (): void => {
    for (const fd of descriptors.splice(0)) closeSync(fd);
  };
  try {
    const primary = open(path);
    const tree = new ErofsReader(primary).readTree();
    const slots = tree.sources.length - 1;
    if (devices.length > slots) {
      throw new VeneerError(
        'cli/usage',
        `Cannot use ${devices.length} devices with ${path}: its device table has ${slots}`,
      );
    }
    const sources: ByteSource[] = [primary];
    const data = (index: number): ByteSource =>
      (sources[index] ??= openDevice(path, tree, devices, index, open));
    const sourceIds = tree.sources.map(({ digest }, index) => {
      const file = index === 0 ? path : devices[index - 1];
      return file === undefined ? digest : fileId(file);
    });
    return {
      name: path,
      tree,
      data,
      sourceIds,
      readFile: (node, range) => readFile(data, node, range),
      close,
    };
  } catch (error) {
    close();
    throw error;
  }
}

/** The same for one file under several names; '' when it is not there, which its opening will tell. */
function fileId(path: string): string {
  const facts = statSync(path, { bigint: true, throwIfNoEntry: false });
  return facts === undefined ? '' : `inode ${facts.dev}:${facts.ino}`;
}

function openDevice(
  path: string,
  tree: FileTree,
  devices: readonly string[],
  index: number,
  open: (file: string) => ByteSource,
): ByteSource {
  const { digest, size } = tree.sources[index]!;
  const file = devices[index - 1];
  if (file === undefined) {
    const what = digest === '' ? `${size} bytes` : `${size} bytes, ${digest}`;
    throw new VeneerError(
      'cli/no-device',
      `Cannot read file data of ${path}: device ${index} of its table (${what}) was not given`,
      {
        hint: 'name the files of all its devices in order: --device layer1.tar --device layer2.tar',
      },
    );
  }
  const source = open(file);
  // A tar's length need not be whole blocks; anything shorter than the table says is another file.
  if (source.size > size || source.size <= size - tree.sources[index]!.alignment) {
    throw new VeneerError(
      'cli/wrong-device',
      `Cannot use ${file} as device ${index} of ${path}: it has ${source.size} bytes, the table says ${size}`,
    );
  }
  return source;
}
