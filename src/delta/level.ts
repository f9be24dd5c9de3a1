/** How much work a delta is worth. */

export const LEVELS = ['fast', 'default', 'best'] as const;
export type LevelName = (typeof LEVELS)[number];

export interface DeltaLevel {
  /** Every how many bytes of the old a seed begins: what is alike for less than that and a seed may be missed. */
  readonly stride: number;
  /** zstd's, for the columns. */
  readonly compression: number;
}

export const DELTA_LEVELS: Readonly<Record<LevelName, DeltaLevel>> = {
  fast: { stride: 32, compression: 3 },
  default: { stride: 4, compression: 9 },
  best: { stride: 1, compression: 19 },
};
