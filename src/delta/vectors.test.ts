/** The test vectors of docs/formats/delta.md, which other implementations are tested with. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { bufferSource } from '../bytes/io.ts';
import { VeneerError } from '../errors.ts';
import { digestOf } from '../oci/digest.ts';
import { readHeader } from './format.ts';
import { rebuildTar } from './rebuild.ts';

interface Vector {
  readonly name: string;
  readonly sources: readonly string[];
  readonly target: string;
  readonly delta: string;
}

const file = new URL('../../docs/formats/delta-vectors.json', import.meta.url);
const { good, bad } = JSON.parse(readFileSync(file, 'utf8')) as Record<'good' | 'bad', Vector[]>;

/** `@N`: N bytes, byte i being bits 7 to 14 of i * i; `from K`: turned left by K. */
function bytesOf(text: string): Buffer {
  const match = /^@(\d+)(?: from (\d+))?$/.exec(text);
  if (match === null) return Buffer.from(text, 'hex');
  const bytes = Buffer.from(Array.from({ length: Number(match[1]) }, (_, i) => ((i * i) >> 7) & 0xff));
  const turn = Number(match[2] ?? 0);
  return Buffer.concat([bytes.subarray(turn), bytes.subarray(0, turn)]);
}

function rebuild({ sources, delta }: Vector): Buffer {
  const tars = new Map(
    sources.map((source) => [digestOf(bytesOf(source)), bufferSource(bytesOf(source))] as const),
  );
  const bytes = bufferSource(Buffer.from(delta, 'hex'));
  return Buffer.concat(
    Array.from(
      rebuildTar(bytes, (digest) => tars.get(digest)!),
      (piece) => Buffer.from(piece),
    ),
  );
}

describe('test vectors', () => {
  assert.ok(good.length >= 8 && bad.length >= 15);
  for (const vector of good) {
    it(`${vector.name}: gives its target`, () => {
      const target = bytesOf(vector.target);
      assert.ok(rebuild(vector).equals(target));
      const delta = Buffer.from(vector.delta, 'hex');
      const header = readHeader((at, length) => delta.subarray(at, at + length), delta.length);
      assert.equal(header.target.digest, digestOf(target));
    });
  }
  for (const vector of bad) {
    it(`${vector.name}: refused`, () => {
      assert.throws(
        () => rebuild(vector),
        (error: unknown) => error instanceof VeneerError && /^delta\/(corrupt|unsupported)$/.test(error.code),
      );
    });
  }
});
