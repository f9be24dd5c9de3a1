/** UDF volumes of a chain of layers as files: each a tar with its trailer, and the sidecars that go with it. */
import { closeSync, copyFileSync, openSync, truncateSync, writeSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { ByteSink } from '../../src/bytes/io.ts';
import { fileSource, readExactly } from '../../src/store/data-files.ts';
import { hashSource } from '../../src/store/plain-tar.ts';
import { sidecarsOf, writeSidecar } from '../../src/store/udf-sidecar.ts';
import { scanSource } from '../../src/tar/index.ts';
import type { ReadData } from '../../src/tree/file-data.ts';
import { type FileTree, mergeLayers, resolveLayer, TreeBuilder } from '../../src/tree/index.ts';
import { mountOptions, planUdf, type UdfPlanOptions, writeUdf } from '../../src/udf/index.ts';

export interface VolumeFile {
  readonly path: string;
  /** For `mount -o`. */
  readonly options: readonly string[];
  readonly attributes: string | null;
  readonly whiteouts: string | null;
}

type Ways = Pick<UdfPlanOptions, 'names' | 'whiteouts'>;

export const DEFAULT_WAYS: Ways = { names: 'bytes', whiteouts: 'sidecar' };

export class UdfChain {
  private readonly directory: string;
  private readonly tars: readonly { path: string; digest: string; size: number }[];
  private readonly open = new Map<string, number>();

  /** `tars` are paths, lowest first; what is made goes to `directory`. */
  constructor(directory: string, tars: readonly string[]) {
    this.directory = directory;
    this.tars = tars.map((path) => {
      const source = fileSource(this.fd(path), path);
      return { path, size: source.size, digest: hashSource(source, AbortSignal.timeout(600_000)) };
    });
  }

  private fd(path: string): number {
    let fd = this.open.get(path);
    if (fd === undefined) this.open.set(path, (fd = openSync(path, 'r')));
    return fd;
  }

  get length(): number {
    return this.tars.length;
  }

  /** The tree of one layer, new each time: merging and resolving use trees up. */
  tree(i: number): FileTree {
    const { path, digest, size } = this.tars[i]!;
    const builder = new TreeBuilder({ kind: 'tar', digest, size, alignment: 512 });
    scanSource(fileSource(this.fd(path), path), { onEntry: (entry) => void builder.add(entry) });
    return builder.finish();
  }

  /** The layers below `i` as one. */
  merged(i = this.length): FileTree {
    return mergeLayers(Array.from({ length: i }, (_, j) => this.tree(j)));
  }

  reader(tree: FileTree): ReadData {
    return (source, at, length) => {
      const { digest } = tree.sources[source]!;
      const { path } = this.tars.find((tar) => tar.digest === digest)!;
      return readExactly(this.fd(path), at, length, path);
    };
  }

  /** The volume of one layer by itself, as `veneer index --format udf` makes it. */
  alone(i: number, ways: Ways = DEFAULT_WAYS): VolumeFile {
    return this.write(`alone-${i}-${ways.names}-${ways.whiteouts}`, i, this.tree(i), ways);
  }

  /** The volumes for an overlay, lowest first: complete for this chain. The lowest layer's is the one it has alone. */
  layered(): { readonly layer: number; readonly volume: VolumeFile }[] {
    const trees = this.tars.map((_, i) =>
      i === 0 ? this.tree(0) : resolveLayer(this.merged(i), this.tree(i)),
    );
    // overlayfs does not look for an opaque mark on the root of a lower layer: what lies under one is left out
    const lowest = Math.max(
      0,
      trees.findLastIndex(({ root }) => root.opaque),
    );
    return trees.flatMap((tree, layer) => {
      if (layer < lowest) return [];
      const volume = layer === 0 ? this.alone(0) : this.write(`layered-${layer}`, layer, tree, DEFAULT_WAYS);
      return [{ layer, volume }];
    });
  }

  private write(name: string, layer: number, tree: FileTree, ways: Ways): VolumeFile {
    const { path: tar, digest, size } = this.tars[layer]!;
    const path = join(this.directory, `${name}-${basename(tar)}`);
    copyFileSync(tar, path);
    // whole blocks, as behind every padded tar
    const firstBlock = Math.ceil(size / 512);
    truncateSync(path, firstBlock * 512);
    const bases = tree.sources.map((source) => (source.digest === digest ? 0 : -1));
    const plan = planUdf(tree, { ...ways, bases, firstBlock, header: false });
    const read = this.reader(tree);
    this.into(path, (sink) => writeUdf(plan, { tarLength: size, digest }, sink, read));
    const sidecars = sidecarsOf(tree, plan);
    const side = (sidecar: FileTree | null, kind: string): string | null => {
      if (sidecar === null) return null;
      this.into(`${path}.${kind}`, (sink) => writeSidecar(sidecar, sink, read));
      return `${path}.${kind}`;
    };
    return {
      path,
      options: mountOptions({ anchorSector: plan.anchorBlock, names: ways.names }),
      attributes: side(sidecars.attributes, 'attributes'),
      whiteouts: side(sidecars.whiteouts, 'whiteouts'),
    };
  }

  private into(path: string, write: (sink: ByteSink) => void): void {
    const fd = openSync(path, 'a');
    closeSync(fd);
    const out = openSync(path, 'r+');
    try {
      write({
        write(chunk, at) {
          for (let done = 0; done < chunk.length; )
            done += writeSync(out, chunk, done, chunk.length - done, at + done);
        },
      });
    } finally {
      closeSync(out);
    }
  }

  close(): void {
    for (const fd of this.open.values()) closeSync(fd);
  }
}
