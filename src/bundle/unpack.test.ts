/** What is left of a bundle that could not be made, or not be made one of a new image. */
import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it, type TestContext } from 'node:test';
import { buildImage, writeLayout } from '../../test/support/image-builder.ts';
import { archive, dir, file } from '../../test/support/tar-builder.ts';
import { callbackHook, HookSession } from '../hooks/index.ts';
import { type Repacked, repackBundle } from './repack.ts';
import { unpackBundle } from './unpack.ts';
import type { UnpackOptions } from './unpack-options.ts';

const options: UnpackOptions = {
  maps: { uidMaps: [], gidMaps: [], rootless: process.getuid?.() !== 0 },
  keepDirlinks: false,
};

async function makePlace(t: TestContext): Promise<{ layout: string; bundle: string }> {
  const place = mkdtempSync(join(tmpdir(), 'veneer-unpack-'));
  t.after(() => rmSync(place, { recursive: true, force: true }));
  const layout = join(place, 'oci');
  await writeLayout(
    layout,
    buildImage([archive(dir('etc/'), file('etc/passwd', 'root:x:0:0::/:/bin/sh\n'))]),
  );
  return { layout, bundle: join(place, 'bundle') };
}

/** Fails when everything is written. */
const failsAtLast: UnpackOptions['openHooks'] = (subject) =>
  new HookSession(
    [
      callbackHook('fails', {
        'unpack.ociv1.bundle.finish': () => {
          throw new Error('on purpose');
        },
      }),
    ],
    subject,
  );

it('a bundle whose last step fails is gone again', async (t) => {
  const { layout, bundle } = await makePlace(t);
  await assert.rejects(
    unpackBundle(layout, 'latest', bundle, { ...options, openHooks: failsAtLast }),
    /on purpose/,
  );
  assert.equal(existsSync(bundle), false, existsSync(bundle) ? readdirSync(bundle).join() : '');
  await unpackBundle(layout, 'latest', bundle, options);
});

it('what was in its folder before stays there, also when it cannot be written down what was unpacked', async (t) => {
  const { layout, bundle } = await makePlace(t);
  await unpackBundle(layout, 'latest', bundle, options);
  const mtree = readdirSync(bundle).find((name) => name.endsWith('.mtree'))!;
  rmSync(bundle, { recursive: true });
  mkdirSync(bundle);
  writeFileSync(join(bundle, 'mine'), 'mine');
  // Nothing can be written under its name.
  mkdirSync(join(bundle, mtree, 'in the way'), { recursive: true });
  await assert.rejects(unpackBundle(layout, 'latest', bundle, options));
  assert.deepEqual(readdirSync(bundle).sort(), ['mine', mtree].sort());
  assert.equal(readFileSync(join(bundle, 'mine'), 'utf8'), 'mine');
});

it('a bundle that could not be refreshed to the end is repacked again', async (t) => {
  const { layout, bundle } = await makePlace(t);
  await unpackBundle(layout, 'latest', bundle, options);
  writeFileSync(join(bundle, 'rootfs/etc/new'), 'new');
  const repack = (tag: string): Promise<Repacked> =>
    repackBundle(layout, tag, bundle, {
      compression: 'none',
      history: null,
      maskedPaths: [],
      maskVolumes: false,
      refresh: true,
      latest: null,
    });
  // umoci.json cannot be replaced.
  mkdirSync(join(bundle, 'umoci.json.new'));
  await assert.rejects(repack('first'));
  rmdirSync(join(bundle, 'umoci.json.new'));
  assert.ok((await repack('second')).changes.has('etc/new'));
  writeFileSync(join(bundle, 'rootfs/etc/more'), 'more');
  // The directory's time may be the same: mtree files have whole seconds.
  assert.deepEqual(
    [...(await repack('third')).changes.keys()].filter((path) => path !== 'etc'),
    ['etc/more'],
  );
  assert.equal(readdirSync(bundle).filter((name) => name.endsWith('.mtree')).length, 1);
});
