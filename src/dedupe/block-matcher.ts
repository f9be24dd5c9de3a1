/**
 * Splits a tar that comes by into what other files hold already and what is new. One pass, bounded memory.
 *
 * Files are shared in units of 4 KiB from their begin (units.ts), so that the chunks of a metadata image can map what
 * is shared and what is not; headers and padding in single blocks. A unit is looked for where the last one was found,
 * one on: what did not change between two layers is compared and not hashed. Only what is not there is hashed and looked up.
 * What a base file is known to have given (origins.ts) is neither.
 */
import type { ByteSource } from '../bytes/io.ts';
import { Origins } from './origins.ts';
import { RECIPE_BLOCK, RunList, ZEROS } from './recipe.ts';
import { UnitTable } from './unit-table.ts';
import { extendHash, hashBlock, rollHash, UNIT_BLOCKS, UNIT_BYTES, UnitList, unitKey } from './units.ts';

/** The number of the new data among the sources of runs; that of base `i` is `i + FIRST_BASE`. */
export const OWN_DATA = 1;
export const FIRST_BASE = 2;

const STAGE_BYTES = 1 << 20;
/** Zeros in files become holes when so many blocks of them stand together: each hole costs a chunk map. */
const HOLE_BLOCKS = 128;
const AHEAD_BLOCKS = HOLE_BLOCKS + UNIT_BLOCKS;
/** Compared at once at most. */
const SPAN_BLOCKS = 128;
/** Bytes that are read ahead of a comparison: more and more while it goes on. */
const FIRST_WINDOW = 16 << 10;
const LAST_WINDOW = 256 << 10;
/** So many units of a file in vain, and nothing is expected any more where the last one was found. */
const MAX_MISSES = 64;

const ZERO_BYTES = Buffer.alloc(HOLE_BLOCKS * RECIPE_BLOCK);

/** Where new data goes. */
export interface NewData extends ByteSource {
  append(bytes: Buffer): void;
}

export class BlockMatcher {
  readonly runs = new RunList();
  /** Index of the new data. */
  readonly units = new UnitList();
  readonly #known: () => UnitTable;
  readonly #own = new UnitTable();
  readonly #sources: readonly (ByteSource | null)[];
  readonly #data: NewData;
  readonly #origins: Origins;
  readonly #stage = Buffer.from(new ArrayBuffer(STAGE_BYTES));
  readonly #words: Int32Array;
  #filled = 0;
  /** Blocks of the stage that are done, and the place of the next one in the tar. */
  #at = 0;
  #position = 0;
  /** First block of the stage that is new and not written yet; -1 for none. */
  #newFrom = -1;
  #dataBlocks = 0;
  /** Data of files, `[begin, end)` in blocks, by place; those before `#nextFile` are done. */
  readonly #files: { begin: number; end: number }[] = [];
  #nextFile = 0;
  #fileEnd = 0;
  /** Where the next block is expected: `#source`, at the place in the tar plus `#shift`; no source is 0. */
  #source = 0;
  #shift = 0;
  #misses = 0;
  #window = { source: 0, begin: 0, length: 0, bytes: Buffer.alloc(0) };
  #inHole = false;
  /** Hashes of the blocks of the last unit when it was new, to look for what stands a few blocks off. */
  readonly #before = new Int32Array(UNIT_BLOCKS);
  readonly #hashes = new Int32Array(UNIT_BLOCKS);
  #beforeHash = 0;
  #beforeEnd = -1;

  /** `known` names places in `bases` by the numbers above; it is asked for when something is new. */
  constructor(
    known: () => UnitTable,
    bases: readonly ByteSource[],
    data: NewData,
    origins: Origins = new Origins(),
  ) {
    this.#known = known;
    this.#origins = origins;
    this.#sources = [null, data, ...bases];
    this.#data = data;
    this.#words = new Int32Array(this.#stage.buffer);
  }

  /** Says, before its first byte is written, where a file's data will stand; bytes. */
  expectFile(at: number, size: number): void {
    const begin = at / RECIPE_BLOCK;
    const last = this.#files.at(-1)?.end ?? 0;
    if (size === 0 || !Number.isInteger(begin) || begin < Math.max(last, this.#position, this.#fileEnd))
      return;
    this.#files.push({ begin, end: begin + Math.ceil(size / RECIPE_BLOCK) });
  }

  write(chunk: Buffer): void {
    for (let done = 0; done < chunk.length; ) {
      const copied = chunk.copy(this.#stage, this.#filled, done);
      this.#filled += copied;
      done += copied;
      if (this.#filled === STAGE_BYTES) {
        this.#process(AHEAD_BLOCKS);
        this.#makeRoom();
      }
    }
  }

  /** The last block is filled up with zeros when the tar ends inside it. */
  finish(): void {
    const padded = Math.ceil(this.#filled / RECIPE_BLOCK) * RECIPE_BLOCK;
    this.#stage.fill(0, this.#filled, padded);
    this.#filled = padded;
    this.#process(1);
    this.#flush();
  }

  /** Goes on while at least `ahead` blocks are there: so decisions do not depend on how the tar is cut. */
  #process(ahead: number): void {
    const end = Math.floor(this.#filled / RECIPE_BLOCK);
    while (end - this.#at >= ahead) {
      const left = end - this.#at;
      const file = this.#files[this.#nextFile];
      if (this.#position < this.#fileEnd) this.#takeFromFile(left);
      else if (file === undefined) this.#takeOutside(left);
      else if (file.begin > this.#position) this.#takeOutside(Math.min(left, file.begin - this.#position));
      else {
        this.#fileEnd = file.end;
        this.#inHole = false;
        this.#nextFile++;
        this.#takeFromFile(left, true);
      }
    }
  }

  #makeRoom(): void {
    this.#flush();
    this.#files.splice(0, this.#nextFile);
    this.#nextFile = 0;
    const done = this.#at * RECIPE_BLOCK;
    this.#stage.copy(this.#stage, 0, done, this.#filled);
    this.#filled -= done;
    this.#at = 0;
  }

  #takeFromFile(left: number, first = false): void {
    const rest = this.#fileEnd - this.#position;
    const blocks = Math.min(UNIT_BLOCKS, rest, left);
    // whole units only, so that a map with chunks of that size can say it
    const whole = left - (left % UNIT_BLOCKS);
    const span = Math.min(SPAN_BLOCKS, rest <= left ? rest : whole);
    if (this.#shareKnown(Math.min(rest, left), UNIT_BLOCKS, rest)) return;
    if (span > blocks && this.#isExpected(span)) this.#share(span);
    else if (this.#isExpected(blocks)) this.#share(blocks);
    else {
      if (++this.#misses > MAX_MISSES) this.#source = 0;
      if (!this.#takeHole(Math.min(rest, left), blocks)) this.#takeUnit(blocks, first && blocks === rest);
    }
  }

  /** Shares a unit that is found anywhere, keeps it otherwise. `file`: it is all of a small file. */
  #takeUnit(blocks: number, file: boolean): void {
    const whole = blocks === UNIT_BLOCKS;
    if ((!whole && !file) || this.#isZero(blocks)) {
      this.#beforeEnd = -1;
      this.#keep(blocks);
      return;
    }
    let hash = 0;
    for (let i = 0; i < blocks; i++) {
      const block = hashBlock(this.#words, ((this.#at + i) * RECIPE_BLOCK) / 4);
      this.#hashes[i] = block;
      hash = extendHash(hash, block);
    }
    const key = unitKey(hash, blocks);
    if (this.#lookUp(key, 0, blocks)) {
      this.#share(blocks);
      return;
    }
    if (whole) this.#lookBeside(hash);
    this.#own.add(key, OWN_DATA, this.#dataBlocks);
    this.units.add(key, this.#dataBlocks);
    this.#keep(blocks);
  }

  /** Headers, padding: no file maps them, so any block may be shared. */
  #takeOutside(blocks: number): void {
    const span = Math.min(blocks, SPAN_BLOCKS);
    if (this.#shareKnown(blocks, 1)) return;
    if (this.#isExpected(span)) this.#share(span);
    else if (this.#isExpected(1)) this.#share(1);
    else if (this.#isZero(1)) this.#leaveOut(1);
    else this.#keep(1);
  }

  /** Shares what is known to stand in a base, at most `limit` blocks: whole units, unless `end` is reached. */
  #shareKnown(limit: number, unit: number, end = 0): boolean {
    const origin = this.#origins.find(this.#position);
    if (origin === null) return false;
    const there = Math.min(limit, origin.blocks);
    const blocks = there === end ? there : there - (there % unit);
    if (blocks === 0) return false;
    this.#source = origin.base + FIRST_BASE;
    this.#shift = origin.shift;
    this.#share(blocks);
    // all that goes on there is known, and what is not known does not
    this.#source = 0;
    return true;
  }

  #takeHole(rest: number, blocks: number): boolean {
    if (rest >= HOLE_BLOCKS && this.#isZero(HOLE_BLOCKS)) {
      this.#leaveOut(HOLE_BLOCKS);
      this.#inHole = true;
      return true;
    }
    this.#inHole &&= this.#isZero(blocks);
    if (this.#inHole) this.#leaveOut(blocks);
    return this.#inHole;
  }

  /** Finds a unit's bytes elsewhere; the first `blocks` from here on stand `skip` blocks behind what the key is of. */
  #lookUp(key: number, skip: number, blocks: number): boolean {
    return this.#lookInto(this.#known(), key, skip, blocks) || this.#lookInto(this.#own, key, skip, blocks);
  }

  #lookInto(table: UnitTable, key: number, skip: number, blocks: number): boolean {
    for (const entry of table.find(key)) {
      const source = table.file(entry);
      const at = table.block(entry) + skip;
      if (!this.#isSame(source, at, blocks, UNIT_BYTES)) continue;
      this.#source = source;
      this.#shift = at - this.#position;
      this.#misses = 0;
      return true;
    }
    return false;
  }

  /** Looks whether something known began within the last unit; the units to come are expected there then. */
  #lookBeside(hash: number): void {
    const near = this.#beforeEnd === this.#position;
    let rolling = this.#beforeHash;
    for (let i = 0; near && i < UNIT_BLOCKS - 1; i++) {
      rolling = rollHash(rolling, this.#before[i]!, this.#hashes[i]!);
      if (this.#lookUp(unitKey(rolling, UNIT_BLOCKS), UNIT_BLOCKS - 1 - i, i + 1)) break;
    }
    this.#before.set(this.#hashes);
    this.#beforeHash = hash;
    this.#beforeEnd = this.#position + UNIT_BLOCKS;
  }

  #isExpected(blocks: number): boolean {
    if (this.#source === 0) return false;
    return this.#isSame(this.#source, this.#position + this.#shift, blocks, FIRST_WINDOW);
  }

  /** Compares the next blocks with `at` of a source. `window`: bytes to read there when nothing of it was read before. */
  #isSame(source: number, at: number, blocks: number, window: number): boolean {
    const begin = at * RECIPE_BLOCK;
    const length = blocks * RECIPE_BLOCK;
    if (source === OWN_DATA) this.#flush();
    const file = this.#sources[source]!;
    if (at < 0 || begin + length > file.size) return false;
    let seen = this.#window;
    if (seen.source !== source || begin < seen.begin || begin + length > seen.begin + seen.length) {
      const goesOn = seen.source === source && begin >= seen.begin && begin <= seen.begin + seen.length;
      const wanted = Math.max(length, goesOn ? Math.min(LAST_WINDOW, seen.length * 2) : window);
      const count = Math.min(wanted, file.size - begin);
      const scratch =
        seen.bytes.length >= count ? seen.bytes : Buffer.allocUnsafe(Math.max(count, LAST_WINDOW));
      seen = this.#window = { source, begin, length: count, bytes: scratch };
      const read = file.read(begin, count, scratch);
      if (read.buffer !== scratch.buffer || read.byteOffset !== scratch.byteOffset) read.copy(scratch);
    }
    const from = begin - seen.begin;
    const here = this.#at * RECIPE_BLOCK;
    return this.#stage.compare(seen.bytes, from, from + length, here, here + length) === 0;
  }

  #isZero(blocks: number): boolean {
    const here = this.#at * RECIPE_BLOCK;
    if (this.#words[here / 4] !== 0) return false;
    const length = blocks * RECIPE_BLOCK;
    return this.#stage.compare(ZERO_BYTES, 0, length, here, here + length) === 0;
  }

  #share(blocks: number): void {
    this.#flush();
    this.runs.add(this.#source, this.#position + this.#shift, blocks);
    this.#misses = 0;
    this.#pass(blocks);
  }

  #leaveOut(blocks: number): void {
    this.#flush();
    this.runs.add(ZEROS, 0, blocks);
    this.#pass(blocks);
  }

  #keep(blocks: number): void {
    if (this.#newFrom < 0) this.#newFrom = this.#at;
    this.runs.add(OWN_DATA, this.#dataBlocks, blocks);
    this.#dataBlocks += blocks;
    this.#pass(blocks);
  }

  #pass(blocks: number): void {
    this.#at += blocks;
    this.#position += blocks;
  }

  #flush(): void {
    if (this.#newFrom < 0) return;
    this.#data.append(this.#stage.subarray(this.#newFrom * RECIPE_BLOCK, this.#at * RECIPE_BLOCK));
    this.#newFrom = -1;
  }
}
