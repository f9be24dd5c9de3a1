/** Mounts by the real kernel: both modes, both backings, read-only and writable, few and many layers. */
import assert from 'node:assert/strict';
import {
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { EROFS_SUPER_OFFSET, SUPERBLOCK } from '../../src/erofs/format.ts';
import {
  applyMount,
  listMounts,
  type MountStep,
  planMount,
  probeCapabilities,
  sweepStale,
  unmount,
} from '../../src/mount/index.ts';
import { attachLoop } from '../../src/sys/loop.ts';
import {
  attachMount,
  createFs,
  detachMount,
  MS,
  mountFs,
  mountOld,
  openFs,
} from '../../src/sys/mount-api.ts';
import { getXattr } from '../../src/sys/xattr.ts';
import { CaseImages } from '../conformance/case-images.ts';
import { archive, file, whiteout } from '../support/tar-builder.ts';
import { backings, kernels, MountLab, skipReason } from './mount-lab.ts';

const MANY = 120;
// <sys/mount.h>
const MS_BIND = 0x1000;
const MS_MOVE = 0x2000;

describe('mounting', { skip: skipReason }, () => {
  for (const { name, capabilities } of kernels) {
    for (const { backing, skip } of backings) {
      for (const rw of [undefined, {}]) {
        for (const count of [1, 2, MANY]) {
          const how = `${name}, ${backing}, ${rw === undefined ? 'ro' : 'rw'}, ${count} layers`;
          test(`layers: ${how}`, { skip }, async (t) => {
            const lab = new MountLab(t);
            const request = lab.request(lab.makeLayers(count), {
              backing,
              ...(rw === undefined ? {} : { rw }),
            });
            const record = applyMount(planMount(request, capabilities));
            assert.deepEqual(lab.mounts(), ['target overlay']);
            assert.equal(lab.read('shared'), `layer ${count - 1}\n`);
            assert.equal(lab.read('own-0'), 'layer 0\n');
            assert.equal(readdirSync(lab.target).length, count + 1);
            assert.equal(lab.loops().length, backing === 'loop' ? 2 * count : 0);
            assert.deepEqual(listMounts(lab.runDir), [{ ...record, state: 'mounted' }]);
            if (rw !== undefined) writeFileSync(join(lab.target, 'own-0'), 'changed');
            else assert.throws(() => writeFileSync(join(lab.target, 'own-0'), ''), { code: 'EROFS' });
            unmount(lab.target, lab.runDir);
            await lab.assertClean();
          });
        }
      }
    }
  }

  for (const { backing, skip } of backings) {
    for (const rw of [undefined, {}]) {
      test(`merged: ${backing}, ${rw === undefined ? 'ro' : 'rw'}, ${MANY} devices`, { skip }, async (t) => {
        const lab = new MountLab(t);
        const more = { mode: 'merged' as const, backing, ...(rw === undefined ? {} : { rw }) };
        applyMount(planMount(lab.request([lab.makeMerged(MANY)], more), probeCapabilities()));
        assert.deepEqual(lab.mounts(), [`target ${rw === undefined ? 'erofs' : 'overlay'}`]);
        for (const number of [0, 60, MANY - 1]) assert.equal(lab.read(`own-${number}`), `layer ${number}\n`);
        unmount(lab.target, lab.runDir);
        await lab.assertClean();
      });
    }
  }

  for (const { backing, skip } of backings) {
    test(`merged over self-contained images, with tars and without: ${backing}`, { skip }, async (t) => {
      const lab = new MountLab(t);
      const text = 'x'.repeat(5000);
      const images = new CaseImages(lab.directory, [
        archive(file('below', 'below'), file('long', text), file('gone', 'gone')),
        archive(file('below', 'above'), whiteout('gone')),
      ]);
      for (const [name, blockSize] of [
        ['without', 4096],
        ['with', 512],
      ] as const) {
        const image = images.merge(name, (layer, i) =>
          name === 'with' && i === 1 ? layer.metadata : layer.selfContained,
        );
        const devices = image.devices.map((path) => ({ path, size: statSync(path).size }));
        const request = { mode: 'merged', backing } as const;
        applyMount(planMount(lab.request([{ primary: image.path, devices }], request), probeCapabilities()));
        assert.equal(statfsSync(lab.target).bsize, blockSize);
        assert.deepEqual(readdirSync(lab.target).sort(), ['below', 'long']);
        assert.deepEqual([lab.read('below'), lab.read('long')], ['above', text]);
        unmount(lab.target, lab.runDir);
      }
      images.close();
      await lab.assertClean();
    });
  }

  test('500 layers mount, 501 are refused before anything is done', async (t) => {
    const lab = new MountLab(t);
    const layer = lab.makeLayer(0);
    const request = lab.request(Array.from({ length: 500 }, () => layer));
    for (const { capabilities } of kernels) {
      applyMount(planMount(request, capabilities));
      assert.equal(lab.read('own-0'), 'layer 0\n');
      unmount(lab.target, lab.runDir);
    }
    await lab.assertClean();
    const more = { ...request, images: [...request.images, layer] };
    assert.throws(() => planMount(more, probeCapabilities()), { code: 'mount/too-many' });
  });

  test('options reach the mount', (t) => {
    const lab = new MountLab(t);
    const options = ['nosuid,nodev', 'noexec', 'noatime'];
    for (const { capabilities } of kernels) {
      for (const mode of ['merged', 'layers'] as const) {
        applyMount(planMount(lab.request([lab.makeLayer(0)], { mode, options }), capabilities));
        const line = readFileSync('/proc/self/mountinfo', 'utf8')
          .split('\n')
          .find((text) => text.includes(` ${lab.target} `));
        assert.match(line!, / ro,nosuid,nodev,noexec,noatime /);
        unmount(lab.target, lab.runDir);
      }
    }
  });

  test('the target may be a symlink, not empty, and mounted over', async (t) => {
    const lab = new MountLab(t);
    writeFileSync(join(lab.target, 'hidden'), 'below');
    const link = join(lab.directory, 'link');
    symlinkSync('target', link);
    const [first, second] = [lab.makeLayer(1), lab.makeLayer(2)];
    for (const image of [first, second]) {
      const record = applyMount(
        planMount(lab.request([image], { target: link, mode: 'merged' }), probeCapabilities()),
      );
      assert.equal(record.target, lab.target);
    }
    assert.equal(lab.read('shared'), 'layer 2\n');
    assert.equal(unmount(link, lab.runDir).target, lab.target);
    assert.equal(lab.read('shared'), 'layer 1\n');
    unmount(lab.target, lab.runDir);
    assert.equal(lab.read('hidden'), 'below');
    await lab.assertClean();
  });

  test('block devices are mounted as they are, and never mixed with files', async (t) => {
    const lab = new MountLab(t);
    const image = lab.makeMerged(2);
    const [primary, ...devices] = [image.primary, ...image.devices.map(({ path }) => path)].map((path) =>
      attachLoop(path, 512),
    );
    const blocks = image.devices.map((device, index) => ({ ...device, path: devices[index]!.path }));
    for (const backing of probeCapabilities().fileBacked ? (['file', 'loop'] as const) : ['loop' as const]) {
      const onBlocks = lab.request([{ primary: primary!.path, devices: blocks }], {
        mode: 'merged',
        backing,
      });
      applyMount(planMount(onBlocks, probeCapabilities()));
      assert.equal(lab.loops().length, 3);
      assert.equal(lab.read('own-0'), 'layer 0\n');
      unmount(lab.target, lab.runDir);
      const mixed = lab.request([{ ...image, devices: blocks }], { mode: 'merged', backing });
      assert.throws(() => applyMount(planMount(mixed, probeCapabilities())), {
        code: 'mount/mismatch',
        hint: /all be files or all be block devices/,
      });
    }
    for (const { fd } of [primary!, ...devices]) closeSync(fd);
    await lab.assertClean();
  });

  test('a missing target or a file as target are refused', async (t) => {
    const lab = new MountLab(t);
    const images = [lab.makeLayer(0)];
    for (const target of [join(lab.directory, 'nowhere'), images[0]!.primary]) {
      const plan = planMount(lab.request(images, { target }), probeCapabilities());
      assert.throws(() => applyMount(plan), { code: 'mount/bad-target' });
    }
    await lab.assertClean();
  });

  test('paths longer than fsconfig takes, with commas, colons and spaces', async (t) => {
    const outer = new MountLab(t);
    const long = join(outer.directory, 'a b,c:d\\e', 'x'.repeat(200), 'y'.repeat(200));
    mkdirSync(long, { recursive: true });
    const lab = new MountLab(t, long);
    for (const { capabilities } of kernels) {
      for (const rw of [{}, { upper: join(lab.directory, 'kept,:') }]) {
        applyMount(planMount(lab.request(lab.makeLayers(3), { rw }), capabilities));
        writeFileSync(join(lab.target, 'new'), 'new');
        assert.equal(lab.read('own-1'), 'layer 1\n');
        unmount(lab.target, lab.runDir);
      }
      assert.equal(readFileSync(join(lab.directory, 'kept,:', 'upper', 'new'), 'utf8'), 'new');
    }
    await lab.assertClean();
  });
});

describe('a writable layer', { skip: skipReason }, () => {
  test('given: changes are kept and found again; the root looks as in the image', async (t) => {
    const lab = new MountLab(t);
    const upper = join(lab.directory, 'changes');
    const request = lab.request([lab.makeMerged(2)], { mode: 'merged', rw: { upper } });
    const plan = planMount(request, probeCapabilities());
    applyMount(plan);
    const root = lstatSync(lab.target, { bigint: true });
    assert.deepEqual([root.mode & 0o7777n, root.uid, root.gid], [0o751n, 7n, 8n]);
    assert.equal(root.mtimeNs, 1_600_000_000_000_000_123n);
    assert.equal(getXattr(lab.target, 'user.root'), 'yes');
    writeFileSync(join(lab.target, 'own-0'), 'changed');
    rmSync(join(lab.target, 'own-1'));
    const report = unmount(lab.target, lab.runDir);
    assert.deepEqual([report.keptUpper, report.removedUpper], [upper, null]);
    applyMount(plan);
    assert.equal(lab.read('own-0'), 'changed');
    assert.equal(existsSync(join(lab.target, 'own-1')), false);
    unmount(lab.target, lab.runDir);
    await lab.assertClean();
  });

  test('ephemeral: changes go with the mount', async (t) => {
    const lab = new MountLab(t);
    const record = applyMount(planMount(lab.request([lab.makeLayer(0)], { rw: {} }), probeCapabilities()));
    const root = lstatSync(lab.target);
    assert.equal(root.mode & 0o7777, 0o751);
    writeFileSync(join(lab.target, 'own-0'), 'changed');
    assert.equal(readFileSync(join(record.upper!, 'upper', 'own-0'), 'utf8'), 'changed');
    const report = unmount(lab.target, lab.runDir);
    assert.deepEqual([report.keptUpper, report.removedUpper], [null, record.upper]);
    assert.equal(existsSync(record.upper!), false);
    await lab.assertClean();
  });

  test('two mounts cannot share one upper directory', async (t) => {
    const lab = new MountLab(t);
    const upper = join(lab.directory, 'changes');
    const other = join(lab.directory, 'other');
    mkdirSync(other);
    const alias = join(lab.directory, 'alias,');
    mkdirSync(upper);
    symlinkSync(upper, alias);
    const request = lab.request([lab.makeLayer(0)], { rw: { upper } });
    applyMount(planMount(request, probeCapabilities()));
    for (const again of [upper, alias]) {
      const plan = planMount({ ...request, target: other, rw: { upper: again } }, probeCapabilities());
      assert.throws(() => applyMount(plan), {
        code: 'mount/upper-in-use',
        message: new RegExp(`mount at ${lab.target}`),
      });
    }
    assert.deepEqual(lab.mounts(), ['target overlay']);
    unmount(lab.target, lab.runDir);
    await lab.assertClean();
  });

  test('an upper directory on overlayfs is refused with a hint', (t) => {
    const lab = new MountLab(t);
    const request = lab.request([lab.makeLayer(0)], { rw: {} });
    applyMount(planMount(request, probeCapabilities()));
    const other = join(lab.directory, 'other');
    mkdirSync(other);
    const nested = { ...request, target: other, rw: { upper: join(lab.target, 'changes') } };
    assert.throws(() => applyMount(planMount(nested, probeCapabilities())), {
      code: 'mount/bad-upper',
      message: /overlayfs/,
      hint: /ext4/,
    });
    unmount(lab.target, lab.runDir);
  });
});

describe('what cannot be mounted', { skip: skipReason }, () => {
  for (const mode of ['merged', 'layers'] as const) {
    test(`${mode}: a missing, cut, swapped or replaced file is named`, async (t) => {
      const lab = new MountLab(t);
      const images = mode === 'merged' ? [lab.makeMerged(2)] : lab.makeLayers(2);
      const [first] = images;
      const expectError = (bad: typeof images, code: string, message: RegExp): void => {
        const plan = planMount(lab.request(bad, { mode }), probeCapabilities());
        assert.throws(() => applyMount(plan), { code, message });
      };
      const name = mode === 'merged' ? 'the image' : 'layer 1 of 2';
      const rest = images.slice(1);
      const device = first!.devices[0]!;
      const withDevice = (changes: object): typeof images => [
        { ...first!, devices: [{ ...device, ...changes }, ...first!.devices.slice(1)] },
        ...rest,
      ];
      const gone = join(lab.directory, 'gone');
      expectError(
        [{ ...first!, primary: gone }, ...rest],
        'mount/missing',
        new RegExp(`${name}: .*gone does not exist`),
      );
      expectError(withDevice({ path: gone }), 'mount/missing', new RegExp(`device 1 of ${name}: .*gone`));
      expectError(withDevice({ size: device.size + 512 }), 'mount/mismatch', /has 1024 bytes, expected 1536/);
      expectError(withDevice({ tag: 'f'.repeat(64) }), 'mount/mismatch', /was made for 0{64}/);
      expectError([{ ...first!, devices: [] }, ...rest], 'mount/mismatch', /wants \d devices, 0 are given/);
      if (mode === 'merged') {
        expectError(
          [{ ...first!, devices: first!.devices.toReversed() }],
          'mount/mismatch',
          /device 1 of the image/,
        );
      }
      truncateSync(device.path, 512);
      expectError(images, 'mount/mismatch', /has 512 bytes, expected 1024/);
      truncateSync(first!.primary, 1024);
      expectError(images, 'mount/invalid-image', /not an EROFS image/);
      writeFileSync(first!.primary, 'hello');
      expectError(images, 'mount/invalid-image', /not an EROFS image/);
      await lab.assertClean();
    });
  }

  test('a damaged superblock is refused by the kernel and said in words', async (t) => {
    const lab = new MountLab(t);
    const image = lab.makeLayer(0);
    const bytes = readFileSync(image.primary);
    bytes[1024 + 4] = bytes[1024 + 4]! ^ 0xff;
    writeFileSync(image.primary, bytes);
    const plan = planMount(lab.request([image], { mode: 'merged' }), probeCapabilities());
    assert.throws(() => applyMount(plan), {
      code: 'mount/invalid-image',
      message: /the image.*EBADMSG/,
      hint: /fsck/,
    });
    await lab.assertClean();
  });
});

describe('what the kernel refuses', { skip: skipReason }, () => {
  test('small blocks are named as a possible reason', async (t) => {
    const lab = new MountLab(t);
    const image = lab.makeLayer(0);
    const bytes = readFileSync(image.primary);
    const { feature_compat, feature_incompat } = SUPERBLOCK.at;
    // An unknown feature, and no checksum to tell.
    bytes.writeUInt32LE(0, EROFS_SUPER_OFFSET + feature_compat);
    bytes[EROFS_SUPER_OFFSET + feature_incompat + 3] = 0x40;
    writeFileSync(image.primary, bytes);
    const plan = planMount(lab.request([image], { mode: 'merged' }), probeCapabilities());
    assert.throws(() => applyMount(plan), {
      code: 'mount/refused',
      message: /the image.*EINVAL/,
      hint: /512 bytes need Linux 6\.4, or 6\.1\.113/,
    });
    await lab.assertClean();
  });
});

describe('a step that fails', { skip: skipReason }, () => {
  for (const { name, capabilities } of kernels) {
    for (const { backing, skip } of backings) {
      test(`undoes all before it: ${name}, ${backing}`, { skip }, async (t) => {
        const lab = new MountLab(t);
        const upper = join(lab.directory, 'changes');
        for (const more of [{ rw: {} }, { rw: { upper } }, {}]) {
          const plan = planMount(lab.request(lab.makeLayers(3), { backing, ...more }), capabilities);
          for (let failing = 0; failing < plan.steps.length; failing++) {
            let step = 0;
            const onStep = (): void => {
              if (step++ === failing) throw new Error('injected');
            };
            assert.throws(() => applyMount(plan, { onStep }), /injected/);
            await lab.assertClean();
          }
        }
      });
    }
  }

  test('falls back to loop devices where the kernel refuses files', async (t) => {
    const lab = new MountLab(t);
    const plan = planMount(lab.request(lab.makeLayers(2)), probeCapabilities());
    const { VeneerError } = await import('../../src/errors.ts');
    const onStep = (step: MountStep): void => {
      if (step.do === 'mount-image' && step.backing === 'file')
        throw new VeneerError('sys/ENOTBLK', 'injected');
    };
    assert.equal(applyMount(plan, { onStep }).backing, 'loop');
    assert.equal(lab.loops().length, 4);
    unmount(lab.target, lab.runDir);
    await lab.assertClean();
  });
});

describe('changes that are kept', { skip: skipReason }, () => {
  test('survive the sweep of an entry with a writable mount inside it', async (t) => {
    const lab = new MountLab(t);
    const upper = join(lab.directory, 'changes');
    const { capabilities } = kernels.at(-1)!;
    applyMount(planMount(lab.request([lab.makeLayer(0)], { rw: { upper } }), capabilities));
    writeFileSync(join(lab.target, 'kept'), 'kept');
    for (const entry of ['dead-mount-aaaaaa', 'mount-bbbbbb']) {
      const place = join(lab.runDir, entry, 'anchor');
      mkdirSync(place, { recursive: true });
      mountOld(lab.target, place, '', MS_BIND, '');
    }
    sweepStale(lab.runDir);
    assert.equal(readFileSync(join(upper, 'upper', 'kept'), 'utf8'), 'kept');
    unmount(lab.target, lab.runDir);
    await lab.assertClean();
  });
});

describe('unmounting', { skip: skipReason }, () => {
  test('a busy mount names who uses it, and --lazy takes it away', async (t) => {
    const lab = new MountLab(t);
    applyMount(planMount(lab.request(lab.makeLayers(2)), probeCapabilities()));
    const fd = openSync(join(lab.target, 'shared'), 'r');
    assert.throws(() => unmount(lab.target, lab.runDir), {
      code: 'mount/busy',
      message: new RegExp(`\\(${process.pid}\\) has ${lab.target}/shared as an open file`),
      hint: /--lazy/,
    });
    assert.equal(listMounts(lab.runDir)[0]?.state, 'mounted');
    assert.equal(unmount(lab.target, lab.runDir, { lazy: true }).lazy, true);
    assert.deepEqual(lab.mounts(), []);
    assert.equal(readFileSync(fd, 'utf8'), 'layer 1\n');
    closeSync(fd);
    await lab.assertClean();
  });

  test('a mount below keeps it busy and is named', (t) => {
    const lab = new MountLab(t);
    applyMount(planMount(lab.request([lab.makeLayer(0)], { rw: {} }), probeCapabilities()));
    const inner = join(lab.target, 'inner');
    mkdirSync(inner);
    mountOld('veneer', inner, 'tmpfs', 0, '');
    assert.throws(() => unmount(lab.target, lab.runDir), {
      code: 'mount/busy',
      message: new RegExp(`below it: ${inner}`),
    });
    detachMount(inner, { lazy: false });
    unmount(lab.target, lab.runDir);
  });

  test('finds mounts that were moved or were attached in another order than made', async (t) => {
    const lab = new MountLab(t);
    const other = join(lab.directory, 'other');
    mkdirSync(other);
    // The kernel moves no mount out of a shared one.
    mountOld(lab.directory, lab.directory, '', MS_BIND, '');
    mountOld('none', lab.directory, '', MS.PRIVATE, '');
    try {
      for (const more of [{ mode: 'merged' }, { mode: 'layers', rw: {} }] as const) {
        const record = applyMount(planMount(lab.request([lab.makeLayer(0)], more), probeCapabilities()));
        mountOld(lab.target, other, '', MS_MOVE, '');
        assert.deepEqual(listMounts(lab.runDir), [{ ...record, target: other, state: 'mounted' }]);
        assert.equal(unmount(other, lab.runDir).id, record.id);
        await lab.assertClean();
        const plan = planMount(lab.request([lab.makeLayer(1)], more), probeCapabilities());
        const upper = applyMount(plan, {
          onStep(step) {
            if (step.do === 'attach') {
              applyMount(planMount(lab.request([lab.makeLayer(2)], more), probeCapabilities()));
            }
          },
        });
        assert.equal(lab.read('shared'), 'layer 1\n');
        assert.equal(unmount(lab.target, lab.runDir).id, upper.id);
        assert.equal(lab.read('shared'), 'layer 2\n');
        unmount(lab.target, lab.runDir);
        await lab.assertClean();
      }
    } finally {
      detachMount(lab.directory, { lazy: true });
    }
  });

  test('what is not mounted, or not by us, is refused', (t) => {
    const lab = new MountLab(t);
    assert.throws(() => unmount(lab.target, lab.runDir), {
      code: 'mount/not-mounted',
      message: /nothing is mounted/,
    });
    const fs = openFs('tmpfs');
    createFs(fs);
    const mount = mountFs(fs, 0);
    attachMount(mount, lab.target);
    closeSync(mount);
    closeSync(fs);
    assert.throws(() => unmount(lab.target, lab.runDir), {
      code: 'mount/not-mounted',
      message: /veneer did not mount the tmpfs/,
    });
    detachMount(lab.target, { lazy: false });
  });

  for (const { backing, skip } of backings) {
    for (const more of [{ mode: 'merged' }, { mode: 'layers' }, { mode: 'layers', rw: {} }] as const) {
      test(`works when the record was lost: ${backing}, ${JSON.stringify(more)}`, { skip }, async (t) => {
        const lab = new MountLab(t);
        const record = applyMount(
          planMount(lab.request([lab.makeLayer(0)], { backing, ...more }), probeCapabilities()),
        );
        rmSync(join(lab.runDir, record.id, 'record.json'));
        // Nobody may take the living upper directory for garbage.
        sweepStale(lab.runDir);
        assert.equal(existsSync(join(lab.runDir, record.id)), 'rw' in more);
        assert.equal(lab.read('own-0'), 'layer 0\n');
        assert.equal(unmount(lab.target, lab.runDir).id, null);
        await lab.assertClean();
      });
    }
  }

  test('a mount that others removed is listed as stale, said to be gone, and swept', async (t) => {
    const lab = new MountLab(t);
    const plan = planMount(lab.request(lab.makeLayers(2), { rw: {} }), probeCapabilities());
    applyMount(plan);
    detachMount(lab.target, { lazy: false });
    assert.equal(listMounts(lab.runDir)[0]?.state, 'stale');
    assert.throws(() => unmount(lab.target, lab.runDir), {
      code: 'mount/not-mounted',
      message: /by other means/,
    });
    await lab.assertClean();
    applyMount(plan);
    detachMount(lab.target, { lazy: false });
    assert.deepEqual(sweepStale(lab.runDir), { stale: [lab.target], unfinished: [], detached: [] });
    await lab.assertClean();
  });
});
