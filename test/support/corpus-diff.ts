/** `veneer diff` of two real images, compared with a look at every name and byte of both as the kernel shows them. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { CliLab, parseLines } from '../e2e/run-veneer.ts';
import { CORPUS } from './corpus-check.ts';
import { MountLab, whyNoKernel } from './kernel-mount.ts';
import { Oracle } from './oracle.ts';
import { missing } from './require-tool.ts';
import { type Snapshot, type SnapshotEntry, snapshotDirectory } from './tree-snapshot.ts';

export async function checkCorpusDiff(t: TestContext, old: string, now: string): Promise<void> {
  const noKernel = whyNoKernel();
  if (noKernel !== null) return missing(t, noKernel);
  const lab = new CliLab(t);
  const oracle = new Oracle();
  const mounts = new MountLab(oracle);
  try {
    const shown: Snapshot[] = [];
    for (const name of [old, now]) {
      const layout = join(CORPUS, 'oci', name);
      if (!existsSync(join(layout, 'index.json')))
        return missing(t, `the image is not there: scripts/corpus.sh ${name}`);
      const at = mounts.folder(name);
      for (const words of [
        ['pull', `oci:${layout}`, '--name', name],
        ['mount', name, at],
      ]) {
        const ran = await lab.veneer(words);
        assert.equal(ran.code, 0, ran.stderr);
      }
      try {
        shown.push(await snapshotDirectory(oracle, at));
      } finally {
        await lab.veneer(['umount', at]);
      }
    }
    const expected = compareSnapshots(shown[0]!, shown[1]!);
    assert.ok(expected.length > 20);
    const told = await lab.veneer(['diff', '--json', '--no-renames', old, now]);
    assert.equal(told.code, 0, told.stderr);
    const lines = parseLines(told.text).filter(({ differs }) => String(differs) !== 'links');
    assert.deepEqual(lines.map((line) => `${line.change} ${exactPath(line)}`).sort(), expected);
    t.diagnostic(`${expected.length} changes`);
  } finally {
    await mounts.close();
    await oracle.close();
  }
}

/** The path in a line of JSON, as a byte string. */
export function exactPath({ path, pathBase64 }: Record<string, unknown>): string {
  const bytes =
    pathBase64 === undefined ? Buffer.from(String(path)) : Buffer.from(String(pathBase64), 'base64');
  return bytes.toString('latin1');
}

/** `KIND /PATH`, sorted; byte strings. */
function compareSnapshots(old: Snapshot, now: Snapshot): string[] {
  const lines: string[] = [];
  for (const path of new Set([...old.keys(), ...now.keys()])) {
    const kind = kindOf(old.get(path), now.get(path));
    if (kind !== null) lines.push(`${kind} /${path}`);
  }
  return lines.sort();
}

function kindOf(old: SnapshotEntry | undefined, now: SnapshotEntry | undefined): string | null {
  if (old === undefined) return 'added';
  if (now === undefined) return 'removed';
  if (old.type !== now.type) return 'type';
  const data = ({ size, target, sha256, devMajor, devMinor }: SnapshotEntry): string =>
    `${size} ${target} ${sha256} ${devMajor} ${devMinor}`;
  if (data(old) !== data(now)) return 'changed';
  const rest = ({ mode, uid, gid, mtime, mtimeNsec, xattrs }: SnapshotEntry): string =>
    `${mode} ${uid} ${gid} ${mtime} ${mtimeNsec} ${xattrs}`;
  return rest(old) === rest(now) ? null : 'attributes';
}
