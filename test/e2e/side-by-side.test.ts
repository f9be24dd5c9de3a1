/** `veneer index` and `convert` with several large layers: threads, the order of what is told, failures. */
import assert from 'node:assert/strict';
import {
  closeSync,
  existsSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  writeSync,
} from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { sha256 } from '../support/images.ts';
import { archive, file, makeHeader } from '../support/tar-builder.ts';
import { CliLab, parseLines } from './run-veneer.ts';

/** More than this stands in one file of each tar, so that another thread is worth its start. */
const PAYLOAD = 70 << 20;

describe('several large layers', () => {
  const lab = new CliLab({ after });
  const small = archive(file('small', 'the smallest layer\n'));

  /** A tar with one file of zeros, which costs no space. */
  function makeTar(name: string, payload: number, tail = archive(file(`in-${name}`, name))): void {
    const fd = openSync(lab.path(name), 'w');
    writeSync(fd, makeHeader({ name: `zeros-of-${name}`, size: payload, type: '0', mode: 0o644 }));
    ftruncateSync(fd, 512 + payload);
    writeSync(fd, tail, 0, tail.length, 512 + payload);
    closeSync(fd);
  }

  before(() => {
    makeTar('b.tar', PAYLOAD);
    makeTar('a.tar', 2 * PAYLOAD);
    makeTar('c.tar', PAYLOAD + 512);
    makeTar('bad.tar', PAYLOAD + 1024, Buffer.alloc(512, 'x'));
    const fd = openSync(lab.path('small.tar'), 'w');
    writeSync(fd, small);
    closeSync(fd);
  });

  const makeFolder = (name: string): string => {
    mkdirSync(lab.path(name));
    return name;
  };
  const unfinished = (folder: string): string[] =>
    readdirSync(lab.path(folder)).filter((name) => name.startsWith('.'));

  for (const command of ['index', 'convert']) {
    it(`${command}: the same images as one by one, told in the order given`, async () => {
      const tars = ['small.tar', 'b.tar', 'a.tar', 'c.tar'];
      const ran = await lab.veneer([command, '--json', '-o', makeFolder(`${command}-all`), ...tars]);
      assert.equal(ran.code, 0, ran.stderr);
      const told = parseLines(ran.text);
      assert.deepEqual(
        told.map((report) => report[command === 'index' ? 'tar' : 'blob']),
        tars,
      );
      for (const tar of tars) {
        const one = await lab.veneer([command, '--json', '-fo', 'one.erofs', tar]);
        assert.equal(one.code, 0, one.stderr);
        const all = readFileSync(lab.path(`${command}-all/${tar}.erofs`));
        assert.equal(sha256(all), sha256(readFileSync(lab.path('one.erofs'))), tar);
      }
    });

    it(`${command}: one that is broken ends it, by name, and nothing is left half`, async () => {
      const folder = `${command}-bad`;
      const ran = await lab.veneer([
        command,
        '-o',
        makeFolder(folder),
        'a.tar',
        'bad.tar',
        'b.tar',
        'gone.tar',
      ]);
      assert.equal(ran.code, 1);
      assert.match(ran.stderr, /tar header/i);
      assert.deepEqual(unfinished(folder), []);
      assert.equal(existsSync(lab.path(`${folder}/bad.tar.erofs`)), false);
    });

    it(`${command}: one that is missing is named as ever`, async () => {
      const ran = await lab.veneer([
        command,
        '-o',
        makeFolder(`${command}-gone`),
        'a.tar',
        'b.tar',
        'gone.tar',
      ]);
      assert.equal(ran.code, 1);
      assert.match(ran.stderr, /gone\.tar: no such file or directory/);
      assert.deepEqual(unfinished(`${command}-gone`), []);
    });
  }

  it('a thread that runs out of memory is named, and leaves nothing half', async () => {
    // This thread hashes the larger one while the other builds the tree of the smaller.
    makeTar('larger.tar', 1 << 30);
    const fd = openSync(lab.path('many.tar'), 'w');
    for (let i = 0; i < 1500; i++) {
      const entry = (_: unknown, k: number): Buffer =>
        makeHeader({ name: `${i}-${k}-${'x'.repeat(80)}`, size: 0 });
      writeSync(fd, Buffer.concat(Array.from({ length: 100 }, entry)));
    }
    closeSync(fd);
    const words = ['index', '--digest', '-o', makeFolder('memory'), 'many.tar', 'larger.tar'];
    const ran = await lab.veneer(words, { env: { NODE_OPTIONS: '--max-old-space-size=60' } });
    assert.equal(ran.code, 1, ran.stderr);
    assert.match(ran.stderr, /a thread ended: .*memory.*\nhint: let Node have more/);
    assert.deepEqual(readdirSync(lab.path('memory')), ['larger.tar.erofs']);
  });
});
