/**
 * The conformance table: every tar through our writers, the kernel's mount, and the oracles.
 *
 * The tree that a case means is read back by the kernel from images of every kind and must be
 * the same everywhere; GNU tar's extraction, mkfs.erofs and umoci say independently what it is.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { VeneerError } from '../../src/errors.ts';
import { mergeLayers } from '../../src/tree/index.ts';
import { whyNoKernel } from '../support/kernel-mount.ts';
import { Oracle } from '../support/oracle.ts';
import { layersOf, type TarCase, tarCases } from '../support/tar-cases.ts';
import { treeOfTar } from './case-images.ts';
import { CaseRun } from './checks.ts';

const noKernel = process.env.CI ? null : whyNoKernel();

let oracle: Oracle;
before(() => {
  oracle = new Oracle();
});
after(() => oracle.close());

function assertRefused(tarCase: TarCase, code: string): void {
  assert.throws(
    () => mergeLayers(layersOf(tarCase).map(treeOfTar)),
    (error) => error instanceof VeneerError && error.code === code,
  );
}

describe('conformance', { skip: noKernel ?? false }, () => {
  for (const tarCase of tarCases) {
    const { name, refused } = tarCase;
    if (refused !== undefined) {
      test(`${name} is refused`, () => assertRefused(tarCase, refused));
      continue;
    }
    test(name, async (t) => {
      const run = await CaseRun.start(oracle, tarCase);
      try {
        await t.test('GNU tar', () => run.checkTar());
        await t.test('one image a layer', () => run.checkLayerImages());
        await t.test('merged images', () => run.checkMerged());
        await t.test('pulled and mounted', () => run.checkStore('merged'));
        await t.test('pulled and mounted as layers', () => run.checkStore('layers'));
        await t.test('fsck.erofs', (step) => run.checkFsck(step));
        await t.test('mkfs.erofs', (step) => run.checkMkfs(step));
        await t.test('umoci', (step) => run.checkUmoci(step));
      } finally {
        await run.close();
      }
    });
  }
});
