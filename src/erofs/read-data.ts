/** Where the bytes of regular files stand: plain, with an inline tail, or in chunks; in the image or on its devices. */
import type { Extent, TreeNode } from '../tree/node.ts';
import {
  CHUNK_BITS_MASK,
  CHUNK_INDEX,
  CHUNK_INDEXES,
  LAYOUT_CHUNKED,
  LAYOUT_INLINE,
  LAYOUT_PLAIN,
  NULL_ADDR,
} from './format.ts';
import { corruptImage, corruptInode, type ImageBytes, u16, u32, unsupportedLayout } from './image-bytes.ts';
import type { DiskInode } from './reader.ts';
import type { Superblock } from './superblock.ts';

/** Byte offset in a source: 0 is the image itself, `i` device `i` of its table. */
interface Place {
  readonly source: number;
  readonly at: number;
}

/** A device that has a place in the unified address space. */
interface Range {
  /** First block, and the one behind the last. */
  readonly begin: number;
  readonly end: number;
  readonly source: number;
}

export class DataReader {
  readonly #image: ImageBytes;
  readonly #superblock: Superblock;
  /** By first block; they do not overlap. */
  readonly #ranges: readonly Range[];

  /** Throws `erofs/corrupt` when devices overlap: no address would mean one thing. */
  constructor(image: ImageBytes, superblock: Superblock) {
    this.#image = image;
    this.#superblock = superblock;
    this.#ranges = sortDevices(superblock);
  }

  /** Points `node` at its bytes. Throws `erofs/corrupt` for what is outside its source. */
  read(inode: DiskInode, node: TreeNode): void {
    if (inode.size === 0) return;
    switch (inode.layout) {
      case LAYOUT_PLAIN: {
        // one hole: mkfs.erofs has it for files that are nothing else
        if (inode.u === NULL_ADDR) return;
        const place = this.#resolve(inode.u, inode.size, inode.nid);
        node.source = place.source;
        node.at = place.at;
        return;
      }
      case LAYOUT_INLINE:
        node.extents = this.#readInline(inode);
        return;
      case LAYOUT_CHUNKED:
        node.extents = this.#readChunkMap(inode);
        return;
      default:
        throw unsupportedLayout(inode.nid, inode.layout);
    }
  }

  #readInline(inode: DiskInode): Extent[] {
    const from = inlineBegin(inode.size, this.#superblock.blockSize);
    const at = inode.xattrAt + inode.xattrSize;
    const length = inode.size - from;
    this.#image.locate(at, length, 'inline data', inode.nid);
    const tail = { offset: from, length, source: 0, at };
    if (from === 0) return [tail];
    return [{ offset: 0, length: from, ...this.#resolve(inode.u, from, inode.nid) }, tail];
  }

  #readChunkMap(inode: DiskInode): Extent[] {
    const { blockSize, devices } = this.#superblock;
    const image = this.#image;
    const format = inode.u & 0xffff;
    const indexes = (format & CHUNK_INDEXES) !== 0;
    if ((format & ~(CHUNK_BITS_MASK | CHUNK_INDEXES)) !== 0) throw unsupportedLayout(inode.nid, inode.layout);
    const unit = indexes ? CHUNK_INDEX.size : 4;
    const chunkSize = blockSize * 2 ** (format & CHUNK_BITS_MASK);
    const count = Math.ceil(inode.size / chunkSize);
    const mapAt = Math.ceil((inode.xattrAt + inode.xattrSize) / unit) * unit;
    if (mapAt + count * unit > image.size) throw corruptInode(inode.nid, `a chunk map of ${count} chunks`);
    image.spend(count * unit, 'the chunk map', inode.nid);
    const extents: Extent[] = [];
    for (let chunk = 0; chunk < count; chunk++) {
      const base = image.locate(mapAt + chunk * unit, unit, 'the chunk map', inode.nid);
      const { bytes } = image;
      const block = u32(bytes, base + (indexes ? CHUNK_INDEX.at.startblk_lo : 0));
      if (block === NULL_ADDR) continue;
      const device = indexes ? u16(bytes, base + CHUNK_INDEX.at.device_id) : 0;
      const offset = chunk * chunkSize;
      const length = Math.min(chunkSize, inode.size - offset);
      if (device > devices.length) throw corruptInode(inode.nid, `device ${device} of ${devices.length}`);
      const place =
        device === 0
          ? this.#resolve(block, length, inode.nid)
          : this.#within(device, block * blockSize, length, inode.nid);
      const last = extents.at(-1);
      if (
        last &&
        last.offset + last.length === offset &&
        last.source === place.source &&
        last.at + last.length === place.at
      ) {
        extents[extents.length - 1] = { ...last, length: last.length + length };
      } else {
        extents.push({ offset, length, ...place });
      }
    }
    return extents;
  }

  /** A block address of the unified space: inside one of the devices, else in the image itself (`erofs_map_dev`). */
  #resolve(block: number, length: number, nid: number): Place {
    const { blockSize } = this.#superblock;
    let low = 0;
    let high = this.#ranges.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#ranges[middle]!.end > block) high = middle;
      else low = middle + 1;
    }
    const range = this.#ranges[low];
    return range !== undefined && range.begin <= block
      ? this.#within(range.source, (block - range.begin) * blockSize, length, nid)
      : this.#within(0, block * blockSize, length, nid);
  }

  #within(source: number, at: number, length: number, nid: number): Place {
    const { blockSize, devices } = this.#superblock;
    const size = source === 0 ? this.#image.size : devices[source - 1]!.blocks * blockSize;
    if (at + length > size)
      throw corruptInode(nid, `data at ${at}, ${length} bytes, of device ${source} with ${size}`);
    return { source, at };
  }
}

/** Of a file with an inline tail: where the tail begins. A size of whole blocks has its last block inline. */
export function inlineBegin(size: number, blockSize: number): number {
  return size === 0 ? 0 : (Math.ceil(size / blockSize) - 1) * blockSize;
}

function sortDevices({ devices }: Superblock): Range[] {
  const ranges: Range[] = [];
  devices.forEach(({ uniaddr, blocks }, i) => {
    // 0: reached by its number only
    if (uniaddr !== 0 && blocks > 0) ranges.push({ begin: uniaddr, end: uniaddr + blocks, source: i + 1 });
  });
  ranges.sort((a, b) => a.begin - b.begin);
  for (let i = 1; i < ranges.length; i++) {
    const [before, range] = [ranges[i - 1]!, ranges[i]!];
    if (range.begin < before.end)
      throw corruptImage(`devices ${before.source} and ${range.source} overlap at block ${range.begin}`);
  }
  return ranges;
}
