/** A real image unpacked by us and by umoci: every attribute of every name, and what the two note of it. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { run, runVeneer } from '../e2e/run-veneer.ts';
import { CORPUS } from './corpus-check.ts';
import { Oracle } from './oracle.ts';
import { missing, requireNewerTool } from './require-tool.ts';
import { snapshotDirectory } from './tree-snapshot.ts';

export async function checkCorpusUnpack(t: TestContext, name: string): Promise<void> {
  if (process.getuid?.() !== 0) return missing(t, 'root is needed to unpack owners and devices');
  const umoci = requireNewerTool(t, 'umoci');
  if (umoci === null) return;
  const layout = join(CORPUS, 'oci', name);
  if (!existsSync(layout)) return missing(t, `${layout} is not there; scripts/corpus.sh makes it`);
  const lab = mkdtempSync(join(tmpdir(), 'veneer-unpack-'));
  const oracle = new Oracle();
  try {
    const [ours, theirs] = [join(lab, 'ours'), join(lab, 'theirs')];
    const words = ['image', 'unpack', '--storage', 'plain', '--image', layout, ours];
    for (const ran of [await runVeneer(words), await run(umoci, ['unpack', '--image', layout, theirs])]) {
      assert.equal(ran.code, 0, ran.stderr);
    }
    const [a, b] = [mtreeOf(ours), mtreeOf(theirs)];
    assert.equal(a.length, b.length);
    for (const [at, line] of a.entries()) assert.equal(line, b[at]);
    const wanted = await snapshotDirectory(oracle, join(theirs, 'rootfs'));
    const found = await snapshotDirectory(oracle, join(ours, 'rootfs'));
    assert.equal(found.size, wanted.size);
    for (const [path, entry] of found) assert.deepEqual(entry, wanted.get(path), path);
  } finally {
    await oracle.close();
    rmSync(lab, { recursive: true, force: true });
  }
}

/** Without who made it where and when, and without the sizes of directories: what those have had in them counts too. */
function mtreeOf(bundle: string): string[] {
  const [name] = readdirSync(bundle).filter((one) => one.endsWith('.mtree'));
  const text = readFileSync(join(bundle, name!), 'latin1');
  const lines = text.split('\n').filter((line) => !/^# +(user|machine|tree|date):/.test(line));
  return lines.map((line) => (line.includes(' type=dir ') ? line.replace(/ size=\d+/, '') : line));
}
