import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isKernelAtLeast, probeCapabilities } from './capabilities.ts';
import { planMount } from './plan.ts';
import type { ErofsImage, MountRequest, MountStep } from './types.ts';

const image = (number: number): ErofsImage => ({
  primary: `/store/${number}.erofs`,
  devices: [{ path: `/store/${number}.tar`, size: 512 }],
});

function request(count: number, more: Partial<MountRequest> = {}): MountRequest {
  return {
    target: '/mnt',
    mode: 'layers',
    images: Array.from({ length: count }, (_, number) => image(number)),
    options: [],
    backing: 'auto',
    runDir: '/store/run',
    ...more,
  };
}

const words = (steps: readonly MountStep[]): string[] => steps.map((step) => step.do);

test('versions compare as numbers', () => {
  assert.equal(isKernelAtLeast('6.12.0-rc1', 6, 12), true);
  assert.equal(isKernelAtLeast('6.9.3', 6, 12), false);
  assert.equal(isKernelAtLeast('10.0', 6, 12), true);
  assert.equal(isKernelAtLeast('5.15.0-generic', 6, 4), false);
  assert.equal(isKernelAtLeast('nonsense', 5, 0), false);
});

test('merged and read-only: one mount, nothing else', () => {
  const plan = planMount(request(1, { mode: 'merged' }), probeCapabilities('6.18.0'));
  assert.deepEqual(plan.steps, [
    { do: 'check-privilege' },
    { do: 'check-target', target: '/mnt' },
    { do: 'check-image', image: 0 },
    { do: 'make-entry' },
    { do: 'mount-image', image: 0, backing: 'file', anchored: false },
    { do: 'write-record' },
    { do: 'attach', target: '/mnt' },
  ]);
  assert.deepEqual(plan.flags, ['ro']);
  assert.deepEqual(JSON.parse(JSON.stringify(plan)), plan);
});

test('everything is checked before anything is made', () => {
  for (const kernel of ['6.1.0', '6.18.0']) {
    const list = words(planMount(request(5, { rw: {} }), probeCapabilities(kernel)).steps);
    assert.equal(list.lastIndexOf('check-image') + 1, list.indexOf('make-entry'));
    assert.ok(list.indexOf('write-record') < list.indexOf('attach'));
  }
});

test('a lone read-only layer gets an empty one below it', () => {
  const list = (more: Partial<MountRequest>, count = 1): string[] =>
    words(planMount(request(count, more), probeCapabilities('6.18.0')).steps);
  assert.ok(list({}).includes('mount-empty'));
  assert.ok(!list({}, 2).includes('mount-empty'));
  assert.ok(!list({ rw: {} }).includes('mount-empty'));
  assert.ok(!list({ mode: 'merged' }).includes('mount-overlay'));
  assert.ok(list({ mode: 'merged', rw: {} }).includes('mount-overlay'));
});

test('metadata-only files are put together below what is written', () => {
  const plan = (count: number, more: Partial<MountRequest>) =>
    planMount(request(count, { metacopy: true, ...more }), probeCapabilities('6.18.0'));
  assert.ok(!words(plan(2, {}).steps).includes('join-lowers'), 'one overlay does');
  assert.ok(!words(plan(1, { rw: {} }).steps).includes('join-lowers'), 'there is nothing to put together');
  assert.ok(
    !words(planMount(request(2, { rw: {} }), probeCapabilities('6.18.0')).steps).includes('join-lowers'),
  );
  const { steps, fallback } = plan(2, { rw: {} });
  assert.deepEqual(words(steps).slice(-5), [
    'join-lowers',
    'prepare-upper',
    'mount-overlay',
    'write-record',
    'attach',
  ]);
  assert.ok(
    steps.every((step) => step.do !== 'mount-image' || step.backing === 'loop'),
    'two levels at most',
  );
  assert.equal(fallback, null);
});

test('kernels before 6.15 attach the lowers for a moment, and only when there is an overlay', () => {
  const old = probeCapabilities('6.12.0');
  const steps = planMount(request(2), old).steps;
  assert.ok(words(steps).includes('make-anchor'));
  assert.equal(words(steps).at(-1), 'drop-anchor');
  assert.ok(steps.every((step) => step.do !== 'mount-image' || step.anchored));
  assert.ok(!words(planMount(request(1, { mode: 'merged' }), old).steps).includes('make-anchor'));
});

test('files where the kernel takes them, loop devices elsewhere or as a way back', () => {
  const backings = (kernel: string, backing: MountRequest['backing']): unknown[] => {
    const plan = planMount(request(1, { backing }), probeCapabilities(kernel));
    return [plan.steps, plan.fallback].map((steps) =>
      steps?.flatMap((step) => (step.do === 'mount-image' ? [step.backing] : [])).join(),
    );
  };
  assert.deepEqual(backings('6.18.0', 'auto'), ['file', 'loop']);
  assert.deepEqual(backings('6.18.0', 'file'), ['file', undefined]);
  assert.deepEqual(backings('6.18.0', 'loop'), ['loop', undefined]);
  assert.deepEqual(backings('6.6.0', 'auto'), ['loop', undefined]);
  assert.throws(() => backings('6.6.0', 'file'), { code: 'mount/unsupported', message: /6\.12/ });
});

test('wrong numbers of images are refused', () => {
  const plan = (count: number, mode: MountRequest['mode']) => () =>
    planMount(request(count, { mode }), probeCapabilities('6.18.0'));
  assert.throws(plan(0, 'layers'), { code: 'mount/refused' });
  assert.throws(plan(2, 'merged'), { code: 'mount/refused' });
  assert.throws(plan(501, 'layers'), { code: 'mount/too-many', hint: /merged/ });
  plan(500, 'layers')();
});
