/**
 * VMDK descriptors: the text that makes one disk of many files.
 *
 * "Virtual Disk Format 5.0" of VMware, section "The Descriptor File"; what QEMU makes of it is in its block/vmdk.c:
 * only `RW` extents of type FLAT are read (others are skipped without a word, and what follows moves up), names have at
 * most 511 bytes and no way to escape a quote, and the text must be shorter than 1 MiB.
 */
import { createHash } from 'node:crypto';
import { VeneerError } from '../errors.ts';
import type { DiskExtent } from './extra.ts';
import { SECTOR } from './segments.ts';

export interface VmdkFacts {
  /** Files as the descriptor names them. */
  readonly extents: readonly DiskExtent[];
  /** Content id, 32 bits; readers take it for a change counter. */
  readonly cid: number;
  /** Entries of the disk database, without the `ddb.veneer.` in front. */
  readonly notes: Readonly<Record<string, string>>;
}

/** "twoGbMaxExtentFlat": VMware itself cuts at 2047 MiB. */
export const MAX_EXTENT_SECTORS = 2047 * 2048;
const MAX_NAME_BYTES = 511;
/** QEMU reads one byte less. */
const MAX_DESCRIPTOR = (1 << 20) - 1;

const CHECKSUM_KEY = 'ddb.veneer.checksum';
const NO_CHECKSUM = '0'.repeat(64);

/** Throws `disk/unsupported` for a file name that no descriptor can hold. */
export function checkExtentName(file: string): void {
  const refuse = (reason: string): VeneerError =>
    new VeneerError('disk/unsupported', `Cannot name ${JSON.stringify(file)} in a VMDK: ${reason}`, {
      hint: 'Use --relative with a disk near the store, move the store (--root), or write a raw disk.',
    });
  if (/["\x00-\x1f\x7f]/.test(file)) throw refuse('quotes and control characters cannot be escaped there');
  if (file.includes('\ufffd')) throw refuse('it is not UTF-8');
  if (Buffer.byteLength(file) > MAX_NAME_BYTES)
    throw refuse(`it has ${Buffer.byteLength(file)} bytes, at most ${MAX_NAME_BYTES} are read`);
}

/** The text of a descriptor. Extents that are too long are split. Throws `disk/unsupported` and `disk/limit`. */
export function writeVmdk({ extents, cid, notes }: VmdkFacts): string {
  const lines: string[] = [];
  let total = 0;
  for (const { sectors, file, offset } of extents) {
    checkExtentName(file);
    total += sectors;
    for (let done = 0; done < sectors; done += MAX_EXTENT_SECTORS) {
      const length = Math.min(MAX_EXTENT_SECTORS, sectors - done);
      lines.push(`RW ${length} FLAT "${file}" ${offset + done}`);
    }
  }
  const text = `${[
    '# Disk DescriptorFile',
    'version=1',
    'encoding="UTF-8"',
    `CID=${cid.toString(16).padStart(8, '0')}`,
    'parentCID=ffffffff',
    'isNativeSnapshot="no"',
    'createType="twoGbMaxExtentFlat"',
    '',
    '# Extent description',
    ...lines,
    '',
    '# The Disk Data Base',
    '#DDB',
    '',
    'ddb.adapterType = "ide"',
    `ddb.geometry.cylinders = "${cylinders(total)}"`,
    `ddb.geometry.heads = "${HEADS}"`,
    `ddb.geometry.sectors = "${TRACK}"`,
    'ddb.virtualHWVersion = "4"',
    ...Object.entries(notes).map(([key, value]) => `ddb.veneer.${key} = "${value}"`),
    `${CHECKSUM_KEY} = "${NO_CHECKSUM}"`,
  ].join('\n')}\n`;
  if (Buffer.byteLength(text) > MAX_DESCRIPTOR) {
    throw new VeneerError(
      'disk/limit',
      `Cannot write a VMDK of ${lines.length} extents: its text would have ${Buffer.byteLength(text)} bytes, QEMU reads ${MAX_DESCRIPTOR}`,
      { hint: 'Shorter paths help: --relative, or write a raw disk.' },
    );
  }
  return text.replace(NO_CHECKSUM, checksum(text));
}

/** ATA's default translation (16 heads, 63 sectors a track, at most 16383 cylinders). */
const HEADS = 16;
const TRACK = 63;
const cylinders = (sectors: number): number =>
  Math.min(16383, Math.max(1, Math.ceil(sectors / (HEADS * TRACK))));

/** SHA-256 over the text with zeros where the checksum stands. */
function checksum(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** A descriptor that was read. */
export interface ReadVmdk {
  readonly createType: string;
  readonly cid: string;
  readonly parentCid: string;
  readonly extents: readonly ReadExtent[];
  /** The disk database, without `ddb.`. */
  readonly database: Readonly<Record<string, string>>;
  /** Whether the text is as veneer wrote it; null when it holds no checksum of ours. */
  readonly intact: boolean | null;
}

export interface ReadExtent {
  readonly access: string;
  readonly sectors: number;
  /** FLAT, ZERO, SPARSE, VMFS … */
  readonly type: string;
  /** Null for types without a file. */
  readonly file: string | null;
  readonly offset: number;
}

const EXTENT_LINE =
  /^(RW|RDONLY|NOACCESS)[ \t]+(\d{1,15})[ \t]+(\w+)(?:[ \t]+"([^"]*)"(?:[ \t]+(\d{1,15}))?)?\s*$/;

/** True for bytes that begin like a descriptor, comments in front allowed. */
export function isVmdk(head: Buffer): boolean {
  return /^(?:\s*#[^\n]*\n|\s*\n)*\s*version\s*=/.test(head.toString('latin1'));
}

/** Reads any descriptor. Throws `disk/corrupt` for what is none. */
export function readVmdk(bytes: Buffer): ReadVmdk {
  const wrong = (reason: string): VeneerError =>
    new VeneerError('disk/corrupt', `Cannot read the VMDK descriptor: ${reason}`);
  if (bytes.length > MAX_DESCRIPTOR) throw wrong(`it has ${bytes.length} bytes`);
  const text = bytes.toString('utf8');
  const settings = new Map<string, string>();
  const database: Record<string, string> = Object.create(null);
  const extents: ReadExtent[] = [];
  for (const [i, line] of text.replaceAll('\0', '').split(/\r?\n/).entries()) {
    if (/^\s*#/.test(line)) continue;
    const extent = EXTENT_LINE.exec(line.trim());
    if (extent !== null) {
      const [, access, sectors, type, file, offset] = extent;
      extents.push({
        access: access!,
        sectors: Number(sectors),
        type: type!.toUpperCase(),
        file: file ?? null,
        offset: Number(offset ?? 0),
      });
      continue;
    }
    if (/^\s*(?:RW|RDONLY|NOACCESS)\b/.test(line))
      throw wrong(`line ${i + 1} is an extent that cannot be read`);
    const setting = /^\s*([\w.]+)\s*=\s*"?([^"]*?)"?\s*$/.exec(line);
    if (setting === null) continue;
    const [, key, value] = setting;
    if (key!.startsWith('ddb.')) database[key!.slice(4)] = value!;
    else settings.set(key!.toLowerCase(), value!);
  }
  if (!settings.has('version')) throw wrong('it has no version');
  const total = extents.reduce((sum, { sectors, offset }) => Math.max(sum + sectors, offset), 0);
  if (!Number.isSafeInteger(total * SECTOR)) throw wrong(`${total} sectors`);
  return {
    createType: settings.get('createtype') ?? '',
    cid: settings.get('cid') ?? '',
    parentCid: settings.get('parentcid') ?? '',
    extents,
    database,
    intact: isIntact(text, database),
  };
}

/** Null for a descriptor in which nothing is ours. */
function isIntact(text: string, database: Readonly<Record<string, string>>): boolean | null {
  const stored = database[CHECKSUM_KEY.slice(4)];
  if (stored !== undefined) return stored === checksum(zeroChecksum(text));
  return text.includes('ddb.veneer.') ? false : null;
}

function zeroChecksum(text: string): string {
  return text.replace(
    new RegExp(`(${CHECKSUM_KEY.replaceAll('.', '\\.')} = ")[^"]*(")`),
    `$1${NO_CHECKSUM}$2`,
  );
}
