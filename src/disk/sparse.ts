/**
 * Sparse extents of VMDKs: `monolithicSparse`, `twoGbMaxExtentSparse` and `streamOptimized`, as others make them; only
 * read. "Virtual Disk Format 5.0" of VMware, sections "Hosted Sparse Extents" and "Stream-Optimized Compressed Sparse
 * Extents".
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { inflateSync } from 'node:zlib';
import { defineStruct } from '../bytes/struct.ts';
import { VeneerError } from '../errors.ts';
import { SECTOR } from './segments.ts';

const HEADER = defineStruct('SparseExtentHeader', 512, [
  ['magicNumber', 0, 4],
  ['version', 4, 4],
  ['flags', 8, 4],
  ['capacity', 12, 8],
  ['grainSize', 20, 8],
  ['descriptorOffset', 28, 8],
  ['descriptorSize', 36, 8],
  ['numGTEsPerGT', 44, 4],
  ['rgdOffset', 48, 8],
  ['gdOffset', 56, 8],
  ['overHead', 64, 8],
  ['uncleanShutdown', 72, 1],
  ['singleEndLineChar', 73, 1],
  ['nonEndLineChar', 74, 1],
  ['doubleEndLineChar1', 75, 1],
  ['doubleEndLineChar2', 76, 1],
  ['compressAlgorithm', 77, 2],
  ['pad', 79, 433],
]);
const { at: AT } = HEADER;
const MAGIC = 'KDMV';
const COMPRESSED = 1 << 16;
/** `GD_AT_END`: the real header is the footer, the last sector but one. */
const AT_END = 0xffffffffffffffffn;
const FOOTER_FROM_END = 2 * SECTOR;
/** Grains are a power of two of sectors; what is larger than this nobody makes. */
const MAX_GRAIN = 2048;
/** QEMU takes no larger grain tables. */
const MAX_TABLE_ENTRIES = 512;
const MAX_DESCRIPTOR = 1 << 20;
/** Table entries with a meaning of their own: nothing there, and zeros. */
const FIRST_PLACE = 2;
/** `GrainMarker`: sector of the disk u64, bytes u32, then the data. */
const MARKER = { size: 12, bytes: 8 } as const;

/** True for bytes that begin like a sparse extent. */
export const isSparse = (head: Buffer): boolean => head.toString('latin1', 0, MAGIC.length) === MAGIC;

/** An open sparse extent. Holds one grain table and one grain. */
export class SparseExtent {
  /** Sectors that it shows. */
  readonly sectors: number;
  /** The descriptor inside, as bytes; null for an extent of a disk whose descriptor is a file of its own. */
  readonly descriptor: Buffer | null;
  readonly #path: string;
  readonly #fd: number;
  readonly #fileSize: number;
  readonly #grain: number;
  readonly #entries: number;
  readonly #directory: number;
  readonly #compressed: boolean;
  #table: { number: number; bytes: Buffer | null } = { number: -1, bytes: null };
  #cached: { number: number; bytes: Buffer } = { number: -1, bytes: Buffer.alloc(0) };

  /** Throws `disk/corrupt` and `disk/unsupported`. */
  constructor(path: string) {
    this.#path = path;
    this.#fd = openSync(path, 'r');
    try {
      this.#fileSize = fstatSync(this.#fd).size;
      let header = this.#readHeader(0);
      if (header.readBigUInt64LE(AT.gdOffset) === AT_END)
        header = this.#readHeader(this.#fileSize - FOOTER_FROM_END);
      const number = (at: number): number => {
        const value = header.readBigUInt64LE(at);
        if (value * BigInt(SECTOR) > BigInt(Number.MAX_SAFE_INTEGER)) throw this.#wrong(`${value} sectors`);
        return Number(value);
      };
      this.sectors = number(AT.capacity);
      this.#grain = number(AT.grainSize);
      this.#entries = header.readUInt32LE(AT.numGTEsPerGT);
      this.#directory = number(AT.gdOffset) * SECTOR;
      this.#compressed = (header.readUInt32LE(AT.flags) & COMPRESSED) !== 0;
      if (this.#grain < 1 || this.#grain > MAX_GRAIN || !Number.isInteger(Math.log2(this.#grain)))
        throw this.#wrong(`grains of ${this.#grain} sectors`);
      if (this.#entries < 1 || this.#entries > MAX_TABLE_ENTRIES)
        throw this.#wrong(`grain tables of ${this.#entries} entries`);
      const descriptorSize = number(AT.descriptorSize) * SECTOR;
      if (descriptorSize > MAX_DESCRIPTOR) throw this.#wrong(`a descriptor of ${descriptorSize} bytes`);
      const descriptorAt = number(AT.descriptorOffset) * SECTOR;
      this.descriptor = descriptorAt === 0 ? null : this.#read(descriptorAt, descriptorSize);
    } catch (error) {
      closeSync(this.#fd);
      throw error;
    }
  }

  /** Fills `into` from byte `offset` of what the extent shows. */
  readInto(into: Buffer, offset: number): void {
    const grainBytes = this.#grain * SECTOR;
    for (let done = 0; done < into.length; ) {
      const grain = Math.floor((offset + done) / grainBytes);
      const inGrain = (offset + done) % grainBytes;
      const count = Math.min(into.length - done, grainBytes - inGrain);
      const place = this.#place(grain);
      const piece = into.subarray(done, done + count);
      if (place < FIRST_PLACE) piece.fill(0);
      else if (this.#compressed) this.#inflate(grain, place * SECTOR).copy(piece, 0, inGrain);
      else this.#read(place * SECTOR + inGrain, count).copy(piece);
      done += count;
    }
  }

  close(): void {
    closeSync(this.#fd);
  }

  /** Sector where a grain stands. */
  #place(grain: number): number {
    const number = Math.floor(grain / this.#entries);
    if (this.#table.number !== number) {
      const at = this.#read(this.#directory + 4 * number, 4).readUInt32LE() * SECTOR;
      this.#table = { number, bytes: at === 0 ? null : this.#read(at, 4 * this.#entries) };
    }
    return this.#table.bytes?.readUInt32LE(4 * (grain % this.#entries)) ?? 0;
  }

  #inflate(grain: number, at: number): Buffer {
    if (this.#cached.number === grain) return this.#cached.bytes;
    const length = this.#read(at, MARKER.size).readUInt32LE(MARKER.bytes);
    const grainBytes = this.#grain * SECTOR;
    if (length > 2 * grainBytes) throw this.#wrong(`a compressed grain of ${length} bytes`);
    const bytes = Buffer.alloc(grainBytes);
    try {
      inflateSync(this.#read(at + MARKER.size, length), { maxOutputLength: grainBytes }).copy(bytes);
    } catch (cause) {
      throw this.#wrong(`grain ${grain} cannot be inflated (${(cause as Error).message})`);
    }
    this.#cached = { number: grain, bytes };
    return bytes;
  }

  #readHeader(at: number): Buffer {
    const header = this.#read(at, HEADER.size);
    if (!isSparse(header)) throw this.#wrong(`no header at ${at}`);
    return header;
  }

  #read(at: number, length: number): Buffer {
    if (at < 0 || at + length > this.#fileSize)
      throw this.#wrong(`${length} bytes at ${at} of ${this.#fileSize}`);
    const bytes = Buffer.alloc(length);
    for (let done = 0; done < length; ) {
      const count = readSync(this.#fd, bytes, done, length - done, at + done);
      if (count === 0) throw this.#wrong(`it ends at ${at + done}`);
      done += count;
    }
    return bytes;
  }

  #wrong(reason: string): VeneerError {
    return new VeneerError('disk/corrupt', `Cannot read the sparse VMDK ${this.#path}: ${reason}`);
  }
}
