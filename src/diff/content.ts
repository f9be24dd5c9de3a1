/** Are two files equal? Told from where their bytes stand if possible, from as few bytes as possible otherwise. */
import { createHash } from 'node:crypto';
import { setImmediate as nextTick } from 'node:timers/promises';
import type { ByteSource } from '../bytes/io.ts';
import { fileExtents, fillPiece } from '../tree/file-data.ts';
import type { Extent, TreeNode } from '../tree/node.ts';

/** One of the two trees that are compared, and its file data. */
export interface DiffSide {
  /** Where to begin: a tree's root, or some node of it. */
  readonly root: TreeNode;
  /**
   * What each of the tree's sources is: equal words on both sides say that the bytes are equal, so they must not come
   * from somebody who may lie. '' where that is not known.
   */
  readonly sources: readonly string[];
  /** The bytes of source `index`. Asked for only when data must be read. */
  data(index: number): ByteSource;
  /** Whether the bytes of source `index` can be read at all; those that cannot are taken for different. Default: yes. */
  isReadable?(index: number): boolean;
}

/** Files are read in pieces of so many bytes. */
const PIECE = 256 << 10;
/** The event loop gets a turn after so many bytes, so that Ctrl-C is heard; a look at a file counts as some. */
const TURN_BYTES = 16 << 20;
const LOOK_COST = 4096;

const ZEROS = Buffer.alloc(PIECE);

export class Contents {
  readonly #signal: AbortSignal | undefined;
  /** Keys of what was hashed, by where it stands. */
  readonly #keys = new Map<string, string>();
  readonly #left = Buffer.allocUnsafe(PIECE);
  readonly #right = Buffer.allocUnsafe(PIECE);
  #sinceTurn = 0;

  constructor(signal: AbortSignal | undefined) {
    this.#signal = signal;
  }

  /** Do two regular files have the same bytes? Reads up to the first that differs. */
  async same(oldSide: DiffSide, old: TreeNode, newSide: DiffSide, now: TreeNode): Promise<boolean> {
    await this.#turn(LOOK_COST);
    if (old === now) return true;
    if (old.size !== now.size) return false;
    const left = new Runs(oldSide, old);
    const right = new Runs(newSide, now);
    for (let at = 0; at < now.size; ) {
      left.seek(at);
      right.seek(at);
      const end = Math.min(left.end, right.end);
      // A hole in both, or the same bytes of the same file: however long, nothing to read.
      if (left.here === right.here && left.here !== null) {
        at = end;
        continue;
      }
      if (!left.readable || !right.readable) return false;
      const length = Math.min(end - at, PIECE);
      if (!left.read(at, length, this.#left).equals(right.read(at, length, this.#right))) return false;
      at += length;
      await this.#turn(length);
    }
    return true;
  }

  /** Equal for files of equal content and only for those, on both sides. Hashes what is not zeros. */
  async key(side: DiffSide, node: TreeNode): Promise<string> {
    await this.#turn(LOOK_COST);
    const stands = placeOf(side, node);
    const known = stands === null ? undefined : this.#keys.get(stands);
    if (known !== undefined) return known;
    const key = await this.#hash(side, node);
    if (stands !== null) this.#keys.set(stands, key);
    return key;
  }

  async #hash(side: DiffSide, node: TreeNode): Promise<string> {
    const hash = createHash('sha256').update(`${node.size}`);
    const read = (source: number, at: number, length: number): Buffer => side.data(source).read(at, length);
    // A hole equals a run of zeros: zeros never go into the hash, but where other bytes stand does.
    let done = 0;
    for (const extent of fileExtents(node)) {
      const last = Math.min(endOf(extent), node.size);
      for (let at = Math.max(done, extent.offset - (extent.offset % PIECE)); at < last; at = done) {
        const piece = this.#left.subarray(0, Math.min(PIECE, node.size - at));
        fillPiece(node, at, piece, read);
        if (!piece.equals(ZEROS.subarray(0, piece.length))) hash.update(`|${at}|`).update(piece);
        done = at + PIECE;
        await this.#turn(piece.length);
      }
    }
    return hash.digest('base64');
  }

  async #turn(amount: number): Promise<void> {
    this.#sinceTurn += amount;
    if (this.#sinceTurn < TURN_BYTES) return;
    this.#sinceTurn = 0;
    await nextTick();
    this.#signal?.throwIfAborted();
  }
}

const endOf = (extent: Extent): number => extent.offset + extent.length;

/** Where a file in one piece stands; null for others, and where that is not known. */
function placeOf(side: DiffSide, node: TreeNode): string | null {
  const extents = fileExtents(node);
  if (extents.length !== 1 || extents[0]!.length !== node.size) return null;
  const { source, at, length } = extents[0]!;
  return side.sources[source] === '' ? null : `${side.sources[source]} ${at} ${length}`;
}

/** A position that goes through the runs and holes of one file. */
class Runs {
  readonly #side: DiffSide;
  readonly #extents: readonly Extent[];
  readonly #size: number;
  #next = 0;
  #extent: Extent | null = null;
  /** Where the bytes here stand: equal for equal bytes; '' in a hole, null when it is not known. */
  here: string | null = '';
  readable = true;
  /** Where the run or hole ends. */
  end = 0;

  constructor(side: DiffSide, node: TreeNode) {
    this.#side = side;
    this.#extents = fileExtents(node);
    this.#size = node.size;
  }

  /** `at` never goes back. */
  seek(at: number): void {
    while (this.#next < this.#extents.length && endOf(this.#extents[this.#next]!) <= at) this.#next++;
    const extent = this.#extents[this.#next];
    if (extent === undefined || extent.offset > at) {
      this.#extent = null;
      this.here = '';
      this.readable = true;
      this.end = Math.min(extent?.offset ?? this.#size, this.#size);
    } else {
      const source = this.#side.sources[extent.source]!;
      this.#extent = extent;
      this.readable = this.#side.isReadable?.(extent.source) ?? true;
      this.here = source === '' ? null : `${source} ${extent.at - extent.offset}`;
      this.end = Math.min(endOf(extent), this.#size);
    }
  }

  /** Bytes from `at`, where it was sought to or behind, within the run; they may stand in `scratch`. */
  read(at: number, length: number, scratch: Buffer): Buffer {
    if (this.#extent === null) return ZEROS.subarray(0, length);
    const { source, at: begin, offset } = this.#extent;
    return this.#side
      .data(source)
      .read(begin + at - offset, length, scratch)
      .subarray(0, length);
  }
}
