/** Mounts and other processes: killed ones, competing ones, ones without rights, ones in other namespaces. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import {
  applyMount,
  listMounts,
  planMount,
  probeCapabilities,
  sweepStale,
  unmount,
} from '../../src/mount/index.ts';
import type { ChildAnswer, ChildTask } from './mount-child.ts';
import { backings, kernels, MountLab, skipReason } from './mount-lab.ts';

const CHILD = fileURLToPath(new URL('./mount-child.ts', import.meta.url));

function runChild(
  task: ChildTask,
  wrapper: readonly string[] = [],
): { signal: string | null; answer: ChildAnswer | null } {
  const [command, ...args] = [...wrapper, process.execPath, CHILD, JSON.stringify(task)];
  const { signal, stdout, stderr } = spawnSync(command!, args, { encoding: 'utf8' });
  assert.ok(stdout !== '' || signal !== null, stderr);
  return { signal, answer: stdout === '' ? null : (JSON.parse(stdout) as ChildAnswer) };
}

async function readAnswer(child: ChildProcess): Promise<ChildAnswer> {
  const [line] = (await once(createInterface(child.stdout!), 'line')) as [string];
  return JSON.parse(line) as ChildAnswer;
}

describe('kill -9', { skip: skipReason }, () => {
  for (const { name, capabilities } of kernels) {
    for (const { backing, skip } of backings) {
      test(`before any step leaves nothing that a sweep does not remove: ${name}, ${backing}`, {
        skip,
      }, async (t) => {
        const lab = new MountLab(t);
        const request = lab.request(lab.makeLayers(3), { backing, rw: {} });
        const { steps } = planMount(request, capabilities);
        for (let killAt = 0; killAt < steps.length; killAt++) {
          assert.equal(runChild({ request, capabilities, killAt }).signal, 'SIGKILL');
          const attached = steps.slice(0, killAt).some((step) => step.do === 'attach');
          if (capabilities.detachedLowers) assert.deepEqual(lab.mounts(), attached ? ['target overlay'] : []);
          sweepStale(lab.runDir);
          if (attached) {
            assert.deepEqual(lab.mounts(), ['target overlay']);
            assert.equal(listMounts(lab.runDir)[0]?.state, 'mounted');
            assert.equal(lab.read('shared'), 'layer 2\n');
            unmount(lab.target, lab.runDir);
          }
          await lab.assertClean();
        }
      });
    }
  }

  test('at any time, the next mount finds its way', async (t) => {
    const lab = new MountLab(t);
    for (const { capabilities } of kernels) {
      const request = lab.request(lab.makeLayers(40), { rw: {} });
      for (let delay = 0; delay < 12; delay++) {
        const task = JSON.stringify({ request, capabilities, rounds: 1000 } satisfies ChildTask);
        const child = spawn(process.execPath, [CHILD, task], { stdio: 'ignore' });
        const ended = once(child, 'exit');
        await new Promise((done) => setTimeout(done, 120 + delay * 7));
        child.kill('SIGKILL');
        await ended;
        if (lab.mounts().includes('target overlay')) unmount(lab.target, lab.runDir);
        applyMount(planMount(request, capabilities));
        assert.deepEqual(lab.mounts(), ['target overlay']);
        unmount(lab.target, lab.runDir);
        await lab.assertClean();
      }
    }
  });
});

describe('competing processes', { skip: skipReason }, () => {
  for (const { name, capabilities } of kernels) {
    test(`mount and unmount beside each other: ${name}`, async (t) => {
      const lab = new MountLab(t);
      const images = lab.makeLayers(5);
      const children = [0, 1, 2].map((number) => {
        const target = join(lab.directory, `target-${number}`);
        mkdirSync(target);
        const request = lab.request(images, { target, rw: {} });
        const task = JSON.stringify({ request, capabilities, rounds: 40 } satisfies ChildTask);
        return spawn(process.execPath, [CHILD, task], { stdio: ['ignore', 'pipe', 'inherit'] });
      });
      for (const answer of await Promise.all(children.map(readAnswer)))
        assert.deepEqual(answer, { ok: true });
      await lab.assertClean();
    });
  }
});

describe('without rights', { skip: skipReason }, () => {
  test('an ordinary user is told what to do instead', async (t) => {
    const lab = new MountLab(t);
    const { answer } = runChild({
      request: lab.request([lab.makeLayer(0)]),
      capabilities: probeCapabilities(),
      uid: 65534,
    });
    assert.equal(answer?.ok, false);
    assert.equal(answer.code, 'mount/not-permitted');
    assert.match(answer.hint, /veneer ls/);
    await lab.assertClean();
  });

  for (const flags of ['-Ur', '-Urm']) {
    test(`root of a user namespace (unshare ${flags}) is told so`, async (t) => {
      const lab = new MountLab(t);
      const task: ChildTask = { request: lab.request(lab.makeLayers(2)), capabilities: probeCapabilities() };
      const { answer } = runChild(task, ['unshare', flags]);
      assert.equal(answer?.ok, false);
      assert.equal(answer.code, 'mount/not-permitted');
      assert.match(answer.hint, /user namespace/);
      await lab.assertClean();
    });
  }
});

describe('another mount namespace', { skip: skipReason }, () => {
  test('keeps its mount listed and its changes safe until it ends', async (t) => {
    const lab = new MountLab(t);
    const request = lab.request(lab.makeLayers(2), { rw: {} });
    const task: ChildTask = { request, capabilities: probeCapabilities(), wait: true };
    const child = spawn('unshare', ['-m', process.execPath, CHILD, JSON.stringify(task)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const ended = once(child, 'exit');
    try {
      assert.deepEqual(await readAnswer(child), { ok: true });
      assert.deepEqual(lab.mounts(), []);
      assert.equal(listMounts(lab.runDir)[0]?.state, 'elsewhere');
      assert.deepEqual(sweepStale(lab.runDir), { stale: [], unfinished: [], detached: [] });
      assert.equal(lab.entries().length, 1);
    } finally {
      child.stdin.end();
      await ended;
    }
    assert.deepEqual(sweepStale(lab.runDir).stale, [lab.target]);
    await lab.assertClean();
  });
});
