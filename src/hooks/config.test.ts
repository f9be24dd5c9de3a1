/** hooks.toml: which file counts, who may have written it, what may be in it; and lists of changed names. */
import assert from 'node:assert/strict';
import { chmodSync, chownSync, mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { HookLab } from '../../test/support/hook-lab.ts';
import { VeneerError } from '../errors.ts';
import { findHooksFile, readHooksFile, SYSTEM_FILE } from './config.ts';
import { readDeltas } from './deltas.ts';
import { callbackHook, type Hook } from './hook.ts';
import { HOOK_EVENTS } from './protocol.ts';

const lab = new HookLab();
after(() => lab.remove());

const makeDriver = (name: string, options: object): Hook =>
  callbackHook(`${name} ${JSON.stringify(options)}`, {});
const read = (path: string, outside: string[] = []): Hook[] => readHooksFile(path, { makeDriver, outside });
const refused = (work: () => unknown, message: RegExp): void =>
  assert.throws(
    work,
    (error) =>
      error instanceof VeneerError && error.code === 'hooks/bad-config' && message.test(error.message),
  );

describe('the file that counts', () => {
  it('flag, environment, user, system', () => {
    const home = lab.folder('home');
    const mine = join(home, '.config/veneer/hooks.toml');
    mkdirSync(join(home, '.config/veneer'), { recursive: true });
    const env = { HOME: home, VENEER_HOOKS: '/from/env' };
    assert.equal(findHooksFile({ flag: '/from/flag', env }), '/from/flag');
    assert.equal(findHooksFile({ env }), '/from/env');
    assert.equal(findHooksFile({ flag: '', env }), null);
    assert.equal(findHooksFile({ env: { HOME: home, VENEER_HOOKS: '' } }), null);
    const system = findHooksFile({ env: { HOME: home } });
    assert.ok(system === null || system === SYSTEM_FILE);
    lab.write(mine.slice(lab.directory.length + 1), '');
    assert.equal(findHooksFile({ env: { HOME: home } }), mine);
    assert.equal(findHooksFile({ env: { HOME: '/none', XDG_CONFIG_HOME: join(home, '.config') } }), mine);
  });

  it('is refused when others may have written it, or when it came with an image', () => {
    const folder = lab.folder('trust');
    const path = lab.write(`${folder.slice(lab.directory.length + 1)}/hooks.toml`, '');
    assert.deepEqual(read(path), []);
    for (const mode of [0o664, 0o646]) {
      chmodSync(path, mode);
      refused(() => read(path), /others may write to it/);
    }
    chmodSync(path, 0o644);
    chmodSync(folder, 0o777);
    refused(() => read(path), /others may write to its folder/);
    chmodSync(folder, 0o1777);
    assert.deepEqual(read(path), []);
    const link = join(lab.directory, 'link.toml');
    symlinkSync(path, link);
    refused(() => read(link, [folder]), /never come from an image or a bundle/);
    refused(() => read(folder), /no regular file/);
    refused(() => read(join(folder, 'none')), /ENOENT/);
    if (process.getuid?.() !== 0) return;
    chownSync(path, 1234, 0);
    refused(() => read(path), /it belongs to user 1234/);
    chownSync(path, 0, 0);
    chownSync(folder, 1234, 0);
    chmodSync(folder, 0o755);
    refused(() => read(path), /its folder belongs to user 1234/);
  });
});

describe('what is in it', () => {
  const parse = (text: string): Hook[] => read(lab.write('parsed.toml', text));

  it('programs and drivers, with all that can be said of them', () => {
    const [first, second, third] = parse(`
[[hook]]
name = "mine"
event = ["unpack.ociv1.layer.try-skip", "unpack.ociv1.layer.commit"]
command = ["/usr/bin/mine", "--fast"]
timeout = 1.5
on_error = "fallback"
verify = "manifest"
env = ["TOKEN"]
match.media_type = "application/vnd.oci.image.layer.v1.tar+zstd"

[[hook]]
command = ["/all"]

[[hook]]
driver = "btrfs"
verify = "none"
options = { cache = "/var/cache/x" }
`);
    assert.deepEqual(
      [first!.name, [...first!.events], first!.timeout, first!.onError, first!.verify, first!.mediaTypes],
      [
        'mine',
        ['unpack.ociv1.layer.try-skip', 'unpack.ociv1.layer.commit'],
        1.5,
        'fallback',
        'manifest',
        ['application/vnd.oci.image.layer.v1.tar+zstd'],
      ],
    );
    assert.deepEqual([second!.name, [...second!.events]], ['/all', HOOK_EVENTS]);
    assert.deepEqual([third!.name, third!.verify], ['btrfs {"cache":"/var/cache/x"}', 'none']);
  });

  for (const [text, message] of [
    ['[[hook]', /Cannot use the hooks in .*parsed\.toml/],
    ['[hook]\nx=1', /hook/],
    ['[[hook]]\ncommand = ["/x"]\ntimeuot = 1', /hook\.0\.timeuot/],
    ['[[hook]]\ncommand = ["/x"]\nevent = "unpack"', /not an event|no such event/],
    ['[[hook]]\ncommand = ["/x"]\nevent = []', /event/],
    ['[[hook]]\ncommand = []', /hook\.0\.command: an empty list/],
    ['[[hook]]\ncommand = "/x"', /hook\.0\.command/],
    ['[[hook]]\ncommand = ["x"]', /"x" is not the absolute path/],
    ['[[hook]]\nname = "x"', /either a command or a driver/],
    ['[[hook]]\ncommand = ["/x"]\ndriver = "btrfs"', /either a command or a driver/],
    ['[[hook]]\ndriver = "btrfs"\nevent = "unpack.ociv1.layer.commit"', /do not go with a driver/],
    ['[[hook]]\ncommand = ["/x"]\noptions = { a = "b" }', /options go with a driver/],
    ['[[hook]]\ncommand = ["/x"]\ntimeout = 0', /timeout: not more than 0/],
    ['[[hook]]\ncommand = ["/x"]\non_error = "ignore"', /on_error/],
    ['[[hook]]\ncommand = ["/x"]\nverify = "some"', /verify/],
    ['[[hook]]\ncommand = ["/x"]\nenv = ["A=B"]', /not a variable name/],
  ] as const) {
    it(`${JSON.stringify(text)} is refused`, () => refused(() => parse(text), message));
  }
});

describe('a list of changed names', () => {
  const list = (text: string) => readDeltas(lab.write('list', text), 'the hook');

  it('paths as text and as bytes, cleaned, each once', async () => {
    const lines = [
      '{"path":"a"}',
      '',
      '{"path64":"/w=="}',
      '{"path":"/d//é/./"}',
      '{"path":"a","recursive":true}',
      '{"path":"."}',
    ];
    assert.deepEqual(await list(`${lines.join('\n')}\n`), [
      { path: 'a', recursive: true },
      { path: '\xff', recursive: false },
      { path: 'd/\xc3\xa9', recursive: false },
      { path: '', recursive: false },
    ]);
  });

  for (const [text, message] of [
    ['{"path":"a/../b"}', /line 1: a path with "\.\."/],
    ['{"path":"a"}\n{"path":"a\\u0000"}', /line 2: .*NUL/],
    ['{"path":"a","path64":"YQ=="}', /either/],
    ['{}', /either/],
    ['a', /no JSON/],
    ['{"path64":"%"}', /not base64/],
    ['{"path":"a","what":1}', /what/],
    [`{"path":"${'x'.repeat(20_000)}"}`, /more than 16384/],
  ] as const) {
    it(`${JSON.stringify(text.slice(0, 40))} is refused`, async () => {
      await assert.rejects(
        list(text),
        (error) => error instanceof VeneerError && message.test(error.message),
      );
    });
  }

  it('that is no file is refused', async () => {
    await assert.rejects(readDeltas(lab.directory, 'the hook'), /no regular file/);
    await assert.rejects(readDeltas('/none/list', 'the hook'), /ENOENT/);
  });
});
