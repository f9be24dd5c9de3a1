/** What one row of the conformance table is. */
export interface TarCase {
  /** `theme/what`, unique. */
  readonly name: string;
  /** Layer tars, lowest first. A function where they are large. */
  readonly layers: readonly Buffer[] | (() => readonly Buffer[]);
  /** What is special, and what the tree must be where that is not plain. */
  readonly notes: string;
  /**
   * Whether unpacking with GNU tar (whiteouts and replaced entries removed
   * first, test/support/oracle/layers.py) gives the tree that we give.
   */
  readonly gnuTar: 'same' | `differs: ${string}`;
  /** The scan, the tree or the merge must refuse it with this code; no tree comes out. */
  readonly refused?: string;
  /** Holds a file whose content is not to be read: terabytes of holes. */
  readonly huge?: true;
}

export function layersOf(tarCase: TarCase): readonly Buffer[] {
  return typeof tarCase.layers === 'function' ? tarCase.layers() : tarCase.layers;
}

/** Some bytes that differ at every place, so that a wrong offset shows. */
export function patterned(length: number, seed = 1): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  let state = seed;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    bytes[i] = state >>> 16;
  }
  return bytes;
}
