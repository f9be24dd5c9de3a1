/** Images by way of hooks: the drivers that come with veneer on real file systems, callbacks, and hooks that lie. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, lstatSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, it, type TestContext } from 'node:test';
import { driverMaker } from '../../src/drivers/index.ts';
import { VeneerError } from '../../src/errors.ts';
import {
  callbackHook,
  HOOK_EVENTS,
  type Hook,
  type HookCall,
  type HookCallbacks,
  type HookEvent,
  type HookLayer,
  type HookPolicy,
  type HookRequest,
  type Verify,
} from '../../src/hooks/index.ts';
import { readMountInfo } from '../../src/mount/mountinfo.ts';
import { unmount } from '../../src/mount/unmount.ts';
import { openLayout } from '../../src/oci/index.ts';
import { pullImage, Store } from '../../src/store/index.ts';
import { detachMount } from '../../src/sys/mount-api.ts';
import { type DiskType, makeSmallDisk } from '../support/disk-lab.ts';
import { HookImage, IMAGES } from '../support/hook-unpack.ts';
import { MountLab, whyNoKernel } from '../support/kernel-mount.ts';
import { Oracle } from '../support/oracle.ts';
import { type Snapshot, snapshotDirectory } from '../support/tree-snapshot.ts';
import { diffSnapshots } from '../support/tree-snapshot-diff.ts';

const oracle = new Oracle();
const lab = new MountLab(oracle);
after(async () => {
  await lab.close();
  await oracle.close();
});
const skip = whyNoKernel() ?? false;

const images = new Map<string, Promise<{ image: HookImage; expected: Snapshot }>>();

/** Made once, and what GNU tar makes of it. */
function imageOf(name: keyof typeof IMAGES): Promise<{ image: HookImage; expected: Snapshot }> {
  const known = images.get(name);
  if (known !== undefined) return known;
  const making = (async () => {
    const place = lab.folder(name);
    const image = await HookImage.make(place, 'layout', IMAGES[name]);
    return { image, expected: await image.expected(oracle, place) };
  })();
  images.set(name, making);
  return making;
}

/** Overlayfs counts links of names that are hidden. */
const ignore = (_path: string, field: string): boolean => field === 'nlink' || field === 'hardLink';

async function same(bundle: string, expected: Snapshot, overlay = false): Promise<void> {
  const seen = await snapshotDirectory(oracle, join(bundle, 'rootfs'));
  assert.deepEqual(diffSnapshots(expected, seen, overlay ? { ignore } : {}), []);
}

const makeDriver = (name: string, options: Record<string, string>, policy: HookPolicy = {}): Hook => ({
  ...driverMaker((root) => Store.open(root!))(name, options),
  ...policy,
});

/** Everything a driver that keeps layers has to do. `release` gives up what a bundle holds. */
async function checkDriver(
  place: string,
  hook: (policy?: HookPolicy) => Hook,
  options: { overlay: boolean; release: (bundle: string) => void },
): Promise<void> {
  const { overlay, release } = options;
  const { image, expected } = await imageOf('first');
  const other = await imageOf('second');
  const bundle = (name: string): string => join(place, name);
  assert.deepEqual((await image.unpack(bundle('one'), [hook()])).skipped, []);
  await same(bundle('one'), expected, overlay);
  const skips = async (name: string, from: HookImage, policy?: HookPolicy): Promise<string[]> => {
    const { skipped, filled } = await from.unpack(bundle(name), [hook(policy)]);
    assert.ok(filled);
    return skipped.map(({ verified }) => verified);
  };
  assert.deepEqual(await skips('two', image), Array(3).fill('manifest'));
  assert.deepEqual(await skips('three', image, { verify: 'tree' }), Array(3).fill('tree'));
  assert.deepEqual(await skips('shared', other.image), Array(2).fill('manifest'));
  // What is written to a bundle is nobody else's.
  writeFileSync(join(bundle('two'), 'rootfs/etc/passwd'), 'mine');
  rmSync(join(bundle('two'), 'rootfs/old'), { recursive: true });
  await same(bundle('three'), expected, overlay);
  await same(bundle('shared'), other.expected, overlay);
  assert.deepEqual(await skips('four', image, { verify: 'tree' }), Array(3).fill('tree'));
  for (const name of ['one', 'two', 'three', 'four', 'shared']) release(bundle(name));
}

/** A failure on the way: nothing of the bundle is left, what was kept before is good. */
async function checkAbort(place: string, hook: () => Hook, have: number): Promise<void> {
  const { image, expected } = await imageOf('first');
  const fails = (event: HookEvent, at: number): Hook =>
    callbackHook('fails', {
      [event]: ({ layer }: { layer?: HookLayer }) => {
        if ((layer?.index ?? at) === at) throw new Error('on purpose');
        return {};
      },
    } as HookCallbacks);
  let bundle = '';
  for (const [from, failing, message] of [
    [image.broken(2), null, /diffid mismatch/],
    [image, fails('unpack.ociv1.layer.post-extract', 1), /on purpose/],
    [image, fails('unpack.ociv1.layer.commit', 1), /on purpose/],
  ] as const) {
    bundle = join(place, `aborted-${message.source.slice(0, 4)}`);
    await assert.rejects(from.unpack(bundle, failing === null ? [hook()] : [hook(), failing]), message);
    assert.ok(!existsSync(join(bundle, 'rootfs')));
    assert.equal(readMountInfo().filter(({ target }) => target.startsWith(bundle)).length, 0);
  }
  const { skipped } = await image.unpack(join(place, 'again'), [{ ...hook(), verify: 'tree' }]);
  assert.equal(skipped.length, have);
  await same(join(place, 'again'), expected, true);
}

const unmounted = (bundle: string): void => detachMount(join(bundle, 'rootfs'), { lazy: false });

function diskOf(t: TestContext, type: DiskType): string | null {
  return makeSmallDisk(t, 400 << 20, type)?.directory ?? null;
}

describe('drivers', { skip }, () => {
  it('btrfs: snapshots by chain', async (t) => {
    const place = diskOf(t, 'btrfs');
    if (place === null) return;
    const hook = (policy?: HookPolicy): Hook => makeDriver('btrfs', { cache: join(place, 'cache') }, policy);
    await checkDriver(place, hook, { overlay: false, release: () => {} });
    assert.equal(readdirSync(join(place, 'cache/chains')).length, 4);
    rmSync(join(place, 'one'), { recursive: true });
    assert.ok(!existsSync(join(place, 'one')));
  });

  it('btrfs: a failure on the way, and a disk of another kind', async (t) => {
    const place = diskOf(t, 'btrfs');
    if (place === null) return;
    await checkAbort(place, () => makeDriver('btrfs', { cache: join(place, 'cache') }), 2);
    const { image } = await imageOf('first');
    const elsewhere = join(lab.folder('ext4'), 'bundle');
    await assert.rejects(
      image.unpack(elsewhere, [makeDriver('btrfs', { cache: join(place, 'cache') })]),
      /not on a btrfs/,
    );
  });

  it('overlay: a directory a layer', async () => {
    const place = lab.folder('overlay');
    const hook = (policy?: HookPolicy): Hook =>
      makeDriver('overlay', { cache: join(place, 'cache') }, policy);
    await checkDriver(place, hook, { overlay: true, release: unmounted });
    assert.deepEqual(readdirSync(join(place, 'cache/tmp')), []);
    assert.equal(readdirSync(join(place, 'cache/layers')).length, 4);
  });

  it('overlay: a failure on the way', async () => {
    const place = lab.folder('overlay-abort');
    await checkAbort(place, () => makeDriver('overlay', { cache: join(place, 'cache') }), 2);
    unmounted(join(place, 'again'));
  });

  it('reflink: whole trees that share their blocks', async (t) => {
    const place = diskOf(t, 'xfs');
    if (place === null) return;
    const { image, expected } = await imageOf('first');
    const hook = (policy?: HookPolicy): Hook =>
      makeDriver('reflink', { cache: join(place, 'cache') }, policy);
    assert.deepEqual((await image.unpack(join(place, 'one'), [hook()])).skipped, []);
    for (const verify of ['manifest', 'tree'] as const) {
      const { skipped } = await image.unpack(join(place, verify), [hook({ verify })]);
      assert.deepEqual(
        skipped.map(({ verified }) => verified),
        Array(3).fill(verify),
      );
      await same(join(place, verify), expected);
    }
    const extents = execFileSync('filefrag', ['-v', join(place, 'tree/rootfs/usr/lib/big')], {
      encoding: 'utf8',
    });
    assert.match(extents, /shared/);
    const elsewhere = join(lab.folder('no-reflinks'), 'bundle');
    await assert.rejects(
      image.unpack(elsewhere, [hook({ onError: 'abort' })]),
      /one file system that can share|Cannot share/,
    );
    await checkAbort(place, () => makeDriver('reflink', { cache: join(place, 'other') }), 0);
    assert.deepEqual(readdirSync(join(place, 'other/tmp')), []);
  });

  it('veneer: the store mounted', async () => {
    const place = lab.folder('veneer');
    const root = join(place, 'store');
    const { image, expected } = await imageOf('first');
    const hook = (policy?: HookPolicy): Hook => makeDriver('veneer', { root }, policy);
    // The store has nothing yet: the plain way is left.
    const none = await image.unpack(join(place, 'none'), [hook()]);
    assert.equal(none.filled, false);
    const store = Store.open(root, { fsync: false });
    const source = await openLayout(image.layout);
    await pullImage(store, source, { name: 'test' });
    await source.close();
    for (const verify of ['manifest', 'tree'] as const) {
      const bundle = join(place, verify);
      const { skipped, deltas } = await image.unpack(bundle, [hook({ verify })]);
      assert.equal(skipped.length, 3);
      assert.ok(deltas);
      await same(bundle, expected);
      writeFileSync(join(bundle, 'rootfs/written'), '');
      assert.ok(existsSync(join(bundle, 'overlay/upper/written')));
      unmount(join(bundle, 'rootfs'), store.layout.run);
    }
    store.close();
  });

  it('that others may write to, and options that are none, are refused', async () => {
    const { image } = await imageOf('first');
    const place = lab.folder('open');
    const cache = join(place, 'cache');
    await image.unpack(join(place, 'a'), [makeDriver('overlay', { cache })]);
    unmounted(join(place, 'a'));
    chmodSync(cache, 0o777);
    await assert.rejects(
      image.unpack(join(place, 'b'), [makeDriver('overlay', { cache })]),
      /is not ours alone/,
    );
    assert.throws(() => makeDriver('overlay', {}), /its option cache/);
    assert.throws(() => makeDriver('btrfs', { cache: 'relative' }), /its option cache/);
    assert.throws(() => makeDriver('overlay', { cache, more: 'x' }), /no option "more"/);
    assert.throws(() => makeDriver('zfs', {}), /only btrfs, overlay, reflink, veneer/);
    assert.ok(lstatSync(cache).isDirectory());
  });
});

describe('the contract', { skip }, () => {
  /** Notes what a hook hears. */
  function listener(callbacks: HookCallbacks = {}, policy: HookPolicy = {}): { hook: Hook; heard: string[] } {
    const heard: string[] = [];
    const note = ({ event, ...request }: HookRequest): null => {
      const { layer, target } = request as { layer?: HookLayer; target?: string };
      const where = target === undefined ? '' : ` ${target.split('/').slice(-1)}`;
      heard.push(`${event.split('.').at(-1)}${layer === undefined ? '' : ` ${layer.index}`}${where}`);
      return null;
    };
    const all: Record<string, (request: HookRequest, call: HookCall) => unknown> = Object.fromEntries(
      HOOK_EVENTS.map((event) => [event, note]),
    );
    for (const [event, callback] of Object.entries(callbacks)) {
      all[event] = (request: HookRequest, call: HookCall) => {
        note(request);
        return (callback as (request: HookRequest, call: HookCall) => null)(request, call);
      };
    }
    return { hook: callbackHook('listener', all as HookCallbacks, policy), heard };
  }

  it('nobody wants layers: the plain way is left', async () => {
    const { image } = await imageOf('first');
    const { hook, heard } = listener();
    const quiet = {
      ...hook,
      events: new Set<HookEvent>(['unpack.ociv1.image.prepare', 'unpack.ociv1.image.abort']),
    };
    const result = await image.unpack(join(lab.folder('plain'), 'b'), [quiet]);
    assert.equal(result.filled, false);
    assert.deepEqual(heard, ['prepare']);
  });

  it('a hook that declines all hears of every layer, in order', async () => {
    const { image, expected } = await imageOf('first');
    const { hook, heard } = listener();
    const bundle = join(lab.folder('listen'), 'b');
    assert.equal((await image.unpack(bundle, [hook])).filled, true);
    await same(bundle, expected);
    const layer = (index: number): string[] =>
      ['pre-extract', 'post-extract', 'commit'].map((event) => `${event} ${index} rootfs`);
    assert.deepEqual(heard.slice(0, 7).sort(), [
      ...[0, 1, 2].map((index) => `extract-to ${index}`),
      'prepare',
      ...[0, 1, 2].map((index) => `try-skip ${index}`),
    ]);
    assert.deepEqual(heard.slice(7), [...layer(0), ...layer(1), ...layer(2), 'assemble']);
  });

  it('a cumulative hook is asked from the top, and layers come one after the other above what it has', async () => {
    const { image, expected } = await imageOf('first');
    const kept = join(lab.folder('kept'), 'b');
    const { hook, heard } = listener({
      'unpack.ociv1.image.prepare': () => ({ cumulative: true }),
      'unpack.ociv1.layer.commit': ({ layer, rootfs }) => {
        if (layer.index === 0) execFileSync('cp', ['-a', rootfs, kept]);
        return {};
      },
    });
    await image.unpack(join(lab.folder('from'), 'b'), [hook]);
    assert.deepEqual(heard.slice(0, 5), [
      'prepare',
      'try-skip 2',
      'try-skip 1',
      'try-skip 0',
      'pre-extract 0 rootfs',
    ]);
    const second = listener({
      'unpack.ociv1.image.prepare': () => ({ cumulative: true }),
      'unpack.ociv1.layer.try-skip': ({ layer, rootfs }) => {
        if (layer.index > 0) return null;
        execFileSync('cp', ['-a', kept, rootfs]);
        return { diffIDs: [layer.diffID] };
      },
    });
    const bundle = join(lab.folder('skip'), 'b');
    const { skipped } = await image.unpack(bundle, [second.hook]);
    assert.deepEqual(skipped, [{ diffID: image.diffIDs[0], hook: 'listener', verified: 'tree' }]);
    await same(bundle, expected);
    assert.equal(second.heard[4], 'pre-extract 1 rootfs');
  });

  it('what a hook left that has no copy after all is not built on', async () => {
    const { image, expected } = await imageOf('first');
    const leave = (then: () => null): Hook =>
      callbackHook('leaves', {
        'unpack.ociv1.image.prepare': () => ({ cumulative: true }),
        'unpack.ociv1.layer.try-skip': ({ rootfs }) => {
          mkdirSync(join(rootfs, 'half'), { recursive: true });
          writeFileSync(join(rootfs, 'copy'), 'half a copy');
          return then();
        },
      });
    const fail = (): null => {
      throw new Error('no space');
    };
    for (const then of [fail, (): null => null]) {
      const bundle = join(lab.folder('left'), 'b');
      assert.deepEqual((await image.unpack(bundle, [leave(then)])).skipped, []);
      await same(bundle, expected);
    }
    const mounted = leave(() => null);
    const bundle = join(lab.folder('left-mounted'), 'b');
    const mounts: Hook = {
      ...mounted,
      call: async (request, call) => {
        const answer = await mounted.call(request, call);
        if (request.event.endsWith('try-skip'))
          execFileSync('mount', ['-t', 'tmpfs', 'left', request.rootfs]);
        return answer;
      },
    };
    await assert.rejects(image.unpack(bundle, [mounts]), /left something mounted/);
    unmounted(bundle);
  });

  it('with --keep-dirlinks nothing is taken from hooks, nor given to them', async () => {
    const { image } = await imageOf('first');
    for (const cumulative of [true, false]) {
      const { hook, heard } = listener({ 'unpack.ociv1.image.prepare': () => ({ cumulative }) });
      const result = await image.unpack(join(lab.folder('keep'), 'b'), [hook], { links: 'keep' });
      assert.equal(result.filled, false);
      assert.deepEqual(heard, ['prepare']);
    }
  });

  it('abort comes when all that was asked side by side has ended', async () => {
    const { image } = await imageOf('first');
    const { hook, heard } = listener({
      'unpack.ociv1.layer.extract-to': async ({ layer }) => {
        if (layer.index === 0) throw new Error('on purpose');
        await new Promise((resolve) => setTimeout(resolve, 100));
        heard.push(`ended ${layer.index}`);
        return null;
      },
    });
    await assert.rejects(image.unpack(join(lab.folder('side'), 'b'), [hook]), /on purpose/);
    assert.deepEqual(heard.slice(-3), ['ended 1', 'ended 2', 'abort']);
  });

  for (const [what, damage] of [
    [
      'a changed byte',
      'printf x | dd of=usr/lib/big bs=1 seek=100000 conv=notrunc 2>/dev/null; touch -d @1700000000 usr/lib/big',
    ],
    ['another mode', 'chmod 600 etc/passwd'],
    ['another time', 'touch old'],
    ['a name too many', 'mtime=$(stat -c %Y etc); touch etc/more; touch -d @$mtime etc'],
    ['a missing name', 'rm null'],
    ['a broken hard link', 'cp -a copy x; mv x copy; touch -d @1600000000 .'],
  ] as const) {
    it(`a skip that lies is caught: ${what}`, async () => {
      const { image, expected } = await imageOf('first');
      const good = join(lab.folder('good'), 'b');
      await image.unpack(good, [listener().hook]);
      const lie = (verify: Verify, diffIDs: readonly string[] | undefined, spoil: string): Hook =>
        listener(
          {
            'unpack.ociv1.image.prepare': () => ({ cumulative: true }),
            'unpack.ociv1.layer.try-skip': ({ rootfs }) => {
              execFileSync('cp', ['-a', join(good, 'rootfs'), rootfs]);
              execFileSync('sh', ['-euc', spoil], { cwd: rootfs });
              return diffIDs === undefined ? {} : { diffIDs: [...diffIDs] };
            },
            'unpack.ociv1.image.abort': ({ rootfs }) => {
              rmSync(rootfs, { recursive: true });
              return {};
            },
          },
          { verify },
        ).hook;
      const bundle = join(lab.folder('lied'), 'b');
      const lied = (work: Promise<unknown>, message: RegExp): Promise<void> =>
        assert.rejects(
          work,
          (error) =>
            error instanceof VeneerError && error.code === 'hooks/lied' && message.test(error.message),
        );
      await lied(image.unpack(bundle, [lie('tree', undefined, damage)]), /layer 2 that listener has: '\/.*/);
      assert.ok(!existsSync(join(bundle, 'rootfs')));
      await lied(image.unpack(bundle, [lie('manifest', undefined, '')]), /does not say which layers/);
      await lied(image.unpack(bundle, [lie('manifest', image.diffIDs.slice(1), '')]), /holds other layers/);
      await lied(image.unpack(bundle, [lie('tree', image.diffIDs.toReversed(), '')]), /holds other layers/);
      await image.unpack(bundle, [lie('tree', image.diffIDs, '')]);
      await same(bundle, expected);
      await image.unpack(join(lab.folder('believed'), 'b'), [lie('none', undefined, damage)]);
    });
  }

  it('directories for some layers only, or with nobody to put them together, are refused', async () => {
    const { image } = await imageOf('first');
    const place = lab.folder('half');
    const give = (some: (index: number) => boolean): Hook =>
      callbackHook('half', {
        'unpack.ociv1.layer.extract-to': ({ layer }) => {
          if (!some(layer.index)) return null;
          mkdirSync(join(place, String(layer.index)), { recursive: true });
          return { directory: join(place, String(layer.index)) };
        },
      });
    await assert.rejects(image.unpack(join(place, 'b'), [give((index) => index < 2)]), /none for layer 2/);
    await assert.rejects(image.unpack(join(place, 'c'), [give(() => true)]), /none answered image\.assemble/);
    await assert.rejects(
      image.unpack(join(place, 'd'), [give(() => true)]),
      /there is something in it already/,
    );
  });
});
