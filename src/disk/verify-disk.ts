/** Reads a whole disk and names what is not as it should be. */
import { createHash } from 'node:crypto';
import { setImmediate as letOthersRun } from 'node:timers/promises';
import type { Trailer } from '../udf/index.ts';
import { type FoundArea, type FoundErofs, findContent } from './content.ts';
import { hasPlainMbr } from './gpt.ts';
import type { OpenDisk } from './open-disk.ts';
import { SECTOR } from './segments.ts';
import { checkBare, checkTree, type TreeCheckContext, type TreeFile } from './verify-tree.ts';

export interface VerifyDiskOptions {
  /** Hex; default what a VMDK of ours says. For disks with partitions one a partition, separated by commas. */
  readonly rootHash?: string;
  /** The hash tree of a disk without partitions, when it is not on the disk. */
  readonly treeFile?: TreeFile;
  readonly signal?: AbortSignal;
  /** Bytes that were read. */
  readonly onProgress?: (done: number) => void;
}

export interface VerifyDiskReport {
  readonly problems: string[];
  /** What could not be checked, and why. */
  readonly unchecked: string[];
  bytes: number;
}

const CHUNK = 1 << 20;

/**
 * Checks the descriptor, partition tables, digests of all layers (the tags of the device table), the metadata image
 * (when the disk says its digest) and hash trees against root hashes.
 */
export async function verifyDisk(disk: OpenDisk, options: VerifyDiskOptions = {}): Promise<VerifyDiskReport> {
  const run = new DiskCheck(disk, options);
  await run.all();
  return run.report;
}

class DiskCheck {
  readonly report: VerifyDiskReport = { problems: [], unchecked: [], bytes: 0 };
  readonly #disk: OpenDisk;
  readonly #options: VerifyDiskOptions;

  constructor(disk: OpenDisk, options: VerifyDiskOptions) {
    this.#disk = disk;
    this.#options = options;
  }

  async all(): Promise<void> {
    const { vmdk, problems, source, path } = this.#disk;
    if (vmdk?.intact === false)
      this.report.problems.push(`${path} (the descriptor) was changed after it was written`);
    this.report.problems.push(...problems);
    if (problems.length > 0) return;
    const volume = vmdk?.database['veneer.udf.parts'];
    if (volume !== undefined) {
      if (this.#options.rootHash !== undefined)
        this.report.problems.push(`${path} is a UDF disk: no root hash is about it`);
      return this.#volume(volume);
    }
    const content = findContent(source);
    this.report.problems.push(...content.problems);
    if (content.udf !== null) return this.#udf(content.udf);
    if (content.whole === null && !hasPlainMbr(source))
      this.report.problems.push(`the protective MBR${this.#where(0)} was changed`);
    const notes = vmdk?.database ?? {};
    const hashes = (this.#options.rootHash ?? notes['veneer.verity.roothash'] ?? '')
      .split(',')
      .filter(Boolean);
    const areas: readonly Area[] =
      content.whole === null ? content.partitions : [{ ...content.whole, at: 0, size: source.size }];
    const metadata = areas.find(({ erofs }) => erofs !== null);
    if (metadata === undefined) {
      this.report.problems.push(
        `${path} holds no EROFS image that can be read${this.#where(areas[0]?.at ?? 0)}`,
      );
      return;
    }
    const digest = await this.#metadata(metadata, notes['veneer.fsmeta']);
    await this.#layers(
      metadata.erofs!,
      content.whole === null ? areas.slice(areas.indexOf(metadata) + 1) : null,
    );
    const trees = areas.filter(({ tree }) => tree !== null);
    const wrong = hashes.find((hash) => !/^[0-9a-f]{64}$/.test(hash));
    if (wrong !== undefined) {
      this.report.problems.push(`"${wrong}" is no root hash: 64 lower-case hex digits`);
      return;
    }
    const { treeFile } = this.#options;
    if (hashes.length > 0 && (trees.length === 0 || treeFile !== undefined))
      return this.#bare(areas, metadata, notes['veneer.fsmeta']?.slice('sha256:'.length) ?? digest, hashes);
    if (treeFile !== undefined) this.report.unchecked.push(`${treeFile.path}: no root hash is known`);
    if (hashes.length > 0 && hashes.length !== trees.length) {
      this.report.problems.push(
        `${path} has ${trees.length} hash trees that can be read, and ${hashes.length} root hashes are known`,
      );
      return;
    }
    for (const [i, area] of trees.entries()) {
      if (hashes.length === 0)
        this.report.unchecked.push(`the hash tree ${nameOf(area)}: no root hash is known`);
      else {
        const { at, size } = area;
        await checkTree(this.#context(), { name: nameOf(area), at, size }, area.tree!, hashes[i]!);
      }
    }
  }

  /** A UDF disk: every part against the digest that the descriptor gives, `SECTORS@sha256:HEX,…`. */
  async #volume(parts: string): Promise<void> {
    let at = 0;
    for (const part of parts.split(',')) {
      const match = /^(\d{1,12})@sha256:([0-9a-f]{64})$/.exec(part);
      const size = Number(match?.[1] ?? 0) * SECTOR;
      if (match === null || at + size > this.#disk.source.size) {
        this.report.problems.push(`${this.#disk.path} names a part that is not on the disk: ${part}`);
        return;
      }
      const hash = createHash('sha256');
      await this.#read(at, size, (chunk) => void hash.update(chunk));
      if (hash.digest('hex') !== match[2])
        this.report.problems.push(`${size} bytes${this.#where(at)} have not the digest sha256:${match[2]}`);
      at += size;
    }
  }

  /** A UDF disk without a descriptor of ours: the volume knows its metadata's digest, and not where a tar ends. */
  async #udf({ origin, firstBlock, metadataBlocks, metadataDigest }: Trailer): Promise<void> {
    const hash = createHash('sha256');
    const at = (origin + firstBlock) * SECTOR;
    await this.#read(at, metadataBlocks * SECTOR, (chunk) => void hash.update(chunk));
    if (`sha256:${hash.digest('hex')}` !== metadataDigest)
      this.report.problems.push(`the UDF metadata${this.#where(at)} has not the digest ${metadataDigest}`);
    this.report.unchecked.push(`the tars on ${this.#disk.path}: only a VMDK says their digests`);
  }

  /** The metadata image against its digest; returns what it has, in hex. */
  async #metadata(area: Area, digest: string | undefined): Promise<string> {
    const { blocks, blockSize } = area.erofs!;
    const hash = createHash('sha256');
    await this.#read(area.at, blocks * blockSize, (chunk) => void hash.update(chunk));
    const found = hash.digest('hex');
    if (digest === undefined) {
      if (area.tree === null && this.#options.rootHash === undefined)
        this.report.unchecked.push('the metadata image: nothing on the disk says its digest');
    } else if (`sha256:${found}` !== digest) {
      this.report.problems.push(
        `the metadata image${this.#where(area.at)} has the digest sha256:${found}, not ${digest}`,
      );
    }
    return found;
  }

  /** Every device against the digest that its slot names it by. `partitions`: where they are, else where the slots say. */
  async #layers(erofs: FoundErofs, partitions: readonly Area[] | null): Promise<void> {
    for (const [i, { tag, at, size }] of erofs.devices.entries()) {
      const begin = partitions === null ? at : partitions[i]?.at;
      const name = `layer ${i + 1}`;
      if (begin === undefined || (partitions === null && at === 0) || begin + size > this.#disk.source.size) {
        this.report.problems.push(`${name} is not on the disk`);
      } else if (/^[0-9a-f]{64}$/.test(tag)) {
        if (!(await this.#hasDigest(begin, size, erofs.blockSize, tag)))
          this.report.problems.push(`${name}${this.#where(begin)} has not the digest sha256:${tag}`);
      } else {
        this.report.unchecked.push(`${name}: the device table does not name it by a digest`);
      }
    }
  }

  /** A tar may end inside its last block, and how long it was stands nowhere: every such length is tried. */
  async #hasDigest(at: number, size: number, blockSize: number, hex: string): Promise<boolean> {
    const hash = createHash('sha256');
    let last = Buffer.alloc(0);
    await this.#read(at, size - blockSize, (chunk) => void hash.update(chunk));
    await this.#read(at + size - blockSize, blockSize, (chunk) => {
      last = Buffer.from(chunk);
    });
    for (let length = last.length; length > 0; length--) {
      if (hash.copy().update(last.subarray(0, length)).digest('hex') === hex) return true;
      if (last[length - 1] !== 0) return false;
    }
    return false;
  }

  /** Data without a superblock behind it, against root hashes: one for the whole disk, or one a partition. */
  async #bare(
    areas: readonly Area[],
    metadata: Area,
    salt: string,
    hashes: readonly string[],
  ): Promise<void> {
    const { blockSize, size, devices } = metadata.erofs!;
    const first = areas.indexOf(metadata);
    if (hashes.length !== areas.length - first) {
      this.report.problems.push(
        `${this.#disk.path} has ${areas.length - first} parts, and ${hashes.length} root hashes are known`,
      );
      return;
    }
    for (const [i, area] of areas.slice(first).entries()) {
      const device = devices[i - 1];
      const tag = device?.tag ?? salt;
      const dataSize = device?.size ?? (areas.length === 1 ? size : metadata.erofs!.blocks * blockSize);
      const name = nameOf(area);
      if (!/^[0-9a-f]{64}$/.test(tag)) {
        this.report.unchecked.push(`the data ${name}: its salt is not known`);
      } else if (dataSize > area.size) {
        this.report.problems.push(`the data ${name} has ${dataSize} bytes and does not fit`);
      } else {
        const parameters = { dataBlockSize: blockSize, salt: Buffer.from(tag, 'hex') };
        const { at, size: room } = area;
        await checkBare(
          this.#context(),
          { name, at, size: room, dataSize, parameters },
          this.#options.treeFile ?? null,
          hashes[i]!,
        );
      }
    }
  }

  #context(): TreeCheckContext {
    return {
      source: this.#disk.source,
      problems: this.report.problems,
      signal: this.#options.signal,
      count: (bytes) => this.#count(bytes),
      where: (at) => this.#where(at),
    };
  }

  async #read(at: number, length: number, take: (chunk: Buffer) => void): Promise<void> {
    const buffer = Buffer.allocUnsafe(Math.min(CHUNK, Math.max(length, 0)));
    for (let done = 0; done < length; ) {
      this.#options.signal?.throwIfAborted();
      const chunk = buffer.subarray(0, Math.min(CHUNK, length - done));
      this.#disk.source.readInto(chunk, at + done);
      take(chunk);
      done += chunk.length;
      this.#count(chunk.length);
      await letOthersRun();
    }
  }

  #count(bytes: number): void {
    this.report.bytes += bytes;
    this.#options.onProgress?.(this.report.bytes);
  }

  /** ` at 4096 of FILE` */
  #where(at: number): string {
    const found = this.#disk.source.locate(at);
    return found === null ? ` at ${at}` : ` at ${found.at} of ${found.path}`;
  }
}

type Area = FoundArea & { readonly at: number; readonly size: number; readonly name?: string };

const nameOf = (area: Area): string =>
  area.name === undefined ? 'of the disk' : `of partition ${area.name}`;
