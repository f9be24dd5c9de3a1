/** Where the tar of a new layer goes: into layer.tar as it is, or what is new of it into layer.data. */
import { renameSync, unlinkSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  appendRange,
  BlockMatcher,
  encodeRecipe,
  isWorthwhile,
  type Origins,
  RECIPE_BLOCK,
  type RecipeRuns,
  recipeTar,
  settleRuns,
  type UnitTable,
} from '../dedupe/index.ts';
import { digestOf } from '../oci/digest.ts';
import type { ReadData } from '../tree/file-data.ts';
import type { DataSource, FileTree } from '../tree/node.ts';
import type { BaseFiles } from './base-files.ts';
import { LAYER_DATA, LAYER_RECIPE, LAYER_TAR, LAYER_UNITS } from './layout.ts';
import { NewFile } from './new-file.ts';
import type { DedupedTar, DeviceRecord } from './records.ts';
import { shareTree } from './share-tree.ts';

/** How a whole tar is kept. */
export interface SettledTar {
  /** The tree, its data where it is kept. */
  readonly tree: FileTree;
  readonly read: ReadData;
  /** Of a deduped layer; `files` has one for each source of the tree. */
  readonly deduped: (Omit<DedupedTar, 'devices'> & { readonly files: readonly DeviceRecord[] }) | null;
}

export interface LayerSink {
  /** Says, before its first byte comes, where the data of a file will stand in the tar. */
  expectFile(at: number, size: number): void;
  write(chunk: Buffer): void;
  /** The tar is whole and has this digest; `tree` points into it. */
  settle(tree: FileTree, diffId: string): Promise<SettledTar>;
  close(): Promise<void>;
}

interface SinkOptions {
  readonly fsync: boolean;
}

/** What is known of a tar that was made here. */
export interface KnownTar {
  /** Filled as its bytes come. */
  readonly origins: Origins;
  /** Bases of which the origins tell all that the tar has of them: they are not searched. */
  readonly covered: readonly number[];
  /** Its digest, when the last byte has come. */
  diffId: string;
}

/** Keeps the tar. */
export async function openTarSink(dir: string, { fsync }: SinkOptions): Promise<LayerSink> {
  const file = await NewFile.create(join(dir, LAYER_TAR), { fsync, hash: false });
  return {
    expectFile() {},
    write: (chunk) => file.append(chunk),
    settle: async (tree, diffId) => keepTar(tree, file, diffId),
    close: () => file.close(),
  };
}

function keepTar(tree: FileTree, file: NewFile, diffId: string): SettledTar {
  const tar = tree.sources[0]!;
  tar.digest = diffId;
  tar.size = file.size;
  return {
    tree,
    read: (_source, at, length) => file.read(at, length),
    deduped: null,
  };
}

/** Keeps what `bases` do not have; the tar after all when that saves nothing. */
export async function openDedupeSink(
  dir: string,
  bases: BaseFiles,
  options: SinkOptions & { readonly known?: KnownTar | undefined },
): Promise<LayerSink> {
  const data = await NewFile.create(join(dir, LAYER_DATA), { ...options, hash: true });
  return new DedupeSink(dir, data, bases, options, options.known);
}

class DedupeSink implements LayerSink {
  readonly #dir: string;
  readonly #data: NewFile;
  readonly #bases: BaseFiles;
  readonly #options: SinkOptions;
  readonly #matcher: BlockMatcher;
  #tarSize = 0;
  #tar: NewFile | null = null;

  constructor(
    dir: string,
    data: NewFile,
    bases: BaseFiles,
    options: SinkOptions,
    known: KnownTar | undefined,
  ) {
    this.#dir = dir;
    this.#data = data;
    this.#bases = bases;
    this.#options = options;
    let table: UnitTable | null = null;
    const units = (): UnitTable => (table ??= bases.table(known?.covered));
    this.#matcher = new BlockMatcher(units, bases.sources, data, known?.origins);
  }

  expectFile(at: number, size: number): void {
    this.#matcher.expectFile(at, size);
  }

  write(chunk: Buffer): void {
    this.#tarSize += chunk.length;
    this.#matcher.write(chunk);
  }

  async settle(tree: FileTree, diffId: string): Promise<SettledTar> {
    const data = this.#data;
    this.#matcher.finish();
    const split = this.#matcher.runs.finish();
    const { runs, kept } = settleRuns(split, this.#bases.sources, data);
    if (!isWorthwhile(this.#tarSize, data.size)) return this.#keepTar(tree, runs, kept, diffId);
    await writeFile(join(this.#dir, LAYER_UNITS), this.#matcher.units.encode(), { mode: 0o444, flag: 'wx' });

    const sources = [data, ...kept.map((base) => this.#bases.sources[base]!)];
    const sized = (digest: string) => sources.map(({ size }, i) => ({ digest: digests[i] ?? digest, size }));
    const digests = [undefined, ...kept.map((base) => this.#bases.devices[base]!.digest)];
    const tarSize = this.#tarSize;
    const draft = { tarSize, runs, sources: sized('') };
    shareTree(tree, runs, recipeTar(draft, sources), data);

    const facts = { digest: data.digest(), size: data.size };
    const recipe = encodeRecipe({ tarSize, runs, sources: sized(facts.digest) });
    const recipeFile = await NewFile.create(join(this.#dir, LAYER_RECIPE), { ...this.#options, hash: false });
    try {
      recipeFile.append(recipe);
    } finally {
      await recipeFile.close();
    }
    const others = kept.map((base) => this.#bases.record(base));
    const files: DeviceRecord[] = [{ diffId, file: LAYER_DATA, ...facts }, ...others];
    return {
      tree: { ...tree, sources: sized(facts.digest).map(toDataSource) },
      read: (source, at, length) => sources[source]!.read(at, length),
      deduped: {
        data: facts,
        recipe: { digest: digestOf(recipe), size: recipe.length },
        sources: others,
        files,
      },
    };
  }

  /** Little or nothing is shared. When nothing is, the new data is the tar. */
  async #keepTar(
    tree: FileTree,
    runs: RecipeRuns,
    kept: readonly number[],
    diffId: string,
  ): Promise<SettledTar> {
    const data = this.#data;
    const path = join(this.#dir, LAYER_DATA);
    if (runs.count <= 1 && data.size === this.#tarSize && this.#tarSize % RECIPE_BLOCK === 0) {
      renameSync(path, join(this.#dir, LAYER_TAR));
      await writeFile(join(this.#dir, LAYER_UNITS), this.#matcher.units.encode(), {
        mode: 0o444,
        flag: 'wx',
      });
      return keepTar(tree, data, diffId);
    }
    const tar = (this.#tar = await NewFile.create(join(this.#dir, LAYER_TAR), {
      ...this.#options,
      hash: false,
    }));
    const sources = [data, ...kept.map((base) => this.#bases.sources[base]!)];
    const draft = {
      tarSize: this.#tarSize,
      runs,
      sources: sources.map(({ size }) => ({ digest: '', size })),
    };
    appendRange(tar, recipeTar(draft, sources), 0, this.#tarSize);
    unlinkSync(path);
    return keepTar(tree, tar, diffId);
  }

  async close(): Promise<void> {
    await this.#data.close();
    await this.#tar?.close();
  }
}

function toDataSource(facts: { digest: string; size: number }): DataSource {
  return { kind: 'tar', ...facts, alignment: RECIPE_BLOCK };
}
