/** Where the bytes that a delta takes from its sources stand in the store, while a layer is put together. */
import { OriginList, type OriginNumbers, type RecipeRuns } from '../dedupe/index.ts';
import type { BaseFile } from '../store/base-files.ts';
import { locateLayerTar, readRecipe, type TarFile } from '../store/layer-tar.ts';
import { readLayer } from '../store/layers.ts';
import type { Store } from '../store/store.ts';

/** A source's tar, and how its files are numbered among the bases: -1 for one that is none. */
interface Place {
  readonly tar: TarFile;
  /** Null: the tar is the file. */
  readonly runs: RecipeRuns | null;
  readonly bases: readonly number[];
}

export class SourcePlaces {
  /** Bases that are sources: what is taken from them is all that the tar has of them. */
  readonly covered: readonly number[];
  readonly #store: Store;
  readonly #numbers: ReadonlyMap<string, number>;
  readonly #places = new Map<string, Place>();
  readonly #origins = new OriginList();

  /** `sources`: diffIDs of all layers that the delta takes bytes from. */
  constructor(store: Store, bases: readonly BaseFile[], sources: ReadonlySet<string>) {
    this.#store = store;
    this.#numbers = new Map(bases.map(({ path }, number) => [path, number]));
    this.covered = [...bases.keys()].filter((number) => sources.has(bases[number]!.device.diffId));
  }

  /** Throws `store/missing`, `store/corrupt`. */
  tar(diffId: string): TarFile {
    return this.#place(diffId).tar;
  }

  /** `length` bytes from `at` of the new tar were taken from `from` of a source. */
  taken(at: number, length: number, diffId: string, from: number): void {
    const { runs, bases } = this.#place(diffId);
    if (runs !== null) this.#origins.addThrough(runs, bases, at, length, from);
    else if (bases[0]! >= 0) this.#origins.add(at, length, bases[0]!, from);
  }

  /** What was taken since this was last asked. */
  takeOrigins(): OriginNumbers {
    return this.#origins.take();
  }

  #place(diffId: string): Place {
    let place = this.#places.get(diffId);
    if (place === undefined) {
      const tar = locateLayerTar(this.#store, diffId);
      const { parts } = tar;
      const runs = parts === undefined ? null : readRecipe(this.#store, readLayer(this.#store, diffId)).runs;
      const bases = (parts ?? [tar.path]).map((path) => this.#numbers.get(path) ?? -1);
      this.#places.set(diffId, (place = { tar, runs, bases }));
    }
    return place;
  }
}
