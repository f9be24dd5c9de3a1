/**
 * CRC-16 with polynomial 0x1021, most significant bit first, register 0 at the start and no final
 * inversion: ECMA-167 1/7.2.6 and the kernel's `crc_itu_t()`.
 */

/** Made when it is first asked for: most commands never do. */
let table: Uint16Array | undefined;

function makeTable(): Uint16Array {
  const table = new Uint16Array(256);
  for (let i = 0; i < 256; i++) {
    let crc = i << 8;
    for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1;
    table[i] = crc;
  }
  return table;
}

/** The CRC of `bytes[start, end)`. */
export function crcItuT(bytes: Uint8Array, start = 0, end = bytes.length): number {
  table ??= makeTable();
  let crc = 0;
  for (let i = start; i < end; i++) crc = ((crc << 8) & 0xffff) ^ table[(crc >>> 8) ^ bytes[i]!]!;
  return crc;
}
