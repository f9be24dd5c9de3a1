import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { alignColumns, displayWidth } from './table.ts';

describe('columns', () => {
  it('line up, numbers to the right, the last one unpadded', () => {
    assert.deepEqual(
      alignColumns(
        [
          ['name', '5', 'x'],
          ['n', '1234', 'long text'],
        ],
        [1],
      ),
      ['name     5  x', 'n     1234  long text'],
    );
  });

  it('leave out a column that is empty everywhere', () => {
    assert.deepEqual(
      alignColumns([
        ['a', '', 'b'],
        ['c', '', 'd'],
      ]),
      ['a  b', 'c  d'],
    );
  });

  it('count what a terminal shows', () => {
    assert.equal(displayWidth('abc'), 3);
    assert.equal(displayWidth('日本'), 4);
    assert.equal(displayWidth('e\u0301'), 1);
    assert.equal(displayWidth('\u{1f600}'), 2);
  });
});
