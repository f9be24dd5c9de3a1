/** The superblock in front of a dm-verity tree. */
import { createHash } from 'node:crypto';
import type { ByteSource } from '../bytes/io.ts';
import { VeneerError } from '../errors.ts';
import {
  HASH_BLOCK_SIZE,
  HASH_TYPE_NORMAL,
  MAX_SALT,
  VERITY_SIGNATURE,
  VERITY_SUPERBLOCK,
  VERITY_VERSION,
} from './format.ts';
import { type TreeShape, treeShape, type VerityParameters } from './layout.ts';

const { at: AT, size: SIZE } = VERITY_SUPERBLOCK;

export interface VeritySuperblock extends VerityParameters {
  readonly dataBlocks: number;
  /** 16 bytes. */
  readonly uuid: Buffer;
}

/** The UUID of our trees: made of the salt, so that the same data gives the same bytes (version 8, RFC 9562). */
export function treeUuid(salt: Buffer): Buffer {
  const uuid = createHash('sha256').update('veneer verity').update(salt).digest().subarray(0, 16);
  uuid[6] = (uuid[6]! & 0x0f) | 0x80;
  uuid[8] = (uuid[8]! & 0x3f) | 0x80;
  return uuid;
}

/** The superblock, padded to a hash block: the tree follows at once. */
export function writeSuperblock({ dataBlockSize, salt, dataBlocks, uuid }: VeritySuperblock): Buffer {
  const block = Buffer.alloc(HASH_BLOCK_SIZE);
  block.write(VERITY_SIGNATURE, AT.signature, 'latin1');
  block.writeUInt32LE(VERITY_VERSION, AT.version);
  block.writeUInt32LE(HASH_TYPE_NORMAL, AT.hash_type);
  uuid.copy(block, AT.uuid);
  block.write('sha256', AT.algorithm, 'latin1');
  block.writeUInt32LE(dataBlockSize, AT.data_block_size);
  block.writeUInt32LE(HASH_BLOCK_SIZE, AT.hash_block_size);
  block.writeBigUInt64LE(BigInt(dataBlocks), AT.data_blocks);
  block.writeUInt16LE(salt.length, AT.salt_size);
  salt.copy(block, AT.salt);
  return block;
}

/** True when a superblock begins at `at`. */
export function hasSuperblock(source: ByteSource, at: number): boolean {
  if (at < 0 || at + SIZE > source.size) return false;
  return source.read(at, VERITY_SIGNATURE.length).toString('latin1') === VERITY_SIGNATURE;
}

/**
 * Reads the superblock at `at`. Throws `verity/corrupt`, and `verity/unsupported` for other hashes and hash blocks than
 * we write.
 */
export function readSuperblock(source: ByteSource, at: number): VeritySuperblock & { shape: TreeShape } {
  const corrupt = (reason: string): VeneerError =>
    new VeneerError('verity/corrupt', `Cannot read the verity superblock at ${at}: ${reason}`);
  const unsupported = (reason: string): VeneerError =>
    new VeneerError('verity/unsupported', `Cannot use the verity superblock at ${at}: ${reason}`);
  if (!hasSuperblock(source, at)) throw corrupt('none is there');
  const block = Buffer.from(source.read(at, SIZE));
  const version = block.readUInt32LE(AT.version);
  const type = block.readUInt32LE(AT.hash_type);
  const algorithm = block.toString('latin1', AT.algorithm, AT.algorithm + 32).replace(/\0.*$/s, '');
  const hashBlockSize = block.readUInt32LE(AT.hash_block_size);
  const dataBlocks = block.readBigUInt64LE(AT.data_blocks);
  const saltSize = block.readUInt16LE(AT.salt_size);
  if (version !== VERITY_VERSION) throw unsupported(`version ${version}`);
  if (type !== HASH_TYPE_NORMAL) throw unsupported(`hash type ${type}`);
  if (algorithm !== 'sha256') throw unsupported(`hash "${algorithm}"`);
  if (hashBlockSize !== HASH_BLOCK_SIZE) throw unsupported(`hash blocks of ${hashBlockSize} bytes`);
  if (saltSize > MAX_SALT) throw corrupt(`a salt of ${saltSize} bytes`);
  if (dataBlocks > BigInt(Number.MAX_SAFE_INTEGER)) throw corrupt(`${dataBlocks} data blocks`);
  const superblock: VeritySuperblock = {
    dataBlockSize: block.readUInt32LE(AT.data_block_size),
    salt: block.subarray(AT.salt, AT.salt + saltSize),
    dataBlocks: Number(dataBlocks),
    uuid: block.subarray(AT.uuid, AT.uuid + 16),
  };
  return { ...superblock, shape: treeShape(superblock.dataBlocks, superblock) };
}
