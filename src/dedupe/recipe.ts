/**
 * Recipes: how an exact tar is put together from runs of blocks that stand in files, docs/formats/recipe.md.
 *
 * ```
 * header   magic, bytes of the tar, number of sources, number of runs
 * sources  SHA-256 and length of each file
 * runs     a varint each: blocks, source, and how far the run begins from where the last one of that source ended
 * ```
 */
import { defineStruct } from '../bytes/struct.ts';
import { VeneerError } from '../errors.ts';

/** All runs are whole blocks of this many bytes: the record size of a tar. */
export const RECIPE_BLOCK = 512;
/** Source of a run of zeros; sources of data count from 1. */
export const ZEROS = 0;

const MAGIC = 'VNRCIPE1';
export const RECIPE_HEADER = defineStruct('recipe_header', 24, [
  ['magic', 0, 8],
  ['tar_size', 8, 8],
  ['sources', 16, 4],
  ['runs', 20, 4],
]);
export const RECIPE_SOURCE = defineStruct('recipe_source', 40, [
  ['digest', 0, 32],
  ['size', 32, 8],
]);
/** Blocks are counted in 32 bits. */
const MAX_BLOCKS = 0xffff_ffff;
/** Bytes that a run takes at least. */
const MIN_RUN = 3;
/** And at most: two numbers of up to 33 bits, one of 16. */
const MAX_RUN = 5 + 3 + 5;

/** A file that runs point into. */
export interface RecipeSource {
  /** `sha256:…` of its bytes. */
  readonly digest: string;
  /** Bytes. */
  readonly size: number;
}

/** Runs in the order of the tar, in typed arrays: there may be millions. */
export interface RecipeRuns {
  readonly count: number;
  /** First block in the tar, one more than there are runs: the last is the number of blocks of the tar. */
  readonly starts: Uint32Array;
  /** {@link ZEROS}, or one more than the index of a source. */
  readonly sources: Uint16Array;
  /** First block in the source. */
  readonly ats: Uint32Array;
}

export interface Recipe {
  /** Bytes; of the last block only what belongs to the tar counts. */
  readonly tarSize: number;
  readonly sources: readonly RecipeSource[];
  readonly runs: RecipeRuns;
}

/** Collects runs; those that go on where the last one ended become one. */
export class RunList {
  #starts = new Uint32Array(64);
  #sources = new Uint16Array(64);
  #ats = new Uint32Array(64);
  #count = 0;
  /** Blocks so far. */
  blocks = 0;

  add(source: number, at: number, blocks: number): void {
    const last = this.#count - 1;
    const goesOn =
      last >= 0 &&
      this.#sources[last] === source &&
      (source === ZEROS || this.#ats[last]! + this.blocks - this.#starts[last]! === at);
    if (!goesOn) {
      if (this.#count + 1 === this.#starts.length) this.#grow();
      this.#starts[this.#count] = this.blocks;
      this.#sources[this.#count] = source;
      this.#ats[this.#count] = source === ZEROS ? 0 : at;
      this.#count++;
    }
    this.blocks += blocks;
  }

  #grow(): void {
    const length = this.#starts.length * 2;
    const larger = <T extends Uint32Array | Uint16Array>(to: T, from: T): T => {
      to.set(from);
      return to;
    };
    this.#starts = larger(new Uint32Array(length), this.#starts);
    this.#sources = larger(new Uint16Array(length), this.#sources);
    this.#ats = larger(new Uint32Array(length), this.#ats);
  }

  finish(): RecipeRuns {
    const count = this.#count;
    this.#starts[count] = this.blocks;
    return {
      count,
      starts: this.#starts.slice(0, count + 1),
      sources: this.#sources.slice(0, count),
      ats: this.#ats.slice(0, count),
    };
  }
}

/** Calls `visit` for each run in the order of the tar; all in blocks. */
export function eachRun(
  runs: RecipeRuns,
  visit: (source: number, at: number, blocks: number, start: number) => void,
): void {
  for (let i = 0; i < runs.count; i++) {
    const start = runs.starts[i]!;
    visit(runs.sources[i]!, runs.ats[i]!, runs.starts[i + 1]! - start, start);
  }
}

/** Index of the run that holds a block of the tar. */
export function findRun(runs: RecipeRuns, block: number): number {
  let low = 0;
  let high = runs.count;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (runs.starts[middle + 1]! > block) high = middle;
    else low = middle + 1;
  }
  return low;
}

export function encodeRecipe({ tarSize, sources, runs }: Recipe): Buffer {
  const bytes = Buffer.allocUnsafe(runs.count * MAX_RUN);
  let end = 0;
  const varint = (value: number): void => {
    let rest = value;
    for (; rest >= 0x80; rest = Math.floor(rest / 128)) bytes[end++] = (rest % 128) | 0x80;
    bytes[end++] = rest;
  };
  const ends = new Float64Array(sources.length + 1);
  eachRun(runs, (source, at, blocks) => {
    varint(blocks);
    varint(source);
    const away = at - ends[source]!;
    varint(away < 0 ? -away * 2 - 1 : away * 2);
    ends[source] = source === ZEROS ? 0 : at + blocks;
  });
  const head = Buffer.alloc(RECIPE_HEADER.size + sources.length * RECIPE_SOURCE.size);
  head.write(MAGIC, RECIPE_HEADER.at.magic, 'latin1');
  head.writeBigUInt64LE(BigInt(tarSize), RECIPE_HEADER.at.tar_size);
  head.writeUInt32LE(sources.length, RECIPE_HEADER.at.sources);
  head.writeUInt32LE(runs.count, RECIPE_HEADER.at.runs);
  sources.forEach(({ digest, size }, i) => {
    const at = RECIPE_HEADER.size + i * RECIPE_SOURCE.size;
    head.write(digest.slice('sha256:'.length), at + RECIPE_SOURCE.at.digest, 'hex');
    head.writeBigUInt64LE(BigInt(size), at + RECIPE_SOURCE.at.size);
  });
  return Buffer.concat([head, bytes.subarray(0, end)]);
}

/** Checks everything: every run lies inside its source, and all of them are the tar. Throws `store/corrupt`. */
export function decodeRecipe(bytes: Buffer, name: string): Recipe {
  const fail = (reason: string): never => {
    throw new VeneerError('store/corrupt', `Cannot read the recipe ${name}: ${reason}`);
  };
  if (bytes.length < RECIPE_HEADER.size || bytes.toString('latin1', 0, MAGIC.length) !== MAGIC)
    return fail('it does not begin as one');
  const tarSize = readSize(bytes, RECIPE_HEADER.at.tar_size) ?? fail('the tar is too long');
  const sourceCount = bytes.readUInt32LE(RECIPE_HEADER.at.sources);
  const count = bytes.readUInt32LE(RECIPE_HEADER.at.runs);
  let at = RECIPE_HEADER.size + sourceCount * RECIPE_SOURCE.size;
  const blocks = Math.ceil(tarSize / RECIPE_BLOCK);
  if (sourceCount > 0xffff || at + count * MIN_RUN > bytes.length || blocks > MAX_BLOCKS)
    return fail(`${sourceCount} sources and ${count} runs in ${bytes.length} bytes`);
  const sources = Array.from({ length: sourceCount }, (_, i): RecipeSource => {
    const base = RECIPE_HEADER.size + i * RECIPE_SOURCE.size;
    const digest = bytes.toString('hex', base, base + 32);
    const size = readSize(bytes, base + RECIPE_SOURCE.at.size) ?? fail(`source ${i + 1} is too long`);
    return { digest: `sha256:${digest}`, size };
  });
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; scale <= 2 ** 42; scale *= 128) {
      const byte = bytes[at++] ?? fail('it ends in the middle of a run');
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
    return fail('a number is too long');
  };
  const starts = new Uint32Array(count + 1);
  const runSources = new Uint16Array(count);
  const ats = new Uint32Array(count);
  const ends = new Float64Array(sourceCount + 1);
  let start = 0;
  for (let i = 0; i < count; i++) {
    const length = varint();
    const source = varint();
    const code = varint();
    if (source > sourceCount) fail(`run ${i} is of source ${source} of ${sourceCount}`);
    const begin = ends[source]! + (code % 2 === 0 ? code / 2 : -(code + 1) / 2);
    const end = begin + length;
    const inside =
      source === ZEROS ? begin === 0 : Math.ceil(sources[source - 1]!.size / RECIPE_BLOCK) >= end;
    if (length === 0 || begin < 0 || end > MAX_BLOCKS || !inside || start + length > blocks)
      fail(`run ${i}: ${length} blocks at ${begin} of source ${source}`);
    starts[i] = start;
    runSources[i] = source;
    ats[i] = begin;
    ends[source] = source === ZEROS ? 0 : end;
    start += length;
  }
  if (start !== blocks || at !== bytes.length) fail(`its runs are ${start} blocks of ${blocks}`);
  starts[count] = start;
  return { tarSize, sources, runs: { count, starts, sources: runSources, ats } };
}

function readSize(bytes: Buffer, at: number): number | null {
  const size = bytes.readBigUInt64LE(at);
  return size <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(size) : null;
}
