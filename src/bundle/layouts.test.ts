/** Layouts that somebody made to do harm, and layouts that a crash left. */
import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { type ErrorCode, VeneerError } from '../errors.ts';
import { REF_NAME } from '../oci/layout.ts';
import { changeLayout, createLayout } from './change-layout.ts';
import { collectGarbage } from './collect-garbage.ts';
import { openLayoutFolder } from './layout-folder.ts';
import { putNewImage } from './new-image.ts';
import { isReferenceName, listReferences, putReference, resolveReference } from './references.ts';
import { sourceDate } from './source-date.ts';

const INDEX = 'application/vnd.oci.image.index.v1+json';

async function makeLayout(t: TestContext): Promise<string> {
  const dir = mkdtempSync(join(tmpdir(), 'veneer-layout-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const path = join(dir, 'layout');
  createLayout(path);
  await changeLayout(path, async (layout) => putNewImage(layout, 'x', '2020-01-01T00:00:00Z'));
  return path;
}

const rejects = (work: Promise<unknown>, code: ErrorCode, reason: RegExp) =>
  assert.rejects(
    work,
    (error) => error instanceof VeneerError && error.code === code && reason.test(error.message),
  );

describe('layouts', () => {
  it('are not made where something is', async (t) => {
    const path = await makeLayout(t);
    assert.throws(() => createLayout(path), /there is something already/);
    writeFileSync(`${path}-file`, '');
    assert.throws(() => createLayout(`${path}-file`), VeneerError);
  });

  it('blobs or index.json outside of it are neither read nor written', async (t) => {
    const path = await makeLayout(t);
    const outside = join(path, '../outside');
    renameSync(join(path, 'blobs'), outside);
    symlinkSync(outside, join(path, 'blobs'));
    const put = changeLayout(path, async (layout) => putNewImage(layout, 'y', '2021-01-01T00:00:00Z'));
    await rejects(put, 'oci/invalid', /blobs is a symlink that leaves the directory/);
    await rejects(collectGarbage(path), 'oci/invalid', /leaves the directory/);
    assert.equal(readdirSync(join(outside, 'sha256')).length, 2);
    // Nothing is made there either.
    rmSync(join(outside, 'sha256'), { recursive: true });
    await assert.rejects(
      changeLayout(path, async (layout) => putNewImage(layout, 'y', '2021-01-01T00:00:00Z')),
    );
    assert.deepEqual(readdirSync(outside), []);
    rmSync(join(path, 'index.json'));
    symlinkSync('/etc/hostname', join(path, 'index.json'));
    await rejects(openLayoutFolder(path), 'oci/invalid', /leaves the directory/);
  });

  it('an index.json without end is refused', async (t) => {
    const path = await makeLayout(t);
    truncateSync(join(path, 'index.json'), 1e12);
    await rejects(openLayoutFolder(path), 'oci/limit', /more than the limit/);
  });

  it('gc deletes nothing when a manifest is damaged', async (t) => {
    const path = await makeLayout(t);
    const unneeded = await changeLayout(path, async (layout) => layout.putBlob(Buffer.from('unneeded')));
    const { descriptor } = (await openLayoutFolder(path)).entries[0]!;
    const file = join(path, 'blobs/sha256', descriptor.digest.slice(7));
    writeFileSync(file, '{}');
    await rejects(collectGarbage(path), 'oci/digest-mismatch', /its descriptor says/);
    rmSync(file);
    await rejects(collectGarbage(path), 'oci/not-found', /it is not there/);
    assert.ok(existsSync(join(path, 'blobs/sha256', unneeded.digest.slice(7))));
  });

  it('gc leaves what is no blob, and takes what a crash left', async (t) => {
    const path = await makeLayout(t);
    writeFileSync(join(path, 'blobs/sha256/README'), '');
    mkdirSync(join(path, 'blobs/sha256', '0'.repeat(64)));
    mkdirSync(join(path, '.umoci-1234/inner'), { recursive: true });
    writeFileSync(join(path, '.umoci-file'), '');
    const { removed, kept, workFolders, findings } = await collectGarbage(path);
    assert.deepEqual([removed.length, kept, workFolders], [0, 2, 1]);
    assert.deepEqual(findings.map((finding) => finding.path).sort(), ['0'.repeat(64), 'README']);
    assert.deepEqual(readdirSync(path).sort(), ['.umoci-file', 'blobs', 'index.json', 'oci-layout']);
  });

  it('gc keeps what artifacts and nested indexes need', async (t) => {
    const path = await makeLayout(t);
    const leaf = await changeLayout(path, async (layout) => {
      const data = layout.putBlob(Buffer.from('data'));
      const empty = layout.putBlob(Buffer.from('{}'));
      const artifact = layout.putBlob(
        Buffer.from(
          JSON.stringify({
            schemaVersion: 2,
            config: { mediaType: 'application/vnd.oci.empty.v1+json', ...empty },
            layers: [{ mediaType: 'application/x-thing', ...data }],
          }),
        ),
      );
      const mediaType = 'application/vnd.oci.image.manifest.v1+json';
      const index = { schemaVersion: 2, manifests: [{ mediaType, ...artifact }] };
      const outer = layout.putBlob(Buffer.from(JSON.stringify(index)));
      putReference(layout, 'artifact', { mediaType: INDEX, digest: outer.digest, size: outer.size });
      return data.digest;
    });
    const { removed, kept } = await collectGarbage(path);
    assert.deepEqual([removed.length, kept], [0, 6]);
    assert.ok(existsSync(join(path, 'blobs/sha256', leaf.slice(7))));
  });

  it('a name that leads to several images, or too deep, is refused', async (t) => {
    const path = await makeLayout(t);
    await changeLayout(path, async (layout) => {
      const raw = layout.entries[0]!.raw;
      const twice = layout.putBlob(Buffer.from(JSON.stringify({ schemaVersion: 2, manifests: [raw, raw] })));
      putReference(layout, 'two', { mediaType: INDEX, ...twice });
    });
    await rejects(
      openLayoutFolder(path).then((layout) => resolveReference(layout, 'two')),
      'oci/ambiguous',
      /leads to several/,
    );
    await changeLayout(path, async (layout) => {
      let raw = layout.entries[0]!.raw;
      for (let depth = 0; depth < 20; depth++) {
        const blob = layout.putBlob(Buffer.from(JSON.stringify({ schemaVersion: 2, manifests: [raw] })));
        raw = { mediaType: INDEX, ...blob };
      }
      putReference(layout, 'deep', raw);
    });
    await rejects(
      openLayoutFolder(path).then((layout) => resolveReference(layout, 'deep')),
      'oci/limit',
      /nest more than/,
    );
  });

  it('a name whose indexes lead nowhere, on many ways, is looked through once', async (t) => {
    const path = await makeLayout(t);
    await changeLayout(path, async (layout) => {
      let manifests: unknown[] = [];
      for (let depth = 0; depth < 8; depth++) {
        const blob = layout.putBlob(Buffer.from(JSON.stringify({ schemaVersion: 2, manifests })));
        manifests = Array.from({ length: 100 }, () => ({ mediaType: INDEX, ...blob }));
        if (depth === 7) putReference(layout, 'nowhere', { mediaType: INDEX, ...blob });
      }
    });
    await rejects(
      openLayoutFolder(path).then((layout) => resolveReference(layout, 'nowhere')),
      'oci/not-found',
      /no such tag/,
    );
  });

  it('are changed by one at a time, also in one process', async (t) => {
    const path = await makeLayout(t);
    const names = ['a', 'b', 'c'];
    await Promise.all(
      names.map((name) =>
        changeLayout(path, async (layout) => {
          await new Promise((resolve) => setTimeout(resolve, 5));
          putNewImage(layout, name, '2021-01-01T00:00:00Z');
        }),
      ),
    );
    assert.deepEqual(listReferences(await openLayoutFolder(path)).sort(), [...names, 'x']);
  });

  it('a second entry of a name goes with the first', async (t) => {
    const path = await makeLayout(t);
    await changeLayout(path, async (layout) => {
      const raw = layout.entries[0]!.raw;
      const other = { ...raw, annotations: { [REF_NAME]: 'other' } };
      layout.putIndex({ ...layout.index, manifests: [raw, other, raw] });
    });
    assert.deepEqual(listReferences(await openLayoutFolder(path)), ['x', 'other', 'x']);
    await changeLayout(path, async (layout) => putReference(layout, 'x', layout.entries[1]!.raw));
    assert.deepEqual(listReferences(await openLayoutFolder(path)), ['other', 'x']);
  });
});

describe('names', () => {
  it("follow the specification's grammar", () => {
    for (const good of ['a', '1.2', 'a/b', 'a--b', 'a@sha256:0', 'A_b+c-d.e:f/g'])
      assert.ok(isReferenceName(good), good);
    for (const bad of ['', '/', 'a/', '/a', 'a//b', '-a', 'a-', 'a---b', 'a..b', 'a b', 'ä', 'a\n', '.'])
      assert.ok(!isReferenceName(bad), JSON.stringify(bad));
    assert.ok(!isReferenceName(`${'a'.repeat(100_000)}!`));
  });
});

describe('SOURCE_DATE_EPOCH', () => {
  it('is a number of seconds', () => {
    assert.equal(sourceDate({ SOURCE_DATE_EPOCH: '1700000000' }), '2023-11-14T22:13:20Z');
    assert.equal(sourceDate({ SOURCE_DATE_EPOCH: '-1' }), '1969-12-31T23:59:59Z');
    for (const bad of ['x', '1.5', '999999999999', '1e9', ' 1'])
      assert.throws(() => sourceDate({ SOURCE_DATE_EPOCH: bad }), VeneerError, bad);
    assert.match(sourceDate({}), /^\d{4}-.*Z$/);
  });
});
