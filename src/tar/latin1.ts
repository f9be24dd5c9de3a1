/** Bytes to byte strings. */

/** Node's own method, which its types leave out; `toString` does the same with more ado, and this runs for every name. */
interface Latin1Bytes {
  latin1Slice(start: number, end: number): string;
}

/** `bytes[start, end)` as a byte string. */
export function latin1(bytes: Buffer, start: number, end: number): string {
  return (bytes as Buffer & Latin1Bytes).latin1Slice(start, end);
}
