/** Writes one case's layers as tars and as images of every kind, into one folder. */
import { createHash } from 'node:crypto';
import { closeSync, openSync, readFileSync, readSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import {
  type ByteSink,
  bufferSource,
  type ErofsPlan,
  ErofsReader,
  fittingBlockSize,
  planImage,
  type ReadData,
  SelfContainedWriter,
  writeImage,
} from '../../src/erofs/index.ts';
import { scanSource, TarScanner } from '../../src/tar/index.ts';
import { type FileTree, mergeLayers, TreeBuilder } from '../../src/tree/index.ts';

/** An image file, and the files of its device table in order. */
export interface ImageFile {
  readonly path: string;
  readonly devices: readonly string[];
}

export interface LayerFiles {
  readonly tar: string;
  /** Over the tar, 512-byte blocks. */
  readonly metadata: ImageFile;
  /** With its data, 4096-byte blocks. */
  readonly selfContained: ImageFile;
}

const sha256 = (bytes: Buffer): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** The layer's tree, straight from its tar. */
export function treeOfTar(tar: Buffer): FileTree {
  const builder = new TreeBuilder({ kind: 'tar', digest: sha256(tar), size: tar.length, alignment: 512 });
  scanSource(bufferSource(tar), { onEntry: (entry) => void builder.add(entry) });
  return builder.finish();
}

function fileSink(fd: number): ByteSink {
  return {
    write(chunk, at) {
      for (let done = 0; done < chunk.length; )
        done += writeSync(fd, chunk, done, chunk.length - done, at + done);
    },
  };
}

export class CaseImages {
  readonly layers: readonly LayerFiles[];
  private readonly directory: string;
  /** Digest of a data source to the file that has it. */
  private readonly files = new Map<string, string>();
  private readonly open = new Map<string, number>();
  private counter = 0;

  /** Throws what the scan, the tree or the writers throw. */
  constructor(directory: string, tars: readonly Buffer[]) {
    this.directory = directory;
    this.layers = tars.map((tar, i) => {
      const path = join(directory, `${i}.tar`);
      writeFileSync(path, tar);
      this.files.set(sha256(tar), path);
      return {
        tar: path,
        metadata: this.write(`${i}.metadata`, treeOfTar(tar), 512),
        selfContained: this.writeSelfContained(`${i}.self`, tar),
      };
    });
  }

  /** Writes a tree whose sources are known files; `blockSize` by default the largest that maps all data. */
  write(name: string, tree: FileTree, blockSize?: number): ImageFile {
    const path = join(this.directory, `${name}.${this.counter++}.erofs`);
    const plan = planImage(tree, { blockSize: blockSize ?? fittingBlockSize(usedSources(tree)) });
    const fd = openSync(path, 'wx');
    writeImage(plan, fileSink(fd), this.readerOf(tree));
    closeSync(fd);
    return { path, devices: this.devicesOf(plan) };
  }

  private writeSelfContained(name: string, tar: Buffer): ImageFile {
    const path = join(this.directory, `${name}.erofs`);
    const fd = openSync(path, 'wx+');
    const writer = new SelfContainedWriter(4096, fileSink(fd));
    const scanner = new TarScanner({ onEntry: writer.onEntry, onPayload: writer.onPayload });
    scanner.write(tar);
    scanner.end();
    writer.finish(sha256(tar), (_, at, length) => {
      const bytes = Buffer.alloc(length);
      readSync(fd, bytes, 0, length, at);
      return bytes;
    });
    closeSync(fd);
    this.files.set(sha256(readFileSync(path)), path);
    return { path, devices: [] };
  }

  /** The tree of an image file that was written here. */
  readBack(image: ImageFile): FileTree {
    const bytes = readFileSync(image.path);
    const tree = new ErofsReader(bufferSource(bytes)).readTree();
    tree.sources[0]!.digest = sha256(bytes);
    if (!this.files.has(tree.sources[0]!.digest)) this.files.set(tree.sources[0]!.digest, image.path);
    for (const source of tree.sources) source.size = statSync(this.fileOf(source.digest)).size;
    return tree;
  }

  /** All layers as one, each taken from the image that `choose` picks. */
  merge(name: string, choose: (layer: LayerFiles, i: number) => ImageFile): ImageFile {
    return this.write(name, mergeLayers(this.layers.map((layer, i) => this.readBack(choose(layer, i)))));
  }

  /** Does this metadata image carry file data itself, because its tar could not be mapped? */
  holdsData(image: ImageFile): boolean {
    const tree = this.readBack(image);
    return usedSources(tree).includes(tree.sources[0]!);
  }

  readerOf(tree: FileTree): ReadData {
    return (source, at, length) => {
      const path = this.fileOf(tree.sources[source]!.digest);
      let fd = this.open.get(path);
      if (fd === undefined) this.open.set(path, (fd = openSync(path, 'r')));
      const bytes = Buffer.alloc(length);
      return bytes.subarray(0, readSync(fd, bytes, 0, length, at));
    };
  }

  private fileOf(digest: string): string {
    const path = this.files.get(digest);
    if (path === undefined) throw new Error(`no file has the digest ${JSON.stringify(digest)}`);
    return path;
  }

  private devicesOf(plan: ErofsPlan): string[] {
    return plan.devices.map(({ source }) => this.fileOf(plan.sources[source]!.digest));
  }

  close(): void {
    for (const fd of this.open.values()) closeSync(fd);
  }
}

/** Sources that data is taken from: an image read back names itself even when it has none. */
function usedSources(tree: FileTree): FileTree['sources'] {
  const used = new Set<number>();
  const pending = [tree.root];
  for (let node = pending.pop(); node !== undefined; node = pending.pop()) {
    if (node.source >= 0) used.add(node.source);
    for (const { source } of node.extents ?? []) used.add(source);
    for (const child of node.children?.values() ?? []) pending.push(child);
  }
  return tree.sources.filter((_, i) => used.has(i));
}
