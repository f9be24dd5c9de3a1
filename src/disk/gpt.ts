/** GUID partition tables, UEFI specification 2.10, chapter 5. Pure. */
import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { alignUp } from '../bytes/align.ts';
import type { ByteSource } from '../bytes/io.ts';
import { defineStruct } from '../bytes/struct.ts';
import { VeneerError } from '../errors.ts';
import { SECTOR } from './segments.ts';

const HEADER = defineStruct('EFI_PARTITION_TABLE_HEADER', 92, [
  ['Signature', 0, 8],
  ['Revision', 8, 4],
  ['HeaderSize', 12, 4],
  ['HeaderCRC32', 16, 4],
  ['Reserved', 20, 4],
  ['MyLBA', 24, 8],
  ['AlternateLBA', 32, 8],
  ['FirstUsableLBA', 40, 8],
  ['LastUsableLBA', 48, 8],
  ['DiskGUID', 56, 16],
  ['PartitionEntryLBA', 72, 8],
  ['NumberOfPartitionEntries', 80, 4],
  ['SizeOfPartitionEntry', 84, 4],
  ['PartitionEntryArrayCRC32', 88, 4],
]);

const ENTRY = defineStruct('EFI_PARTITION_ENTRY', 128, [
  ['PartitionTypeGUID', 0, 16],
  ['UniquePartitionGUID', 16, 16],
  ['StartingLBA', 32, 8],
  ['EndingLBA', 40, 8],
  ['Attributes', 48, 8],
  ['PartitionName', 56, 72],
]);

const MBR = defineStruct('protective MBR record', 16, [
  ['BootIndicator', 0, 1],
  ['StartingCHS', 1, 3],
  ['OSType', 4, 1],
  ['EndingCHS', 5, 3],
  ['StartingLBA', 8, 4],
  ['SizeInLBA', 12, 4],
]);
const MBR_RECORDS = 446;
const MBR_SIGNATURE = 510;
const GPT_PROTECTIVE = 0xee;

const SIGNATURE = 'EFI PART';
const REVISION = 0x10000;
/** "Linux filesystem data", 0FC63DAF-8483-4772-8E79-3D69D8477DE4: the first three fields are little-endian. */
const LINUX_DATA = Buffer.from('af3dc60f838472478e793d69d8477de4', 'hex');
/** `PartitionAttribute`: read-only, bit 60 of the type's own bits (systemd's Discoverable Partitions). */
const READ_ONLY = 1n << 60n;
const MIN_ENTRIES = 128;
/** Linux makes no more partitions of one disk (`DISK_MAX_PARTS`). */
export const MAX_PARTITIONS = 255;
/** No table that anybody makes is larger. */
const MAX_TABLE = 1 << 20;

export interface GptPartition {
  readonly name: string;
  /** Sectors. */
  readonly start: number;
  readonly sectors: number;
}

export interface PlannedGpt {
  /** Protective MBR, header and entries: the first sectors of the disk. */
  readonly head: Buffer;
  /** Entries and second header: the last sectors. */
  readonly tail: Buffer;
  /** Sector where the tail begins. */
  readonly tailAt: number;
}

/**
 * Plans both tables. `layout` places the partitions, given the first sector that is free for them; GUIDs come from
 * `identity` (a digest), so equal disks have equal tables. Throws `disk/limit`.
 */
export function planGpt(layout: (first: number) => readonly GptPartition[], identity: Buffer): PlannedGpt {
  let count = MIN_ENTRIES;
  let partitions = layout(2 + (count * ENTRY.size) / SECTOR);
  if (partitions.length > MAX_PARTITIONS) {
    throw new VeneerError(
      'disk/limit',
      `Cannot make ${partitions.length} partitions: Linux sees at most ${MAX_PARTITIONS} on a disk`,
      { hint: 'Leave out --gpt: a flat disk holds any number of layers.' },
    );
  }
  if (partitions.length > count) {
    count = alignUp(partitions.length, MIN_ENTRIES);
    partitions = layout(2 + (count * ENTRY.size) / SECTOR);
  }
  const entries = writeEntries(partitions, count, identity);
  const entrySectors = entries.length / SECTOR;
  const last = partitions.at(-1)!;
  const tailAt = alignUp(last.start + last.sectors, 8);
  const alternate = tailAt + entrySectors;
  const place = { first: 2 + entrySectors, last: tailAt - 1, count, crc: crc32(entries), identity };
  const header = writeHeader({ ...place, my: 1, other: alternate, entriesAt: 2 });
  const second = writeHeader({ ...place, my: alternate, other: 1, entriesAt: tailAt });
  return {
    head: Buffer.concat([writeMbr(alternate + 1), header, entries]),
    tail: Buffer.concat([entries, second]),
    tailAt,
  };
}

function writeMbr(sectors: number): Buffer {
  const block = Buffer.alloc(SECTOR);
  const { at } = MBR;
  block.writeUIntBE(0x000200, MBR_RECORDS + at.StartingCHS, 3);
  block[MBR_RECORDS + at.OSType] = GPT_PROTECTIVE;
  block.writeUIntBE(0xffffff, MBR_RECORDS + at.EndingCHS, 3);
  block.writeUInt32LE(1, MBR_RECORDS + at.StartingLBA);
  block.writeUInt32LE(Math.min(sectors - 1, 0xffffffff), MBR_RECORDS + at.SizeInLBA);
  block.writeUInt16BE(0x55aa, MBR_SIGNATURE);
  return block;
}

interface HeaderFacts {
  readonly my: number;
  readonly other: number;
  readonly entriesAt: number;
  readonly first: number;
  readonly last: number;
  readonly count: number;
  readonly crc: number;
  readonly identity: Buffer;
}

function writeHeader(facts: HeaderFacts): Buffer {
  const block = Buffer.alloc(SECTOR);
  const { at } = HEADER;
  block.write(SIGNATURE, at.Signature, 'latin1');
  block.writeUInt32LE(REVISION, at.Revision);
  block.writeUInt32LE(HEADER.size, at.HeaderSize);
  block.writeBigUInt64LE(BigInt(facts.my), at.MyLBA);
  block.writeBigUInt64LE(BigInt(facts.other), at.AlternateLBA);
  block.writeBigUInt64LE(BigInt(facts.first), at.FirstUsableLBA);
  block.writeBigUInt64LE(BigInt(facts.last), at.LastUsableLBA);
  makeGuid(facts.identity, 'disk').copy(block, at.DiskGUID);
  block.writeBigUInt64LE(BigInt(facts.entriesAt), at.PartitionEntryLBA);
  block.writeUInt32LE(facts.count, at.NumberOfPartitionEntries);
  block.writeUInt32LE(ENTRY.size, at.SizeOfPartitionEntry);
  block.writeUInt32LE(facts.crc, at.PartitionEntryArrayCRC32);
  block.writeUInt32LE(crc32(block.subarray(0, HEADER.size)), at.HeaderCRC32);
  return block;
}

function writeEntries(partitions: readonly GptPartition[], count: number, identity: Buffer): Buffer {
  const entries = Buffer.alloc(count * ENTRY.size);
  const { at } = ENTRY;
  for (const [i, { name, start, sectors }] of partitions.entries()) {
    const base = i * ENTRY.size;
    LINUX_DATA.copy(entries, base + at.PartitionTypeGUID);
    makeGuid(identity, `partition ${i}`).copy(entries, base + at.UniquePartitionGUID);
    entries.writeBigUInt64LE(BigInt(start), base + at.StartingLBA);
    entries.writeBigUInt64LE(BigInt(start + sectors - 1), base + at.EndingLBA);
    entries.writeBigUInt64LE(READ_ONLY, base + at.Attributes);
    entries.write(name.slice(0, 35), base + at.PartitionName, 'utf16le');
  }
  return entries;
}

/** A version 8 UUID (RFC 9562) in the byte order of the table. */
function makeGuid(identity: Buffer, what: string): Buffer {
  const guid = createHash('sha256').update(identity).update(what).digest().subarray(0, 16);
  guid[7] = (guid[7]! & 0x0f) | 0x80; // the third field is little-endian here
  guid[8] = (guid[8]! & 0x3f) | 0x80;
  return guid;
}

export interface ReadGpt {
  readonly partitions: readonly GptPartition[];
  /** What is wrong with it and did not keep us from reading it. */
  readonly problems: readonly string[];
}

/** The table of a disk, or null when it has none. Throws `disk/corrupt` when neither of both tables can be read. */
export function readGpt(disk: ByteSource): ReadGpt | null {
  if (disk.size < 3 * SECTOR) return null;
  const hasSignature = (at: number): boolean =>
    disk.read(at, SIGNATURE.length).toString('latin1') === SIGNATURE;
  const backupAt = Math.floor(disk.size / SECTOR - 1) * SECTOR;
  if (!hasSignature(SECTOR) && !(hasSignature(backupAt) && hasProtectiveMbr(disk))) return null;
  const problems: string[] = [];
  const first = tryTable(disk, SECTOR, problems, 'the partition table');
  const second = tryTable(disk, backupAt, problems, 'the second partition table');
  const partitions = first ?? second;
  if (partitions === null)
    throw new VeneerError('disk/corrupt', `Cannot read the partition table: ${problems.join('; ')}`);
  if (!hasProtectiveMbr(disk)) problems.push('the protective MBR is missing');
  return { partitions, problems };
}

/** Whether the first sector is what {@link planGpt} puts there: a record for the whole disk, and no boot code. */
export function hasPlainMbr(disk: ByteSource): boolean {
  return writeMbr(disk.size / SECTOR).equals(disk.read(0, SECTOR));
}

function hasProtectiveMbr(disk: ByteSource): boolean {
  const block = disk.read(0, SECTOR);
  const types = [0, 1, 2, 3].map((i) => block[MBR_RECORDS + i * MBR.size + MBR.at.OSType]);
  return block.readUInt16BE(MBR_SIGNATURE) === 0x55aa && types.includes(GPT_PROTECTIVE);
}

function tryTable(disk: ByteSource, at: number, problems: string[], name: string): GptPartition[] | null {
  try {
    return readTable(disk, at);
  } catch (error) {
    if (!(error instanceof VeneerError)) throw error;
    problems.push(`${name} is damaged: ${error.message}`);
    return null;
  }
}

function readTable(disk: ByteSource, at: number): GptPartition[] {
  const wrong = (reason: string): VeneerError => new VeneerError('disk/corrupt', reason);
  const header = Buffer.from(disk.read(at, SECTOR));
  if (header.toString('latin1', 0, SIGNATURE.length) !== SIGNATURE) throw wrong('no signature');
  const size = header.readUInt32LE(HEADER.at.HeaderSize);
  if (size < HEADER.size || size > SECTOR) throw wrong(`a header of ${size} bytes`);
  const crc = header.readUInt32LE(HEADER.at.HeaderCRC32);
  header.writeUInt32LE(0, HEADER.at.HeaderCRC32);
  if (crc32(header.subarray(0, size)) !== crc) throw wrong('wrong checksum of the header');
  if (header.subarray(size).some((byte) => byte !== 0)) throw wrong('bytes behind the header');
  if (header.readBigUInt64LE(HEADER.at.MyLBA) !== BigInt(at / SECTOR)) throw wrong('it belongs elsewhere');
  const count = header.readUInt32LE(HEADER.at.NumberOfPartitionEntries);
  const entrySize = header.readUInt32LE(HEADER.at.SizeOfPartitionEntry);
  const bytes = count * entrySize;
  const entriesAt = header.readBigUInt64LE(HEADER.at.PartitionEntryLBA) * BigInt(SECTOR);
  if (entrySize < ENTRY.size || bytes > MAX_TABLE || entriesAt + BigInt(bytes) > BigInt(disk.size))
    throw wrong(`${count} entries of ${entrySize} bytes at ${entriesAt}`);
  const entries = Buffer.from(disk.read(Number(entriesAt), bytes));
  if (crc32(entries) !== header.readUInt32LE(HEADER.at.PartitionEntryArrayCRC32))
    throw wrong('wrong checksum of the entries');
  const partitions: GptPartition[] = [];
  for (let base = 0; base < bytes; base += entrySize) {
    const type = entries.subarray(base, base + 16);
    if (type.every((byte) => byte === 0)) continue;
    const start = entries.readBigUInt64LE(base + ENTRY.at.StartingLBA);
    const end = entries.readBigUInt64LE(base + ENTRY.at.EndingLBA);
    if (end < start || (end + 1n) * BigInt(SECTOR) > BigInt(disk.size))
      throw wrong(`partition ${base / entrySize + 1} stands from sector ${start} to ${end}`);
    const nameAt = base + ENTRY.at.PartitionName;
    const name = entries.toString('utf16le', nameAt, nameAt + 72).replace(/\0.*$/s, '');
    partitions.push({ name, start: Number(start), sectors: Number(end - start) + 1 });
  }
  return partitions;
}
