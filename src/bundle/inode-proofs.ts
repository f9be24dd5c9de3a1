/**
 * The file beside a bundle's mtree file that proves which inodes are as they were: their number and the time of their
 * last change, which nobody can set (inode(7)). An inode of the same number and change time has the same data, owner,
 * mode, times, attributes, and as a directory the same names; so `repack` need not read it. docs/decisions/0072.
 */
import { createHash } from 'node:crypto';
import { putByteString } from '../bytes/byte-string.ts';
import type { Branch } from './mtree/write.ts';
import { mtreeOrder } from './mtree/write.ts';

/** Of one inode. */
export interface InodeProof {
  readonly inode: bigint;
  /** Seconds since the epoch, and nanoseconds from there. */
  readonly ctime: number;
  readonly ctimeNsec: number;
}

/** What was there, with the proof of each name. */
export interface ProvenNode extends InodeProof, Branch<ProvenNode> {
  readonly children: Map<string, ProvenNode> | null;
}

const MAGIC = Buffer.from('veneer inodes 1\n');
const DIGEST_BYTES = 32;
/** Depth u16, kind u8, length of the name u8, inode u64, seconds i64, nanoseconds u32. */
const ROW_BYTES = 24;
const DIRECTORY = 1;

/** The file's bytes; it is good for the mtree file with this digest only. */
export function encodeProofs<N extends Branch<N>>(
  root: N,
  proofOf: (node: N) => InodeProof,
  mtreeDigest: Buffer,
): Buffer {
  const rows: Buffer[] = [MAGIC, mtreeDigest];
  let piece = Buffer.allocUnsafe(1 << 18);
  let at = 0;
  for (const { depth, name, node } of mtreeOrder(root)) {
    if (at + ROW_BYTES + name.length > piece.length) {
      rows.push(piece.subarray(0, at));
      piece = Buffer.allocUnsafe(1 << 18);
      at = 0;
    }
    const { inode, ctime, ctimeNsec } = proofOf(node);
    piece.writeUInt16LE(depth, at);
    piece.writeUInt8(node.children === null ? 0 : DIRECTORY, at + 2);
    piece.writeUInt8(name.length, at + 3);
    piece.writeBigUInt64LE(inode, at + 4);
    piece.writeBigInt64LE(BigInt(ctime), at + 12);
    piece.writeUInt32LE(ctimeNsec, at + 20);
    at = putByteString(piece, at + ROW_BYTES, name);
  }
  rows.push(piece.subarray(0, at));
  const sum = createHash('sha256');
  for (const row of rows) sum.update(row);
  return Buffer.concat([...rows, sum.digest()]);
}

/** The tree of the file, or null when it is damaged or belongs to another mtree file: then nothing is proven. */
export function decodeProofs(bytes: Buffer, mtreeDigest: Buffer): ProvenNode | null {
  const end = bytes.length - DIGEST_BYTES;
  const start = MAGIC.length + DIGEST_BYTES;
  if (end < start || !bytes.subarray(0, MAGIC.length).equals(MAGIC)) return null;
  if (!bytes.subarray(MAGIC.length, start).equals(mtreeDigest)) return null;
  if (!createHash('sha256').update(bytes.subarray(0, end)).digest().equals(bytes.subarray(end))) return null;
  const open: ProvenNode[] = [];
  for (let at = start; at < end; ) {
    if (at + ROW_BYTES > end) return null;
    const depth = bytes.readUInt16LE(at);
    const isDir = bytes[at + 2] === DIRECTORY;
    const nameEnd = at + ROW_BYTES + bytes[at + 3]!;
    const node: ProvenNode = {
      inode: bytes.readBigUInt64LE(at + 4),
      ctime: Number(bytes.readBigInt64LE(at + 12)),
      ctimeNsec: bytes.readUInt32LE(at + 20),
      children: isDir ? new Map() : null,
    };
    if (depth > open.length || nameEnd > end || (depth === 0) !== (open.length === 0)) return null;
    open.length = depth;
    const parent = open.at(-1);
    if (parent !== undefined) {
      if (parent.children === null) return null;
      parent.children.set(bytes.toString('latin1', at + ROW_BYTES, nameEnd), node);
    }
    open.push(node);
    at = nameEnd;
  }
  return open[0] ?? null;
}
