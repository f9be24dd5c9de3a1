/** What a scanner makes of a tar. */
import assert from 'node:assert/strict';
import { type Finding, VeneerError } from '../../src/errors.ts';
import { type TarEntry, type TarLimits, TarScanner } from '../../src/tar/index.ts';
import { brokenTars } from './tar-cases/broken.ts';
import { layersOf, tarCases } from './tar-cases.ts';

export interface Scanned {
  readonly entries: TarEntry[];
  /** Payload bytes an entry. */
  readonly payloads: string[];
  readonly findings: Finding[];
  readonly offset: number;
  /** `code: message`, or '' */
  readonly error: string;
}

/** Scans `bytes` in pieces of the given sizes (the last one repeats); what was seen before an error is kept. */
export function scan(bytes: Buffer, sizes: readonly number[] = [], limits: Partial<TarLimits> = {}): Scanned {
  const entries: TarEntry[] = [];
  const payloads: string[] = [];
  const scanner = new TarScanner({
    onEntry(entry) {
      entries.push(entry);
      payloads.push('');
    },
    onPayload(buffer, start, end) {
      assert.ok(start < end);
      payloads[payloads.length - 1] += buffer.toString('latin1', start, end);
    },
    limits,
  });
  let error = '';
  try {
    for (let at = 0, i = 0; at < bytes.length; i++) {
      const size = sizes.length === 0 ? bytes.length : sizes[Math.min(i, sizes.length - 1)]!;
      // A copy, so that a scanner that keeps a chunk, or looks beyond it, is found out.
      const chunk = Buffer.from(bytes.subarray(at, at + size));
      scanner.write(chunk);
      chunk.fill(0xa5);
      at += size;
      assert.equal(scanner.offset, Math.min(at, bytes.length));
    }
    scanner.end();
  } catch (thrown) {
    if (!(thrown instanceof VeneerError)) throw thrown;
    error = `${thrown.code}: ${thrown.message}`;
  }
  return { entries, payloads, findings: scanner.findings, offset: scanner.offset, error };
}

export const scanOk = (bytes: Buffer): Scanned => {
  const scanned = scan(bytes);
  assert.equal(scanned.error, '');
  return scanned;
};

/** What cuts cannot change. */
export const comparable = ({ entries, payloads, findings, error }: Scanned): unknown => ({
  entries,
  payloads,
  findings,
  error,
});

export const everyTar: readonly (readonly [string, Buffer])[] = [
  ...tarCases.flatMap((tarCase) =>
    layersOf(tarCase).map((layer, i) => [`${tarCase.name}, layer ${i}`, layer] as const),
  ),
  ...brokenTars.map(({ name, bytes }) => [`broken: ${name}`, bytes] as const),
];
