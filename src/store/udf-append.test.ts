import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, test } from 'node:test';
import { archive, dir, file, sparseFile } from '../../test/support/tar-builder.ts';
import { VeneerError } from '../errors.ts';
import { appendTrailer, journalPath, stripTrailer } from './udf-append.ts';

const directory = mkdtempSync(join(tmpdir(), 'veneer-append-'));
after(() => rmSync(directory, { recursive: true, force: true }));

const { signal } = new AbortController();
const WAYS = { names: 'bytes', whiteouts: 'sidecar', signal } as const;
const TAR = archive(
  dir('d/'),
  file('d/a', 'a'.repeat(3000)),
  ...Array.from({ length: 50 }, (_, i) => file(`d/${i}`, `${i}`)),
  sparseFile('sparse', 9000, [{ offset: 1000, data: Buffer.alloc(2000, 7) }], '1.0'),
);

const sha256 = (bytes: Buffer): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

let counter = 0;
function place(bytes: Buffer): string {
  const path = join(directory, `${counter++}.tar`);
  writeFileSync(path, bytes);
  return path;
}

async function indexed(bytes: Buffer, ways: Partial<typeof WAYS> = {}): Promise<Buffer> {
  const path = place(bytes);
  await appendTrailer(path, { ...WAYS, ...ways });
  return readFileSync(path);
}

const withCode = (code: string) => (error: unknown) => error instanceof VeneerError && error.code === code;

test('appended, the same again, and off again', async () => {
  for (const tar of [
    TAR,
    TAR.subarray(0, -1024),
    Buffer.concat([TAR, Buffer.alloc(100)]),
    Buffer.concat([TAR, Buffer.alloc(4096, 1)]),
  ]) {
    const path = place(tar);
    const first = await appendTrailer(path, WAYS);
    assert.equal(first.appended, true);
    assert.equal(first.digest, sha256(tar));
    const bytes = readFileSync(path);
    assert.ok(bytes.subarray(0, tar.length).equals(tar));
    assert.equal(bytes.length, first.plan.blocks * 512);
    assert.equal((await appendTrailer(path, WAYS)).appended, false);
    assert.ok(readFileSync(path).equals(bytes));
    const stripped = await stripTrailer(path, { signal });
    assert.deepEqual(stripped, {
      tarLength: tar.length,
      digest: sha256(tar),
      removed: bytes.length - tar.length,
    });
    assert.ok(readFileSync(path).equals(tar));
    await assert.rejects(stripTrailer(path, { signal }), withCode('udf/no-trailer'));
    await appendTrailer(path, WAYS);
    assert.ok(readFileSync(path).equals(bytes), 'the same bytes each time');
    assert.equal(existsSync(journalPath(path)), false);
  }
});

test('other options replace the trailer', async () => {
  const path = place(TAR);
  await appendTrailer(path, WAYS);
  const replaced = await appendTrailer(path, { ...WAYS, names: 'unicode', whiteouts: 'literal' });
  assert.equal(replaced.appended, true);
  assert.ok(
    readFileSync(path).equals(await indexed(TAR, { names: 'unicode', whiteouts: 'literal' } as never)),
  );
  await stripTrailer(path, { signal });
  assert.ok(readFileSync(path).equals(TAR));
});

/** What a machine that lost power may leave: part of the trailer, and zeros where data was not written yet. */
test('whatever an interrupted append leaves, the next one ends it, and a strip undoes it', async () => {
  const whole = await indexed(TAR);
  const first = Math.ceil(TAR.length / 512) * 512;
  const states = [
    TAR.length,
    first,
    first + 512,
    first + 700,
    first + 4096,
    whole.length - 512,
    whole.length,
  ];
  for (const length of states) {
    for (const lost of [false, true]) {
      for (const again of ['index', 'strip'] as const) {
        const bytes = Buffer.from(whole.subarray(0, length));
        if (lost) bytes.fill(0, first + 512, Math.min(first + 3 * 512, length));
        const path = place(bytes);
        const journal = {
          inode: statSync(path).ino,
          tarLength: TAR.length,
          names: 'bytes',
          whiteouts: 'sidecar',
        };
        writeFileSync(journalPath(path), JSON.stringify(journal));
        if (again === 'index') await appendTrailer(path, WAYS);
        else await stripTrailer(path, { signal });
        assert.ok(readFileSync(path).equals(again === 'index' ? whole : TAR), `${length} ${lost} ${again}`);
        assert.equal(existsSync(journalPath(path)), false);
      }
    }
  }
});

test('an error while appending leaves the tar as it was', async () => {
  const path = place(TAR);
  const refuse = {
    ...WAYS,
    onPlanned: () => Promise.reject(new VeneerError('io/no-space', 'Cannot go on: full')),
  };
  await assert.rejects(appendTrailer(path, refuse), withCode('io/no-space'));
  assert.ok(readFileSync(path).equals(TAR));
  assert.deepEqual(
    readdirSync(directory).filter((name) => name.includes('veneer-append')),
    [],
  );
});

test('what a killed run left of its journal goes with the next one, whatever that finds', async () => {
  const path = place(TAR);
  const stray = join(directory, `${basename(journalPath(path))}.new`);
  writeFileSync(stray, '{"ver');
  await assert.rejects(stripTrailer(path, WAYS), withCode('udf/no-trailer'));
  assert.equal(existsSync(stray), false);
});

test('a journal costs nothing that was written later', async () => {
  const whole = await indexed(TAR);
  const path = place(
    Buffer.concat([whole.subarray(0, TAR.length + 1024), Buffer.from('written by somebody else')]),
  );
  const journal = { inode: statSync(path).ino, tarLength: TAR.length, names: 'bytes', whiteouts: 'sidecar' };
  writeFileSync(journalPath(path), JSON.stringify(journal));
  const before = readFileSync(path);
  await assert.rejects(appendTrailer(path, WAYS), withCode('udf/foreign-trailer'));
  await assert.rejects(stripTrailer(path, { signal }), withCode('udf/foreign-trailer'));
  assert.ok(readFileSync(path).equals(before));
  // a file that took its place is another file
  const other = place(TAR);
  renameSync(other, path);
  await appendTrailer(path, WAYS);
  assert.ok(readFileSync(path).equals(whole));
});

test('the journal of a file is found through any link to it, and nonsense in its place says nothing', async () => {
  const whole = await indexed(TAR);
  const path = place(whole.subarray(0, TAR.length + 2048));
  const link = `${path}.link`;
  symlinkSync(path, link);
  assert.equal(journalPath(link), journalPath(path));
  const journal = { inode: statSync(path).ino, tarLength: TAR.length, names: 'bytes', whiteouts: 'sidecar' };
  writeFileSync(journalPath(path), JSON.stringify(journal));
  await appendTrailer(link, WAYS);
  assert.ok(readFileSync(path).equals(whole));
  for (const nonsense of ['', '{', 'null', '[]', '"x"', JSON.stringify({ ...journal, tarLength: -1 })]) {
    writeFileSync(journalPath(path), nonsense);
    assert.equal((await appendTrailer(path, WAYS)).appended, false, nonsense);
    assert.equal(existsSync(journalPath(path)), false);
  }
});

test('a trailer that is not its own is neither replaced nor taken off', async () => {
  const whole = await indexed(TAR);
  const changed = Buffer.from(whole);
  changed[1536] = changed[1536]! ^ 1; // a byte of a file
  const path = place(changed);
  await assert.rejects(stripTrailer(path, { signal }), withCode('udf/foreign-trailer'));
  await assert.rejects(appendTrailer(path, WAYS), withCode('udf/foreign-trailer'));
  assert.ok(readFileSync(path).equals(changed));
  // taken for a tar as it is, it gets a trailer of its own behind the foreign one
  const forced = await appendTrailer(path, { ...WAYS, asIs: true });
  assert.equal(forced.tarLength, changed.length);
  // and that one is its own, with force or without
  for (const asIs of [true, false])
    assert.equal((await appendTrailer(path, { ...WAYS, asIs })).appended, false);
  await stripTrailer(path, { signal });
  assert.ok(readFileSync(path).equals(changed));
});

test('a trailer with changed metadata is not taken for ours', async () => {
  const whole = await indexed(TAR);
  const changed = Buffer.from(whole);
  const at = Math.ceil(TAR.length / 512) * 512 + 36; // owner of the root
  changed[at] = 1;
  const path = place(changed);
  await assert.rejects(appendTrailer(path, WAYS), withCode('udf/foreign-trailer'));
  await stripTrailer(path, { signal });
  assert.ok(readFileSync(path).equals(TAR), 'cut off, because the tar is what the trailer says');
});

test('compressed tars, folders and read-only files are refused', async () => {
  const gzip = place(Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0]));
  await assert.rejects(appendTrailer(gzip, WAYS), withCode('cli/compressed'));
  await assert.rejects(appendTrailer(directory, WAYS), withCode('io/failed'));
  const path = place(TAR);
  chmodSync(path, 0o444);
  await assert.rejects(appendTrailer(path, WAYS), (error: VeneerError) =>
    ['udf/read-only', 'io/failed'].includes(error.code),
  );
  assert.ok(readFileSync(path).equals(TAR));
});

test('a cut trailer is part of the tar like any other bytes behind its end', async () => {
  const whole = await indexed(TAR);
  const path = place(whole);
  truncateSync(path, whole.length - 512);
  const appended = await appendTrailer(path, WAYS);
  assert.equal(appended.tarLength, whole.length - 512);
});
