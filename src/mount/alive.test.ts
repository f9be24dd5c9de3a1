import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findMount } from './alive.ts';
import type { MountInfo } from './mountinfo.ts';
import type { MountRecord } from './types.ts';

const IMAGE = '/store/chains/a/fsmeta.erofs';

const RECORD: MountRecord = {
  id: 'mount-1',
  label: null,
  target: '/gone',
  mode: 'merged',
  backing: 'file',
  flags: ['ro'],
  images: [{ primary: IMAGE, devices: [] }],
  upper: null,
  ephemeral: false,
  type: 'erofs',
  mountId: 41,
  device: '0:38',
  namespace: 'mnt:[1]',
  boot: 'boot',
};

function mounted(source: string, facts: Partial<MountInfo> = {}): MountInfo {
  const numbers = { mountId: RECORD.mountId, parentId: 26, device: RECORD.device };
  return { ...numbers, target: '/here', options: 'ro', type: 'erofs', source, superOptions: '', ...facts };
}

test('a mount that was moved is found, one that has the numbers of a gone one is not', () => {
  const moved = mounted(IMAGE);
  assert.equal(findMount(RECORD, [moved]), moved);
  const others = [
    mounted('/store/chains/b/fsmeta.erofs'),
    mounted('/store/chains/b/fsmeta.erofs', { target: RECORD.target }),
    mounted(IMAGE, { device: '0:39', target: RECORD.target }),
    mounted(IMAGE, { mountId: 42 }),
  ];
  for (const other of others) assert.equal(findMount(RECORD, [other]), undefined, JSON.stringify(other));
});

test('a mount of a loop device is told by its numbers alone', () => {
  const loop = mounted('/dev/loop7');
  assert.equal(findMount(RECORD, [loop]), loop);
});
