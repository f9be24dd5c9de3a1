/** Makes the delta of one tar against others. */
import { constants, zstdCompressSync } from 'node:zlib';
import type { ByteSource } from '../bytes/io.ts';
import { AddressSpace } from './address-space.ts';
import { carryOut } from './carry-out.ts';
import { COLUMNS, encodeHeader, type TarId } from './format.ts';
import { DELTA_LEVELS, type DeltaLevel } from './level.ts';
import { OpEncoder } from './op-encoder.ts';
import { planSteps } from './plan.ts';

export interface Tar extends TarId {
  readonly bytes: ByteSource;
}

/** In memory, all at once; `target.digest` and those of `sources` are taken for true. */
export function createDelta(
  target: Tar,
  sources: readonly Tar[],
  level: DeltaLevel = DELTA_LEVELS.default,
): Buffer {
  const space = new AddressSpace(sources.map(({ bytes }) => bytes));
  const encoder = new OpEncoder(space.startSet);
  for (const step of planSteps(target.bytes, space)) {
    const scripts = carryOut([step], target.bytes, space, level);
    for (let next = scripts.next(); ; next = scripts.next()) {
      encoder.add(next.value);
      if (next.done) break;
    }
  }
  encoder.finish();
  const raw = COLUMNS.map((name) => encoder[name].filled());
  const params = { [constants.ZSTD_c_compressionLevel]: level.compression };
  const columns = raw.map((bytes) => (bytes.length === 0 ? bytes : zstdCompressSync(bytes, { params })));
  const sizes = columns.map(({ length }, i) => ({ rawSize: raw[i]!.length, size: length }));
  return Buffer.concat([encodeHeader(target, sources, sizes), ...columns]);
}
