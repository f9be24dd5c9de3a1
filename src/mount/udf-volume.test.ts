import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { VeneerError } from '../errors.ts';
import { S_IFDIR, S_IFREG, TreeNode } from '../tree/node.ts';
import { planUdf, writeUdf } from '../udf/index.ts';
import type { UdfImage } from './types.ts';
import { checkUdf } from './udf-volume.ts';

const directory = mkdtempSync(join(tmpdir(), 'veneer-volume-'));
after(() => rmSync(directory, { recursive: true, force: true }));

const DATA = 64 * 512;
let counter = 0;

/** A volume of a data file and a trailer. */
function makeImage(): UdfImage {
  const root = new TreeNode(S_IFDIR | 0o755);
  const node = new TreeNode(S_IFREG | 0o644);
  Object.assign(node, { size: 1000, source: 0, at: 512 });
  root.children!.set('file', node);
  const digest = `sha256:${'ab'.repeat(32)}`;
  const tree = {
    root,
    sources: [{ kind: 'tar' as const, digest, size: DATA, alignment: 512 }],
    findings: [],
  };
  const options = {
    names: 'bytes',
    whiteouts: 'sidecar',
    bases: [0],
    firstBlock: DATA / 512,
    header: false,
  } as const;
  const plan = planUdf(tree, options);
  const chunks: Buffer[] = [];
  const sink = { write: (chunk: Buffer) => void chunks.push(Buffer.from(chunk)) };
  const { metadataDigest } = writeUdf(plan, { tarLength: DATA, digest }, sink, () => Buffer.alloc(0));
  const trailer = Buffer.concat(chunks);
  const prefix = join(directory, String(counter++));
  writeFileSync(`${prefix}.tar`, Buffer.alloc(DATA));
  writeFileSync(`${prefix}.udf`, trailer);
  return {
    parts: [
      { path: `${prefix}.tar`, size: DATA },
      { path: `${prefix}.udf`, size: trailer.length },
    ],
    names: 'bytes',
    anchorSector: plan.anchorBlock,
    metadataDigest,
  };
}

const refused = (image: UdfImage, code: string, message: RegExp): void =>
  assert.throws(
    () => checkUdf(image, 'the image'),
    (error) => error instanceof VeneerError && error.code === code && message.test(error.message),
  );

test('what was planned is accepted', () => {
  assert.deepEqual(checkUdf(makeImage(), 'the image'), { blockSize: 512, kind: 'file' });
});

test('a changed byte of metadata is not', () => {
  const image = makeImage();
  const { path } = image.parts[1]!;
  const bytes = readFileSync(path);
  bytes[700] = bytes[700]! ^ 1;
  writeFileSync(path, bytes);
  refused(image, 'mount/mismatch', /its UDF metadata is sha256:/);
});

test('a broken anchor never reaches the kernel, which would look elsewhere', () => {
  const image = makeImage();
  const { path } = image.parts[1]!;
  const bytes = readFileSync(path);
  bytes[bytes.length - 512 + 20] = 0xff;
  writeFileSync(path, bytes);
  refused(image, 'mount/invalid-image', /does not end in a UDF trailer/);
});

test('parts of other sizes, in another order or not there', () => {
  const image = makeImage();
  refused({ ...image, parts: image.parts.toReversed() }, 'mount/invalid-image', /does not end/);
  truncateSync(image.parts[0]!.path, DATA - 512);
  refused(image, 'mount/mismatch', /has \d+ bytes, expected/);
  rmSync(image.parts[0]!.path);
  refused(image, 'mount/missing', /cannot open/);
});

test('a sound volume that is not the one planned', () => {
  const image = makeImage();
  refused({ ...image, metadataDigest: `sha256:${'00'.repeat(32)}` }, 'mount/mismatch', /planned were/);
  refused({ ...image, anchorSector: 5 }, 'mount/mismatch', /its anchor at/);
});
