/** Puts a tar together from a delta and the tars it was made against. */
import type { ByteSource } from '../bytes/io.ts';
import { VeneerError } from '../errors.ts';
import type { ColumnReader } from './column-reader.ts';
import { corruptDelta, OP_COPY, OP_LITERAL, type TarId, VARINT } from './format.ts';
import { PIECE, PieceRing } from './piece-ring.ts';
import { DeltaReader } from './read-ops.ts';
import { WindowedSource } from './windowed-source.ts';

/** Shorter gaps are one byte each. */
const SHORT_GAP = VARINT.more;

/** Shorter runs are not worth a word, unless they go on in the next piece or come from the last. */
const MIN_SAME = 512;

/**
 * Told of each piece before it comes, in the order of the target: `length` bytes from `at` of it are those at `from` of a source.
 */
export type OnSame = (at: number, length: number, diffId: string, from: number) => void;

export interface RebuildOptions {
  readonly onSame?: OnSame;
  /** What the pieces are made in; without it each is good until the next is asked for. */
  readonly ring?: PieceRing;
}

/** Opens the tar of a layer by its diffID. */
export type FindTar = (diffId: string) => ByteSource;

/**
 * The bytes of the delta's target in order, in pieces that are good for as long as `ring` says. They have the right
 * length and nothing else is promised: whoever uses them hashes them first, for the delta only claims what they are.
 * Throws `delta/corrupt`, `delta/base` when a source has another size, and what `findTar` throws.
 */
export function* rebuildTar(
  delta: ByteSource,
  findTar: FindTar,
  { onSame = () => {}, ring = new PieceRing(1) }: RebuildOptions = {},
): Generator<Buffer, void, undefined> {
  const reader = new DeltaReader(delta);
  try {
    // Opened when first used: there may be more of them than a process has file descriptors.
    const sources: WindowedSource[] = [];
    const source = (index: number): WindowedSource =>
      (sources[index] ??= new WindowedSource(openSource(reader.header.sources[index]!, findTar)));
    let piece = ring.next();
    let filled = 0;
    /** Where the piece begins in the target. */
    let begin = 0;
    for (let op = reader.next(); op !== null; op = reader.next()) {
      /** Bytes of a patch up to the next change. */
      let gap = -1;
      const from = op.kind === OP_LITERAL ? '' : reader.header.sources[op.source]!.digest;
      for (let done = 0; done < op.length; ) {
        const take = Math.min(op.length - done, PIECE - filled);
        const end = filled + take;
        if (op.kind === OP_LITERAL) {
          reader.literal(piece, filled, end);
        } else {
          source(op.source).copy(op.at + done, piece, filled, end);
          if (op.kind === OP_COPY) {
            if (op.length >= MIN_SAME) onSame(begin + filled, take, from, op.at + done);
          } else {
            const shift = op.at + done - filled;
            gap = patch(reader, piece, filled, end, gap, op.length - done, (start, length) =>
              onSame(begin + start, length, from, start + shift),
            );
          }
        }
        done += take;
        filled = end;
        if (filled === PIECE) {
          yield piece;
          piece = ring.next();
          begin += PIECE;
          filled = 0;
        }
      }
    }
    if (filled > 0) yield piece.subarray(0, filled);
  } finally {
    reader.close();
  }
}

/**
 * Changes the bytes of a patch that stand in `piece` from `start` to `end`; `left` of the patch are to come, these
 * included. `gap` is how many stay before the next change, -1 before the first; returns the same for what follows.
 * `onSame` is told of gaps by where they begin in the piece.
 */
function patch(
  reader: DeltaReader,
  piece: Buffer,
  start: number,
  end: number,
  gap: number,
  left: number,
  onSame: (start: number, length: number) => void,
): number {
  const last = start + left;
  const nextGap = (at: number): number => {
    const next = reader.gap();
    if (next > last - at) throw corruptDelta('a change stands behind the run that it belongs to');
    return next;
  };
  const { gaps, changes } = reader.changed;
  const first = gap < 0 ? nextGap(start) : gap;
  if (first > 0) onSame(start, Math.min(first, end - start));
  let at = start + first;
  for (;;) {
    at = changeNear(gaps, changes, piece, at, Math.min(end, last - SHORT_GAP));
    if (at >= end) break;
    piece[at] = piece[at]! + reader.change();
    at++;
    if (at === last) break;
    const next = nextGap(at);
    if (next >= MIN_SAME && at < end) onSame(at, Math.min(next, end - at));
    at += next;
  }
  return at - end;
}

/** Makes changes from `at` on that stand less than {@link SHORT_GAP} apart, nearly all do; those before `limit`. */
function changeNear(
  gaps: ColumnReader,
  changes: ColumnReader,
  piece: Buffer,
  start: number,
  limit: number,
): number {
  const steps = gaps.piece;
  const added = changes.piece;
  let step = gaps.at;
  let change = changes.at;
  let at = start;
  while (at < limit && step < steps.length && change < added.length && steps[step]! < SHORT_GAP) {
    piece[at] = piece[at]! + added[change++]!;
    at += 1 + steps[step++]!;
  }
  gaps.at = step;
  changes.at = change;
  return at;
}

function openSource(id: TarId, findTar: FindTar): ByteSource {
  const source = findTar(id.digest);
  if (source.size === id.size) return source;
  throw new VeneerError(
    'delta/base',
    `Cannot use the delta: its source ${id.digest} has ${id.size} bytes, the one that is here ${source.size}`,
  );
}
