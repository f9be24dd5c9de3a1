/** Full disks, and disks whose power goes. */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  fsck,
  gc,
  listImages,
  mountable,
  pullImage,
  resolveImage,
  Store,
  verify,
} from '../../src/store/index.ts';
import { makeSmallDisk } from '../support/disk-lab.ts';
import {
  buildImage,
  memorySource,
  noise,
  sampleTars,
  temporaryDirectory,
  writeLayout,
} from '../support/image-builder.ts';
import { startStoreProcess } from '../support/store-processes.ts';
import { archive, file } from '../support/tar-builder.ts';

const MB = 1_000_000;

function assertNothingHalf(root: string): void {
  for (const dir of readdirSync(join(root, 'tmp'), { withFileTypes: true })) {
    if (!dir.isDirectory()) continue;
    assert.deepEqual(readdirSync(join(root, 'tmp', dir.name)), [], dir.name);
  }
  assert.deepEqual(readdirSync(join(root, 'leases')), []);
}

for (const local of [true, false]) {
  test(`a full disk is said with what is needed (${local ? 'local source' : 'registry'})`, async (t) => {
    const disk = makeSmallDisk(t, 24 << 20);
    if (disk === null) return;
    const root = join(disk.directory, 'store');
    const store = Store.open(root);
    // Compressed it fits, so only writing shows that it does not.
    const big = buildImage([
      ...sampleTars(),
      archive(file('zeros', Buffer.alloc(60 * MB)), file('noise', noise(MB))),
    ]);
    const small = buildImage(sampleTars());
    const pull = (): Promise<unknown> => pullImage(store, memorySource(big, { name: 'big', local }));
    await assert.rejects(pull(), {
      code: 'io/no-space',
      message:
        /^Cannot pull big into .*store: its missing layers need more than 1\.\d MB, \d+(\.\d)? MB are free$/,
      hint: /veneer gc/,
    });
    assertNothingHalf(root);
    assert.deepEqual(listImages(store), []);
    assert.equal((await fsck(store)).ok, true);
    await pullImage(store, memorySource(small, { name: 'small' }));
    await assert.rejects(pull(), { code: 'io/no-space' });
    await gc(store);
    assert.deepEqual((await verify(store)).problems, []);
    assert.deepEqual((await fsck(store)).problems, []);
    store.close();
  });
}

test('what cannot fit is refused before anything is fetched', async (t) => {
  const disk = makeSmallDisk(t, 24 << 20);
  if (disk === null) return;
  const store = Store.open(join(disk.directory, 'store'));
  const image = buildImage([archive(file('noise', noise(30 * MB)))]);
  let opened = 0;
  const source = memorySource(image, { onOpen: () => opened++ });
  await assert.rejects(pullImage(store, source), {
    code: 'io/no-space',
    message: /need more than 30(\.\d)? MB/,
  });
  assert.equal(opened, 0);
  store.close();
});

test('at every amount of free space a pull works or says so, and leaves the store whole', async (t) => {
  const disk = makeSmallDisk(t, 16 << 20);
  if (disk === null) return;
  const root = join(disk.directory, 'store');
  const ballast = join(disk.directory, 'ballast');
  const image = buildImage([...sampleTars(), archive(file('data', 'abcdefgh'.repeat(100_000)))]);
  const outcomes = new Set<string>();
  for (let free = 0; free <= 4000; free += 250) {
    const store = Store.open(root);
    store.prepare();
    rmSync(ballast, { force: true });
    fill(ballast, free * 1000);
    try {
      await pullImage(store, memorySource(image, { name: `app-${free}` }));
      outcomes.add('done');
    } catch (error) {
      outcomes.add((error as { code: string }).code);
      assert.ok(listImages(store).every((one) => one.name !== `app-${free}`));
    }
    store.close();
    const again = Store.open(root);
    await gc(again);
    assert.equal((await fsck(again)).ok, true, 'a full disk keeps nobody from sweeping and checking');
    rmSync(ballast);
    assertNothingHalf(root);
    assert.equal((await fsck(again)).ok, true);
    rmSync(join(root, 'images'), { recursive: true });
    mkdirSync(join(root, 'images'));
    await gc(again);
    again.close();
  }
  assert.deepEqual([...outcomes].sort(), ['done', 'io/no-space']);
});

/** Writes a file that leaves about `free` bytes. */
function fill(path: string, free: number): void {
  const chunk = Buffer.alloc(64 * 1024, 1);
  writeFileSync(path, '');
  let written = 0;
  try {
    for (;;) {
      writeFileSync(path, chunk, { flag: 'a' });
      written += chunk.length;
    }
  } catch {
    // full
  }
  rmSync(path);
  for (let left = written - free; left > 0; left -= chunk.length) writeFileSync(path, chunk, { flag: 'a' });
}

test('what a pull has finished outlives the power', async (t) => {
  const disk = makeSmallDisk(t, 64 << 20);
  if (disk === null) return;
  const root = join(disk.directory, 'store');
  const image = buildImage([...sampleTars(), archive(file('noise', noise(5 * MB)))]);
  for (const name of ['first', 'second']) {
    const store = Store.open(root);
    const record = await pullImage(store, memorySource(image, { name }));
    await mountable(store, record, 'layers');
    store.close();
    disk.cutPower();
    disk.restorePower();
    const after = Store.open(root);
    assert.equal(resolveImage(after, name).manifest.digest, image.manifest.digest);
    assert.deepEqual((await verify(after)).problems, []);
    assert.equal((await fsck(after)).ok, true);
    after.close();
  }
});

test('power lost at any moment leaves nothing half under a final name', async (t) => {
  const disk = makeSmallDisk(t, 96 << 20);
  if (disk === null) return;
  const root = join(disk.directory, 'store');
  const place = temporaryDirectory(t);
  const layouts = [join(place, 'a'), join(place, 'b')];
  await writeLayout(layouts[0]!, buildImage([...sampleTars(), archive(file('x', noise(3 * MB)))]));
  await writeLayout(layouts[1]!, buildImage([...sampleTars(' b'), archive(file('y', noise(3 * MB, 5)))]));
  const actions = [
    `fetch:${layouts[0]}:a`,
    'mountable:a',
    `pull:${layouts[1]}:a`,
    'gc',
    'rm:a',
    'gc',
    'again',
  ];
  for (let round = 0; round < 10; round++) {
    const { child, ready, ended } = startStoreProcess(root, actions, { VENEER_TEST_FSYNC: '1' });
    await ready;
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 400));
    disk.cutPower();
    child.kill('SIGKILL');
    await ended;
    disk.restorePower();
    const store = Store.open(root);
    const report = await fsck(store);
    assert.deepEqual(
      report.problems.filter((problem) => problem.severity === 'error'),
      [],
      `round ${round}`,
    );
    assert.deepEqual((await verify(store)).problems, [], `round ${round}`);
    store.close();
  }
});
