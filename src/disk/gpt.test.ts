import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { requireTool } from '../../test/support/require-tool.ts';
import { bufferSource } from '../bytes/io.ts';
import { type GptPartition, planGpt, readGpt } from './gpt.ts';

const IDENTITY = Buffer.alloc(32, 5);

function makeDisk(count: number): { disk: Buffer; partitions: GptPartition[] } {
  let partitions: GptPartition[] = [];
  const gpt = planGpt((first) => {
    let at = first;
    partitions = Array.from({ length: count }, (_, i) => {
      const partition = { name: `layer ${i} é`, start: at, sectors: 8 + i };
      at += 16 + i;
      return partition;
    });
    return partitions;
  }, IDENTITY);
  const disk = Buffer.alloc(gpt.tailAt * 512 + gpt.tail.length);
  gpt.head.copy(disk);
  gpt.tail.copy(disk, gpt.tailAt * 512);
  return { disk, partitions };
}

describe('a partition table', () => {
  for (const count of [1, 128, 129, 255]) {
    it(`of ${count} partitions comes back`, () => {
      const { disk, partitions } = makeDisk(count);
      assert.deepEqual(readGpt(bufferSource(disk)), { partitions, problems: [] });
    });
  }

  it('is read alike by sfdisk and partx', (t) => {
    const sfdisk = requireTool(t, 'sfdisk');
    const partx = requireTool(t, 'partx');
    if (sfdisk === null || partx === null) return;
    const dir = mkdtempSync(join(tmpdir(), 'veneer-gpt-'));
    t.after(() => rmSync(dir, { recursive: true, force: true }));
    for (const count of [3, 200]) {
      const { disk, partitions } = makeDisk(count);
      const path = join(dir, `${count}.img`);
      writeFileSync(path, disk);
      const run = (program: string, ...args: string[]): string =>
        execFileSync(program, args, { encoding: 'utf8' });
      assert.match(run(sfdisk, '--verify', path), /No errors detected/);
      const { partitiontable } = JSON.parse(run(sfdisk, '--json', path)) as {
        partitiontable: {
          label: string;
          partitions: { start: number; size: number; name: string; type: string }[];
        };
      };
      assert.equal(partitiontable.label, 'gpt');
      assert.deepEqual(
        partitiontable.partitions.map(({ name, start, size }) => ({ name, start, sectors: size })),
        partitions,
      );
      assert.equal(partitiontable.partitions[0]!.type, '0FC63DAF-8483-4772-8E79-3D69D8477DE4');
      const rows: string[] = run(partx, '--show', '--noheadings', '--output', 'START,SECTORS', path)
        .trim()
        .split('\n');
      assert.deepEqual(
        rows.map((row) => row.trim().split(/\s+/).map(Number)),
        partitions.map(({ start, sectors }) => [start, sectors]),
      );
    }
  });

  it('has no room for more partitions than Linux sees', () => {
    assert.throws(() => makeDisk(256), { code: 'disk/limit' });
  });

  it('is read from its second copy when the first is damaged, and says so', () => {
    const { disk, partitions } = makeDisk(3);
    for (const at of [512, 512 + 20, 512 + 72, 1024 + 40]) {
      const bad = Buffer.from(disk);
      bad[at]! ^= 1;
      const read = readGpt(bufferSource(bad))!;
      assert.deepEqual(read.partitions, partitions);
      assert.match(read.problems.join(), /the partition table is damaged/);
    }
    const bad = Buffer.from(disk);
    bad[bad.length - 400]! ^= 1;
    assert.match(readGpt(bufferSource(bad))!.problems.join(), /second partition table is damaged/);
    bad[600]! ^= 1;
    bad[520]! ^= 1;
    assert.throws(() => readGpt(bufferSource(bad)), { code: 'disk/corrupt' });
  });

  it('is not seen where there is none', () => {
    assert.equal(readGpt(bufferSource(Buffer.alloc(100_000))), null);
    assert.equal(readGpt(bufferSource(Buffer.alloc(10))), null);
  });
});
