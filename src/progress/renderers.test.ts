import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { ProgressEvent } from './events.ts';
import { jsonRenderer } from './json.ts';
import { lineRenderer } from './lines.ts';
import type { ProgressScreen } from './renderer.ts';
import { taskLine, terminalRenderer } from './terminal.ts';

class Screen implements ProgressScreen {
  text = '';
  columns: number | undefined = 60;
  rows: number | undefined = 10;
  color = false;
  time = 0;

  write(text: string): void {
    this.text += text;
  }

  now(): number {
    return this.time;
  }

  /** What a terminal shows: knows the three control sequences that are used. */
  shown(): string[] {
    const lines = [''];
    for (const [token] of this.text.matchAll(/\x1b\[(\d*)([A-Za-z])|\r|\n|[^\x1b\r\n]+/g)) {
      const match = /^\x1b\[(\d*)([A-Za-z])$/.exec(token);
      if (token === '\n') lines.push('');
      else if (match?.[2] === 'A') lines.length = Math.max(1, lines.length - Number(match[1]));
      else if (match?.[2] === 'J') lines[lines.length - 1] = '';
      else if (match === null && token !== '\r') lines[lines.length - 1] += token;
    }
    return lines;
  }
}

const start = (id: string, total = 0): ProgressEvent => ({ type: 'start', id, what: `layer ${id}`, total });
const advance = (id: string, done: number): ProgressEvent => ({ type: 'advance', id, done });
const end = (id: string, outcome: 'done' | 'exists' | 'failed' = 'done'): ProgressEvent => ({
  type: 'end',
  id,
  outcome,
});

describe('progress on a terminal', () => {
  it('draws one line a task, keeps finished ones above', () => {
    const screen = new Screen();
    const renderer = terminalRenderer(screen);
    renderer.onProgress(start('a', 1_000_000));
    renderer.onProgress(start('b', 2_000_000));
    screen.time = 1000;
    renderer.onProgress(advance('a', 500_000));
    assert.deepEqual(screen.shown(), [
      'layer a  [=========>          ]  500 kB of 1.0 MB  500 kB/s',
      'layer b  [                    ]  0 B of 2.0 MB',
      '',
    ]);
    screen.time = 2000;
    renderer.onProgress(advance('a', 1_000_000));
    renderer.onProgress(end('a'));
    renderer.onProgress(end('b', 'exists'));
    renderer.close();
    assert.deepEqual(screen.shown(), ['layer a  done, 1.0 MB in 2.00 s', 'layer b  already there', '']);
  });

  it('redraws no more often than a frame', () => {
    const screen = new Screen();
    const renderer = terminalRenderer(screen);
    renderer.onProgress(start('a', 100));
    const before = screen.text.length;
    renderer.onProgress(advance('a', 10));
    assert.equal(screen.text.length, before);
    screen.time = 100;
    renderer.onProgress(advance('a', 20));
    assert.ok(screen.text.length > before);
  });

  it('steps aside for other text', () => {
    const screen = new Screen();
    const renderer = terminalRenderer(screen);
    renderer.onProgress(start('a', 100));
    renderer.pause();
    assert.deepEqual(screen.shown(), ['']);
    renderer.onProgress(advance('a', 1));
    assert.match(screen.shown()[0]!, /layer a/);
  });

  it('never draws more lines than fit', () => {
    const screen = new Screen();
    const renderer = terminalRenderer(screen);
    for (let i = 0; i < 40; i++) renderer.onProgress(start(String(i), 100));
    const shown = screen.shown();
    assert.equal(shown.length, 9);
    assert.equal(shown[7], '  and 33 more');
  });

  it('colours only when asked', () => {
    for (const color of [false, true]) {
      const screen = new Screen();
      screen.color = color;
      const renderer = terminalRenderer(screen);
      renderer.onProgress(start('a'));
      renderer.onProgress(end('a', 'failed'));
      assert.equal(/\x1b\[31m/.test(screen.text), color);
    }
  });

  it('fits every line into the width and lets no control character through', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary' }),
        fc.maxSafeNat(),
        fc.maxSafeNat(),
        fc.integer({ min: 20, max: 200 }),
        (what, total, done, columns) => {
          const line = taskLine({ what, total, done, startedAt: 0 }, 5000, columns);
          assert.ok(line.length < columns, `${line.length} chars in ${columns} columns`);
          assert.ok(!/[\u0000-\u001f\u007f-\u009f]/.test(line));
        },
      ),
    );
  });
});

describe('progress in a log', () => {
  it('tells beginnings and ends, and a sign of life every ten seconds', () => {
    const screen = new Screen();
    const renderer = lineRenderer(screen);
    renderer.onProgress(start('a', 1000));
    renderer.onProgress(advance('a', 100));
    screen.time = 10_000;
    renderer.onProgress(advance('a', 500));
    renderer.onProgress({ type: 'note', id: 'a', message: 'trying\x1b again' });
    screen.time = 12_000;
    renderer.onProgress(advance('a', 1000));
    renderer.onProgress(end('a'));
    assert.equal(
      screen.text,
      'layer a: started, 1.0 kB\nlayer a: 500 B of 1.0 kB\ntrying? again\nlayer a: done, 1.0 kB in 12.0 s\n',
    );
  });
});

describe('progress in files', () => {
  it('counts them', () => {
    const screen = new Screen();
    const renderer = terminalRenderer(screen);
    renderer.onProgress({ type: 'start', id: 'a', what: 'unpack a', total: 0, unit: 'file' });
    screen.time = 1000;
    renderer.onProgress(advance('a', 512));
    assert.deepEqual(screen.shown(), ['unpack a  512 files  512 files/s', '']);
    screen.time = 2000;
    renderer.onProgress(advance('a', 1024));
    renderer.onProgress(end('a'));
    assert.deepEqual(screen.shown(), ['unpack a  done, 1024 files in 2.00 s', '']);
  });
});

describe('progress for programs', () => {
  it('is the events, advances thinned out', () => {
    const screen = new Screen();
    const renderer = jsonRenderer(screen);
    const events = [start('a', 10), advance('a', 1), advance('a', 2), end('a')];
    for (const event of events) renderer.onProgress(event);
    const lines = screen.text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line).progress);
    assert.deepEqual(lines, [events[0], events[1], events[3]]);
  });
});
