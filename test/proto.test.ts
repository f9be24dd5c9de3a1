/** src/containerd/gen is what `npm run proto` makes of proto/. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const PROJECT = fileURLToPath(new URL('..', import.meta.url));

test('the generated code is up to date', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'veneer-proto-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const template = readFileSync(join(PROJECT, 'proto/buf.gen.yaml'), 'utf8').replace(
    /out: .*/,
    `out: ${join(directory, 'gen')}`,
  );
  const bin = join(PROJECT, 'node_modules/.bin');
  const file = join(directory, 'buf.gen.yaml');
  writeFileSync(file, template);
  execFileSync(join(bin, 'buf'), ['generate', '--template', file], {
    cwd: join(PROJECT, 'proto'),
    env: { ...process.env, PATH: `${bin}:${process.env.PATH}` },
  });
  const generated = join(PROJECT, 'src/containerd/gen');
  const made = join(directory, 'gen');
  assert.deepEqual(readdirSync(made).sort(), readdirSync(generated).sort());
  for (const name of readdirSync(made))
    assert.equal(readFileSync(join(made, name), 'utf8'), readFileSync(join(generated, name), 'utf8'), name);
});
