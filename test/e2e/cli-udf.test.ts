/** `veneer index --format udf` as a program, killed too. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { copyFileSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { after, describe, it } from 'node:test';
import { bufferSource, ErofsReader } from '../../src/erofs/index.ts';
import { findTrailer } from '../../src/udf/index.ts';
import { archive, dir, file, opaque, symlink, whiteout } from '../support/tar-builder.ts';
import { CliLab, cleanEnv, LAUNCHER, parseLines } from './run-veneer.ts';

const TAR = archive(
  dir('d/'),
  file('d/a', 'hello'),
  whiteout('d/gone'),
  dir('o/'),
  opaque('o'),
  file('caps', 'program', { xattrs: { 'user.note': 'kept' } }),
  symlink('link', 'd//a'),
);

describe('veneer index --format udf', () => {
  const lab = new CliLab({ after });

  it('appends, says how to mount, and strips', async () => {
    writeFileSync(lab.path('a.tar'), TAR);
    const ran = await lab.veneer(['index', '--format', 'udf', '--json', 'a.tar']);
    assert.equal(ran.code, 0, ran.stderr);
    const [said] = parseLines(ran.text);
    const bytes = readFileSync(lab.path('a.tar'));
    const anchor = bytes.length / 512 - 1;
    assert.equal(said!.anchor, anchor);
    assert.deepEqual(said!.mountOptions, [
      'ro',
      'loop',
      'novrs',
      `anchor=${anchor}`,
      'bs=512',
      'iocharset=iso8859-1',
    ]);
    assert.equal(said!.diffId, findTrailer(bufferSource(bytes))!.digest);
    const notes = parseLines(ran.stderr).map(({ note }) => note as { code: string; path: string });
    assert.deepEqual(
      notes.map(({ code, path }) => `${path} ${code}`),
      ['caps udf/xattrs', 'link udf/target'],
    );
    const tree = (name: string) =>
      new ErofsReader(bufferSource(readFileSync(lab.path(name)))).readTree().root.children!;
    const attributes = tree('a.tar.attributes.erofs');
    assert.deepEqual([...attributes.keys()], ['caps', 'link']);
    assert.equal(attributes.get('caps')!.xattrs!.get('user.note'), 'kept');
    assert.equal(attributes.get('link')!.target, 'd//a');
    const whiteouts = tree('a.tar.whiteouts.erofs');
    assert.deepEqual([...whiteouts.get('d')!.whiteouts!], ['gone']);
    assert.equal(whiteouts.get('o')!.opaque, true);

    const again = await lab.veneer(['index', '--format', 'udf', 'a.tar']);
    assert.equal(again.code, 0, again.stderr);
    assert.match(again.text, /has its trailer already/);
    assert.ok(readFileSync(lab.path('a.tar')).equals(bytes));

    const listed = spawnSync('tar', ['tf', lab.path('a.tar')], { encoding: 'utf8' });
    assert.equal(listed.status, 0, listed.stderr);
    assert.equal(listed.stdout.trim().split('\n').length, 7);

    const stripped = await lab.veneer(['index', '--strip', 'a.tar']);
    assert.equal(stripped.code, 0, stripped.stderr);
    assert.ok(readFileSync(lab.path('a.tar')).equals(TAR));
  });

  it('gives the same file from a pipe and with -o', async () => {
    writeFileSync(lab.path('in-place.tar'), TAR);
    writeFileSync(lab.path('b.tar'), TAR);
    await lab.veneer(['index', '--format', 'udf', 'in-place.tar']);
    const piped = await lab.veneer(['index', '--format', 'udf', '-', '-o', 'piped.tar'], { input: TAR });
    assert.equal(piped.code, 0, piped.stderr);
    const copied = await lab.veneer(['index', '--format', 'udf', 'b.tar', '-o', 'copy.tar']);
    assert.equal(copied.code, 0, copied.stderr);
    const wanted = readFileSync(lab.path('in-place.tar'));
    assert.ok(readFileSync(lab.path('piped.tar')).equals(wanted));
    assert.ok(readFileSync(lab.path('copy.tar')).equals(wanted));
    assert.ok(readFileSync(lab.path('b.tar')).equals(TAR));
    // a tar that comes with its trailer gets no second one, and another kind instead when that is asked for
    for (const [words, input] of [
      [['in-place.tar', '-o', 'twice.tar'], ''],
      [['-', '-o', 'twice-piped.tar'], wanted],
      [['--names', 'unicode', '-', '-o', 'unicode.tar'], wanted],
    ] as const) {
      const ran = await lab.veneer(['index', '--format', 'udf', ...words], { input });
      assert.equal(ran.code, 0, ran.stderr);
    }
    assert.ok(readFileSync(lab.path('twice.tar')).equals(wanted));
    assert.ok(readFileSync(lab.path('twice-piped.tar')).equals(wanted));
    const other = findTrailer(bufferSource(readFileSync(lab.path('unicode.tar'))))!;
    assert.deepEqual([other.names, other.tarLength], ['unicode', TAR.length]);
  });

  it('keeps whiteouts as files when asked to', async () => {
    writeFileSync(lab.path('literal.tar'), TAR);
    const ran = await lab.veneer(['index', '--format', 'udf', '--whiteouts', 'literal', 'literal.tar']);
    assert.equal(ran.code, 0, ran.stderr);
    assert.equal(findTrailer(bufferSource(readFileSync(lab.path('literal.tar'))))!.whiteouts, 'literal');
    assert.deepEqual(
      readdirSync(lab.directory).filter((name) => name.startsWith('literal.tar.')),
      [],
    );
  });

  it('does not overwrite a file of somebody else with a sidecar', async () => {
    writeFileSync(lab.path('c.tar'), TAR);
    writeFileSync(lab.path('c.tar.whiteouts.erofs'), 'mine');
    const ran = await lab.veneer(['index', '--format', 'udf', 'c.tar']);
    assert.equal(ran.code, 1);
    assert.match(ran.stderr, /Cannot write c\.tar\.whiteouts\.erofs: it is there already/);
    assert.ok(readFileSync(lab.path('c.tar')).equals(TAR));
    assert.equal(readFileSync(lab.path('c.tar.whiteouts.erofs'), 'utf8'), 'mine');
  });

  it('explains wrong flags', async () => {
    for (const words of [
      ['--format', 'udf', '-'],
      ['--format', 'udf', '--digest', 'a.tar'],
      ['--strip', '-o', 'x', 'a.tar'],
      ['--whiteouts', 'literal', 'a.tar'],
    ]) {
      const ran = await lab.veneer(['index', ...words], { input: TAR });
      assert.equal(ran.code, 2, ran.stderr);
    }
  });

  it('killed at any moment, it leaves a tar that the next run completes', async () => {
    const many = archive(...Array.from({ length: 8000 }, (_, i) => file(`d${i % 40}/file ${i}`, `${i}`)));
    writeFileSync(lab.path('whole.tar'), many);
    const started = performance.now();
    await lab.veneer(['index', '--format', 'udf', 'whole.tar']);
    const took = performance.now() - started;
    const whole = readFileSync(lab.path('whole.tar'));
    for (let i = 0; i < 12; i++) {
      const path = lab.path('killed.tar');
      writeFileSync(path, many);
      const child = spawn(process.execPath, [LAUNCHER, 'index', '--format', 'udf', path], {
        env: cleanEnv(),
        stdio: 'ignore',
      });
      const ended = new Promise((resolve) => child.on('close', resolve));
      await new Promise((resolve) => setTimeout(resolve, took * (0.3 + 0.06 * i)));
      child.kill('SIGKILL');
      await ended;
      assert.ok(readFileSync(path).subarray(0, many.length).equals(many));
      assert.equal(spawnSync('tar', ['tf', path]).status, 0);
      copyFileSync(path, lab.path('other.tar'));
      const again = await lab.veneer(['index', i % 2 === 0 ? '--strip' : '--format=udf', 'killed.tar']);
      const now = readFileSync(path);
      if (i % 2 === 1) assert.ok(now.equals(whole), again.stderr);
      else assert.ok(now.equals(many), again.stderr);
      assert.deepEqual(
        readdirSync(lab.directory).filter((name) => name.includes('veneer-append')),
        [],
      );
    }
  });
});
