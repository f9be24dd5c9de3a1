/**
 * The order of the rooms, read from the table in docs/architecture.md: nothing imports upwards, only sys/ calls
 * into C, only cli/ prints, formats never touch the file system.
 */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

const project = fileURLToPath(new URL('..', import.meta.url));
const src = join(project, 'src');

/** Room (`tar/`) or file (`errors.ts`, `erofs/format.ts`) to level. */
function readLevels(): Map<string, number> {
  const levels = new Map<string, number>();
  for (const line of readFileSync(join(project, 'docs/architecture.md'), 'utf8').split('\n')) {
    const match = /^\| (\d+) \| ([^|]+) \|/.exec(line);
    if (match === null) continue;
    for (const [, name] of match[2]!.matchAll(/`([^`]+)`/g)) levels.set(name!, Number(match[1]));
  }
  return levels;
}

const levels = readLevels();

/** The library's front doors re-export from anywhere. */
const isBarrel = (file: string): boolean => file === 'index.ts';

function levelOf(file: string): number {
  const level = levels.get(file) ?? levels.get(`${file.split('/')[0]}/`);
  assert.ok(level !== undefined, `docs/architecture.md does not say where src/${file} belongs`);
  return level;
}

const roomOf = (file: string): string => file.split('/')[0]!;

const files = globSync('**/*.ts', { cwd: src })
  .filter((file) => !file.endsWith('.test.ts'))
  .sort();

/** Comments and strings out of the way, so that they are no code. */
function codeOf(file: string): string {
  return readFileSync(join(src, file), 'utf8')
    .replace(/\/\*[\s\S]*?\*\//g, '')
    .replace(/^\s*\/\/.*$/gm, '');
}

function importsOf(file: string): string[] {
  const code = codeOf(file);
  const found = [
    ...code.matchAll(/^\s*(?:import|export)\b[^;]*?\bfrom\s+'([^']+)'/gm),
    ...code.matchAll(/^\s*import\s+'([^']+)'/gm),
    ...code.matchAll(/\bimport\(\s*'([^']+)'\s*\)/g),
    ...code.matchAll(/new URL\(\s*['`](\.[^'`]+)['`]/g),
  ];
  return found.map((match) => match[1]!);
}

describe('rooms', () => {
  it('are all in the table', () => {
    assert.ok(levels.size >= 10, 'no table found');
    for (const file of files) if (!isBarrel(file)) levelOf(file);
  });

  for (const file of files) {
    if (isBarrel(file)) continue;
    it(`src/${file} imports nothing from above`, () => {
      for (const specifier of importsOf(file)) {
        if (!specifier.startsWith('.')) continue;
        const target = relative(src, resolve(src, dirname(file), specifier));
        if (target.startsWith('..')) continue;
        const down = levelOf(target) < levelOf(file) || roomOf(target) === roomOf(file);
        assert.ok(down, `src/${file} imports src/${target}, which is not further down`);
      }
    });
  }
});

describe('duties', () => {
  it('only sys/ imports the FFI library', () => {
    for (const file of files) {
      if (roomOf(file) === 'sys') continue;
      assert.ok(!importsOf(file).includes('koffi'), `src/${file} imports koffi`);
    }
  });

  it('only cli/ prints', () => {
    for (const file of files) {
      if (roomOf(file) === 'cli') continue;
      const match = /\bconsole\.\w+|\bprocess\.(stdout|stderr)\b/.exec(codeOf(file));
      assert.equal(match, null, `src/${file} prints with ${match?.[0]}`);
    }
  });

  it('formats, trees and scanners never touch the file system', () => {
    for (const file of files) {
      if (
        !['bytes', 'tar', 'tree', 'diff', 'delta', 'erofs', 'udf', 'verity', 'progress'].includes(
          roomOf(file),
        )
      )
        continue;
      const touching = importsOf(file).find((name) =>
        /^node:(fs|fs\/promises|child_process|net|http|https)$/.test(name),
      );
      assert.equal(touching, undefined, `src/${file} imports ${touching}`);
    }
  });

  it('only cli/ ends the process', () => {
    for (const file of files) {
      if (roomOf(file) === 'cli') continue;
      assert.ok(!/\bprocess\.exit\b/.test(codeOf(file)), `src/${file} ends the process`);
    }
  });
});
