/** Compares runs of bytes without reading more than it takes to see that they differ. */
import type { ByteSource } from '../bytes/io.ts';
import type { AddressSpace } from './address-space.ts';

const PIECE = 1 << 18;
const FIRST = 1 << 12;
const left = Buffer.allocUnsafeSlow(PIECE);
const right = Buffer.allocUnsafeSlow(PIECE);

export function equalBytes(
  target: ByteSource,
  at: number,
  space: AddressSpace,
  address: number,
  length: number,
): boolean {
  let piece = FIRST;
  for (let done = 0; done < length; ) {
    const take = Math.min(piece, length - done);
    const now = target.read(at + done, take, left);
    const old = space.read(address + done, take, right);
    if (!now.subarray(0, take).equals(old.subarray(0, take))) return false;
    done += take;
    piece = PIECE;
  }
  return true;
}
