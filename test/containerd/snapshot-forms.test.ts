/** What clients get to mount with `--mounts` and `--format`: each form shows the same files. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { test } from 'node:test';
import { ChainMounts } from '../../src/containerd/chain-mounts.ts';
import type { Mount } from '../../src/containerd/gen/types_pb.ts';
import { mayMount } from '../../src/mount/index.ts';
import { compact } from '../../src/store/compact.ts';
import { gc, pullImage, removeImage, Store } from '../../src/store/index.ts';
import { MergeThread } from '../../src/store/merge-thread.ts';
import { detachMount, openFs } from '../../src/sys/mount-api.ts';
import { buildImage, memorySource, temporaryDirectory } from '../support/image-builder.ts';
import { missing } from '../support/require-tool.ts';
import { openSnapshotLab, type SnapshotLab } from '../support/snapshot-lab.ts';
import { versionPair } from '../support/version-pair.ts';

async function makeChain(lab: SnapshotLab): Promise<string> {
  await lab.layer('one', '', (path) => {
    writeFileSync(join(path, 'kept'), 'from the first layer\n');
    writeFileSync(join(path, 'gone'), 'x');
  });
  return lab.layer('two', 'one', (path) => {
    rmSync(join(path, 'gone'));
    writeFileSync(join(path, 'new'), 'from the second layer\n');
  });
}

function assertFiles(path: string): void {
  assert.deepEqual(readdirSync(path).sort(), ['kept', 'new']);
  assert.equal(readFileSync(join(path, 'kept'), 'utf8'), 'from the first layer\n');
  assert.equal(readFileSync(join(path, 'new'), 'utf8'), 'from the second layer\n');
}

/** As containerd 2.2 fills in where it mounted what comes before in the list. */
const placed = (mounts: readonly Mount[], at: readonly string[]): Mount[] =>
  mounts.map((mount) => ({
    ...mount,
    type: mount.type.replace(/^format\//, ''),
    options: mount.options.map((option) =>
      option.replace(/\{\{ mount (\d+) \}\}/, (_, i: string) => at[Number(i)]!),
    ),
  }));

test('overlay: one lower directory, and options that keep marks out of it', async (t) => {
  const lab = await openSnapshotLab(t);
  if (lab === null) return;
  await makeChain(lab);
  const [view] = await lab.view('view', 'two');
  assert.deepEqual([view!.type, view!.options], ['bind', ['ro', 'rbind']]);
  const [active, ...more] = await lab.prepare('active', 'two');
  assert.equal(more.length, 0);
  assert.equal(active!.type, 'overlay');
  assert.deepEqual(await lab.mounts('active'), [active]);
  assert.ok(active!.options.includes('redirect_dir=nofollow'));
  await lab.within([active!], assertFiles);
});

test('erofs: the image and its devices, and a template for the writable directory', async (t) => {
  const lab = await openSnapshotLab(t);
  if (lab === null) return;
  await makeChain(lab);
  await lab.restart({ mounts: 'erofs' });
  const view = await lab.view('view', 'two');
  assert.deepEqual(
    view.map(({ type }) => type),
    ['erofs'],
  );
  assert.equal(view[0]!.options.filter((option) => option.startsWith('device=')).length, 2);
  await lab.within(view, assertFiles);
  const active = await lab.prepare('active', 'two');
  assert.deepEqual(
    active.map(({ type }) => type),
    ['erofs', 'format/overlay'],
  );
  const below = lab.folder('below');
  lab.mount(active.slice(0, 1), below);
  await lab.within(placed(active, [below]).slice(1), (path) => {
    assertFiles(path);
    writeFileSync(join(path, 'third'), '3');
  });
  await lab.commit('three', 'active');
  lab.unmount(below);
  await lab.within(await lab.view('view3', 'three'), (path) => {
    assert.deepEqual(readdirSync(path).sort(), ['kept', 'new', 'third']);
  });
});

test('vmdk: one disk, gone with its snapshot', async (t) => {
  const lab = await openSnapshotLab(t);
  if (lab === null) return;
  await makeChain(lab);
  await lab.restart({ mounts: 'vmdk' });
  const [view] = await lab.view('view', 'two');
  const { source } = view!;
  assert.match(source, /\.vmdk$/);
  const table = readFileSync(source, 'utf8');
  assert.match(table, /^RW \d+ FLAT ".*fsmeta\.erofs" 0$/m);
  assert.equal(table.match(/layer\.tar"/g)?.length, 2);
  const dm = execFileSync('node', ['bin/veneer.js', 'disk', 'inspect', source, '--json'], {
    encoding: 'utf8',
  });
  assert.match(dm, /erofs/i);
  await lab.remove('view');
  await lab.remove('two');
  assert.equal(existsSync(source), false);
});

for (const mounts of ['erofs', 'vmdk'] as const) {
  test(`${mounts}: names the files that are there, also when gc --compact has cut one down meanwhile`, async (t) => {
    if (!mayMount()) return missing(t, 'mounting needs root');
    const place = temporaryDirectory(t);
    const store = Store.open(join(place, 'store'), { fsync: false });
    const { before, after } = versionPair();
    const pull = (name: string, tar: Buffer) =>
      pullImage(store, memorySource(buildImage([tar]), { name }), { dedupe: true });
    await pull('old', before);
    const { layers, chainId } = await pull('new', after);
    const merger = new MergeThread(store);
    const config = { mounts, format: 'erofs', backing: 'auto' } as const;
    const chains = new ChainMounts(store, merger, join(place, 'containerd'), config);
    const diffIds = layers.map(({ diffId }) => diffId);
    const named = async (): Promise<string[]> => {
      await chains.ensure(diffIds);
      const { source, options } = chains.viewForms(diffIds)[0]!;
      const devices = options.flatMap((option) => /^device=(.*)$/.exec(option)?.[1] ?? []);
      if (mounts === 'erofs') return [source, ...devices];
      const table = readFileSync(source, 'utf8');
      return [...table.matchAll(/^RW .*"(.*)"/gm)].map(([, path]) => resolve(dirname(source), path!));
    };
    try {
      const first = await named();
      assert.ok(first.length > 2);
      // As the end of the machine does.
      detachMount(chains.pathOf(chainId), { lazy: true });
      removeImage(store, 'old');
      await gc(store);
      assert.equal((await compact(store)).files.length, 1);
      const second = await named();
      assert.notDeepEqual(second, first);
      for (const path of second) assert.ok(existsSync(path), path);
    } finally {
      chains.release(chainId);
      await merger.close();
      store.close();
    }
  });
}

test("udf: the kernel's own driver shows the chain", async (t) => {
  if (!hasUdf()) return t.skip('this kernel has no UDF');
  const lab = await openSnapshotLab(t, { format: 'udf' });
  if (lab === null) return;
  await makeChain(lab);
  await lab.within(await lab.view('view', 'two'), assertFiles);
  await lab.within(await lab.prepare('active', 'two'), (path) => {
    assertFiles(path);
    writeFileSync(join(path, 'third'), '3');
  });
  await lab.commit('three', 'active');
  await lab.within(await lab.view('view3', 'three'), (path) => {
    assert.deepEqual(readdirSync(path).sort(), ['kept', 'new', 'third']);
  });
});

test('where the kernel cannot mount them, a Prepare says so and leaves nothing', async (t) => {
  if (hasUdf()) return t.skip('this kernel has UDF');
  const lab = await openSnapshotLab(t);
  if (lab === null) return;
  await makeChain(lab);
  await lab.restart({ format: 'udf' });
  await assert.rejects(lab.prepare('active', 'two'), /Cannot mount/);
  assert.deepEqual(await lab.names(), ['one', 'two']);
  assert.deepEqual(readdirSync(join(lab.root, 'containerd', 'snapshots')), []);
  await lab.restart({});
  await lab.within(await lab.prepare('active', 'two'), assertFiles);
});

/** Asking loads the module where there is one. */
function hasUdf(): boolean {
  try {
    closeSync(openFs('udf'));
    return true;
  } catch {
    return false;
  }
}
