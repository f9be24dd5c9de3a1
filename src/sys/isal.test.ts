import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { constants, crc32, deflateRawSync, gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { missing } from '../../test/support/require-tool.ts';
import { type Inflater, makeInflater } from '../compress/inflater.ts';
import { VeneerError } from '../errors.ts';
import { makeIsalInflater, makeIsalInflaterAhead } from './isal.ts';

/** What an engine makes of the input: its output, or the code of the error. */
async function outcome(inflater: Inflater, input: Buffer, size: number): Promise<Buffer | string> {
  const out: Buffer[] = [];
  // As those who read do it: there is one piece of the input at a time.
  const chunk = Buffer.alloc(Math.min(size, input.length));
  try {
    for (let at = 0; at < input.length; at += size) {
      const length = input.copy(chunk, 0, at, at + size);
      for await (const piece of inflater.push(chunk.subarray(0, length))) out.push(Buffer.from(piece));
    }
    for (const piece of inflater.finish()) out.push(Buffer.from(piece));
  } catch (error) {
    assert.ok(error instanceof VeneerError, String(error));
    return error.code;
  } finally {
    inflater.close();
  }
  return Buffer.concat(out);
}

function requireIsal(t: TestContext): boolean {
  if (makeIsalInflater() !== null) return true;
  missing(t, 'libisal.so.2 is not installed (Debian: libisal2)');
  return false;
}

/** All engines must say the same. Returns what they say. */
async function agree(input: Buffer, size: number, what: string): Promise<Buffer | string> {
  const zlib = await outcome(makeInflater('gzip')!, input, size);
  for (const make of [makeIsalInflater, makeIsalInflaterAhead]) {
    const ours = await outcome(make()!, input, size);
    const same = typeof ours === 'string' || typeof zlib === 'string' ? ours === zlib : ours.equals(zlib);
    assert.ok(same, `${what}: ${make.name} ${describeOutcome(ours)}, zlib ${describeOutcome(zlib)}`);
  }
  return zlib;
}

const describeOutcome = (made: Buffer | string): string =>
  typeof made === 'string' ? made : `${made.length} bytes`;

const text = Buffer.from('a layer is a tar; '.repeat(5000));
/** Bytes that do not compress. */
const noise = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (Math.imul(i, 2654435761) >>> 13) & 255));

/** A member with every optional header field (RFC 1952, 2.3). */
function memberWithFields(body: Buffer): Buffer {
  const header = Buffer.concat([
    Buffer.from([0x1f, 0x8b, 8, 0b11110, 1, 2, 3, 4, 0, 3]),
    Buffer.from([5, 0, 1, 2, 3, 4, 5]),
    Buffer.from('layer.tar\0a comment\0'),
  ]);
  const check = Buffer.alloc(2);
  check.writeUInt16LE(crc32(header) & 0xffff);
  const trailer = Buffer.alloc(8);
  trailer.writeUInt32LE(crc32(body), 0);
  trailer.writeUInt32LE(body.length, 4);
  return Buffer.concat([header, check, deflateRawSync(body), trailer]);
}

const SOUND: Readonly<Record<string, Buffer>> = {
  text: gzipSync(text),
  'fixed Huffman codes': gzipSync(text, { strategy: constants.Z_FIXED }),
  'stored blocks': gzipSync(noise, { level: 0 }),
  'blocks of all kinds': Buffer.concat([gzipSync(noise), gzipSync(text, { level: 1 }), gzipSync(text)]),
  'no bytes': gzipSync(''),
  'many small members': Buffer.concat(Array.from({ length: 50 }, (_, i) => gzipSync(String(i)))),
  'members of no bytes': Buffer.concat([gzipSync(''), gzipSync(text), gzipSync('')]),
  'all header fields': Buffer.concat([memberWithFields(text), memberWithFields(noise)]),
  'zeros behind it': Buffer.concat([gzipSync(text), Buffer.alloc(70_000)]),
};

describe('ISA-L', () => {
  test('gives what zlib gives, in any chunking', async (t) => {
    if (!requireIsal(t)) return;
    for (const [name, input] of Object.entries(SOUND)) {
      // A byte at a time takes a thread's time for each.
      for (const size of [input.length < 20_000 ? 1 : 37, 1000, 1 << 16, 1 << 24]) {
        assert.notEqual(typeof (await agree(input, size, `${name}, chunks of ${size}`)), 'string', name);
      }
    }
  });

  test('refuses what is cut, wherever', async (t) => {
    if (!requireIsal(t)) return;
    const whole = memberWithFields(text);
    for (let cut = 1; cut < whole.length; cut++) {
      assert.equal(await agree(whole.subarray(0, cut), 64, `cut at ${cut}`), 'compress/corrupt');
    }
  });

  test('refuses what zlib refuses behind a member', async (t) => {
    if (!requireIsal(t)) return;
    for (const tail of ['x', '\x1f', '\x1f\x8b', '\x1f\x8b\x07', 'rubbish'.repeat(50)]) {
      for (const size of [1, 1 << 16]) {
        const input = Buffer.concat([gzipSync(text), Buffer.from(tail, 'latin1')]);
        assert.equal(
          await agree(input, size, `${JSON.stringify(tail)}, chunks of ${size}`),
          'compress/corrupt',
        );
      }
    }
  });

  test('refuses reserved header flags', async (t) => {
    if (!requireIsal(t)) return;
    for (const flags of [0x20, 0x40, 0x80, 0xe0, 0x22]) {
      const member = gzipSync(text);
      member[3] = flags;
      for (const input of [member, Buffer.concat([gzipSync(noise), member])]) {
        for (const size of [1, 1 << 20]) {
          assert.equal(await agree(input, size, `flags ${flags}, chunks of ${size}`), 'compress/corrupt');
        }
      }
    }
  });

  test('takes zeros for padding behind a member only', async (t) => {
    if (!requireIsal(t)) return;
    const damaged = gzipSync(text);
    damaged[0] = 0;
    assert.equal(await agree(damaged, 1000, 'a zero for the magic'), 'compress/corrupt');
  });

  test('of damaged input it says what zlib says', async (t) => {
    if (!requireIsal(t)) return;
    const whole = Buffer.concat([gzipSync(noise.subarray(0, 3000)), gzipSync(text)]);
    await fc.assert(
      fc.asyncProperty(
        fc.nat(whole.length - 1),
        fc.integer({ min: 1, max: 255 }),
        fc.integer({ min: 1, max: 5000 }),
        async (where, flip, size) => {
          const damaged = Buffer.from(whole);
          damaged[where]! ^= flip;
          await agree(damaged, size, `byte ${where} ^ ${flip}`);
        },
      ),
      { numRuns: 500 },
    );
  });

  test('a bomb comes in pieces', async (t) => {
    if (!requireIsal(t)) return;
    const bomb = gzipSync(Buffer.alloc(64 << 20));
    for (const inflater of [makeIsalInflater()!, makeIsalInflaterAhead()!]) {
      let largest = 0;
      let total = 0;
      const count = (piece: Buffer): void => {
        largest = Math.max(largest, piece.length);
        total += piece.length;
      };
      for await (const piece of inflater.push(bomb)) count(piece);
      for (const piece of inflater.finish()) count(piece);
      assert.equal(total, 64 << 20);
      assert.ok(largest <= 1 << 20);
    }
  });

  test('whoever wants no more can leave while the next piece is inflated', async (t) => {
    if (!requireIsal(t)) return;
    const bomb = gzipSync(Buffer.alloc(8 << 20));
    for (let round = 0; round < 20; round++) {
      const inflater = makeIsalInflaterAhead()!;
      for await (const piece of inflater.push(bomb)) {
        assert.ok(piece.every((byte) => byte === 0));
        break;
      }
      inflater.close();
    }
  });
});
