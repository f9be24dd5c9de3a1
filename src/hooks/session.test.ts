/** Every event at hooks that answer, decline, fail, hang and lie; as programs and as callbacks. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { ANSWERS, FACTS, HookLab, SUBJECT } from '../../test/support/hook-lab.ts';
import { missing, requireTool } from '../../test/support/require-tool.ts';
import { type ErrorCode, VeneerError } from '../errors.ts';
import { execHook } from './exec.ts';
import { callbackHook, type Hook, type HookCallbacks, type HookPolicy } from './hook.ts';
import { HOOK_EVENTS, type HookEvent, isLayerEvent, QUESTIONS } from './protocol.ts';
import { type HookReport, HookSession, type SessionOptions } from './session.ts';

const lab = new HookLab();
after(() => lab.remove());

const program = (script: string, policy: HookPolicy = {}, events: readonly HookEvent[] = HOOK_EVENTS): Hook =>
  execHook({ ...policy, name: 'the hook', command: [lab.program(script), 'first'], events: new Set(events) });

/** Sends one event; abort, which nobody waits for, by way of a session that has something to undo. */
async function send(hook: Hook, event: HookEvent, options: SessionOptions = {}): Promise<unknown> {
  const session = new HookSession([hook], SUBJECT, options);
  if (QUESTIONS.has(event)) return (await session.ask(event, FACTS[event] as never))?.reply ?? null;
  const [first] = await session.tell(event, FACTS[event] as never);
  return first?.reply ?? null;
}

const refused = (work: Promise<unknown>, code: ErrorCode, message: RegExp): Promise<void> =>
  assert.rejects(
    work,
    (error) => error instanceof VeneerError && error.code === code && message.test(error.message),
  );

for (const event of HOOK_EVENTS) {
  describe(event, () => {
    it('answered: the reply, for all that the request should say', async () => {
      const answer = JSON.stringify(ANSWERS[event]);
      const log: string[] = [];
      const hook = program(
        `cat > $HERE/request-${event}; echo "$* $HOOK_EVENT $HOOK_PROTOCOL $HOOK_BUNDLE" >&2; echo '${answer}'`,
      );
      const reply = (await send(hook, event, {
        onLog: (name, line) => log.push(`${name}: ${line}`),
      })) as object;
      for (const [key, value] of Object.entries(ANSWERS[event])) {
        assert.deepEqual(reply[key as keyof typeof reply], value);
      }
      assert.deepEqual(log, [`the hook: first ${event} ${event} 1 /srv/bundle`]);
      const request = JSON.parse(readFileSync(join(lab.directory, `request-${event}`), 'utf8')) as object;
      assert.deepEqual(request, { protocol: 1, event, ...SUBJECT, ...FACTS[event] });
    });

    it('answered with nothing is answered where nothing is needed', async () => {
      const needed = event.endsWith('extract-to') || event.endsWith('delta-list');
      const work = send(program('exit 0'), event);
      if (needed) await refused(work, 'hooks/bad-reply', /directory|paths/);
      else assert.notEqual(await work, null);
    });

    it('declined', async () => {
      assert.equal(await send(program('echo "{bad"; exit 10'), event), null);
      assert.equal(await send(callbackHook('c', { [event]: () => null } as HookCallbacks), event), null);
    });

    it('failing: ends the work, or falls back where that is said', async () => {
      const skips = event.endsWith('try-skip');
      const failing = 'echo "no space" >&2; exit 1';
      await refused(
        send(program(failing, { onError: 'abort' }), event),
        'hooks/failed',
        /the hook ended with status 1 \(no space\)/,
      );
      assert.equal(await send(program(failing, { onError: 'fallback' }), event), null);
      if (skips) assert.equal(await send(program(failing), event), null);
      else await refused(send(program(failing), event), 'hooks/failed', /no space/);
    });

    it('hanging: is ended with all that it started', async () => {
      const hook = program(`(sleep 30; touch $HERE/late-${event}) & wait`, {
        timeout: 0.2,
        onError: 'abort',
      });
      await refused(send(hook, event), 'hooks/timeout', new RegExp(`${event} took more than 0.2 s`));
      assert.throws(() => execFileSync('pgrep', ['-f', `${lab.directory}/hook-.*${event}`]));
    });

    it('lying: an answer that it cannot have', async () => {
      for (const [answer, message] of [
        ['{"skip": tru', /no JSON/],
        ['[]', /./],
        ['{"unknown": 1}', /unknown|directory|paths/],
        ['{"directory": "relative", "paths": "../x", "rootfs": "/a/../b", "cumulative": "yes"}', /./],
      ] as const) {
        const hook = program(`echo '${answer}'`, { onError: 'abort' });
        await refused(send(hook, event), 'hooks/bad-reply', message);
      }
      const lie = (): never => ({ surprising: 1 }) as never;
      const callbacks = { [event]: lie } as HookCallbacks;
      await refused(
        send(callbackHook('c', callbacks, { onError: 'abort' }), event),
        'hooks/bad-reply',
        /surprising|directory|paths/,
      );
    });
  });
}

it('requests and replies are what the published schemas say', (t) => {
  if (requireTool(t, 'python3') === null) return;
  const docs = join(import.meta.dirname, '../../docs/hooks');
  const script = `
import json, sys
try: import jsonschema
except ImportError: sys.exit(77)
docs, lab, answers = sys.argv[1:]
read = lambda path: json.load(open(path))
V = jsonschema.Draft202012Validator
schema, replies = read(docs + '/request.schema.json'), read(docs + '/reply.schema.json')
for one in (schema, replies, read(docs + '/delta.schema.json')): V.check_schema(one)
for event, answer in json.loads(answers).items():
    instance = read(lab + '/request-' + event)
    V(schema).validate(instance)
    for key in instance:
        broken = dict(instance); del broken[key]
        assert not V(schema).is_valid(broken), event + ' without ' + key
    assert not V(schema).is_valid(dict(instance, more=1))
    own = V({'$ref': '#/$defs/' + event, '$defs': replies['$defs']})
    own.validate(answer)
    assert not own.is_valid({'unknown': 1})`;
  try {
    const args = [docs, lab.directory, JSON.stringify(ANSWERS)];
    execFileSync('python3', ['-c', script, ...args], { stdio: 'pipe' });
  } catch (error) {
    if ((error as { status?: number }).status === 77) missing(t, 'python3-jsonschema is not installed');
    else throw error;
  }
});

describe('programs', () => {
  const event = 'unpack.ociv1.image.prepare';

  it('see an allow list of the environment', async () => {
    process.env.VENEER_TEST_SECRET = 's';
    process.env.VENEER_TEST_PASSED = 'p';
    const command = [lab.program('env | cut -d= -f1 | sort > $HERE/env')];
    await send(
      execHook({ name: 'e', command, events: new Set(HOOK_EVENTS), env: ['VENEER_TEST_PASSED'] }),
      event,
    );
    const seen = readFileSync(join(lab.directory, 'env'), 'utf8').split('\n');
    assert.ok(seen.includes('VENEER_TEST_PASSED') && seen.includes('PATH'));
    assert.ok(!seen.includes('VENEER_TEST_SECRET') && !seen.includes('NODE_TEST_CONTEXT'));
  });

  it('that cannot be started, are killed, say too much, hear too much', async () => {
    const none = execHook({ name: 'none', command: ['/none'], events: new Set(HOOK_EVENTS) });
    await refused(send(none, event), 'hooks/failed', /could not be started.*ENOENT/);
    await refused(send(program('kill -9 $$'), event), 'hooks/failed', /killed by SIGKILL/);
    await refused(send(program('yes'), event), 'hooks/bad-reply', /wrote more than/);
    assert.notEqual(await send(program('exec <&-; sleep 0.1'), event), null);
  });

  it('that do not hear TERM are killed; the signal of the caller is the reason', async () => {
    const controller = new AbortController();
    setTimeout(() => controller.abort(new Error('ctrl-c')), 200);
    const hook = program("trap '' TERM; while :; do sleep 0.1; done", { onError: 'fallback' });
    await assert.rejects(send(hook, event, { signal: controller.signal }), /ctrl-c/);
  });

  it('whose children hold their output open do not keep us', async () => {
    assert.notEqual(await send(program('setsid sleep 30 & exit 0'), event), null);
    execFileSync('sh', ['-c', 'kill $(pgrep -n -f "^sleep 30$")']);
  });
});

describe('a session', () => {
  it('asks one hook after the other, and tells all', async () => {
    const asked: string[] = [];
    const named = (name: string, reply: object | null): Hook =>
      callbackHook(name, {
        'repack.ociv1.layer.pre-generate': () => {
          asked.push(`${name} asked`);
          return reply;
        },
        'unpack.ociv1.layer.commit': () => {
          asked.push(`${name} told`);
          return {};
        },
      });
    const session = new HookSession(
      [named('a', null), named('b', { rootfs: '/b' }), named('c', {})],
      SUBJECT,
    );
    const answer = await session.ask('repack.ociv1.layer.pre-generate', {});
    assert.deepEqual([answer?.hook.name, answer?.reply], ['b', { rootfs: '/b' }]);
    await session.tell('unpack.ociv1.layer.commit', FACTS['unpack.ociv1.layer.commit']);
    assert.deepEqual(asked, ['a asked', 'b asked', 'a told', 'b told', 'c told']);
    assert.ok(
      session.listens('unpack.ociv1.layer.commit') && !session.listens('unpack.ociv1.image.assemble'),
    );
  });

  it('aborts in reverse order, those who did something and only them, whatever happens', async () => {
    const heard: string[] = [];
    const reports: HookReport[] = [];
    const make = (name: string, commit: () => object | null, abort?: () => never): Hook =>
      callbackHook(name, {
        'unpack.ociv1.layer.commit': commit,
        'unpack.ociv1.image.prepare': () => ({}),
        'unpack.ociv1.image.abort': ({ reason, deeds }) => {
          heard.push(
            `${name}: ${reason}: ${deeds.map((deed) => `${deed.event.split('.').at(-1)} ${deed.layer}`)}`,
          );
          abort?.();
          return {};
        },
      });
    const bad = (): never => {
      throw new Error('broken');
    };
    const idle = callbackHook('idle', { 'unpack.ociv1.image.abort': bad });
    const hooks = [
      make('a', () => ({})),
      idle,
      make('b', () => null, bad),
      make('c', bad),
      make('d', () => ({})),
    ];
    const controller = new AbortController();
    const options = { signal: controller.signal, onReport: (report: HookReport) => reports.push(report) };
    const session = new HookSession(hooks, SUBJECT, options);
    await session.tell('unpack.ociv1.image.prepare', {});
    const facts = FACTS['unpack.ociv1.layer.commit'];
    await assert.rejects(session.tell('unpack.ociv1.layer.commit', facts), /broken/);
    controller.abort();
    await session.abort(new Error('why'));
    await session.abort(new Error('again'));
    assert.deepEqual(heard, [
      'd: why: prepare null',
      'c: why: commit 1,prepare null',
      'b: why: prepare null',
      'a: why: commit 1,prepare null',
    ]);
    assert.equal(reports.filter(({ outcome }) => outcome === 'failed').length, 2);
  });

  it('keeps layers of other media types from hooks', async () => {
    const events = HOOK_EVENTS.filter((event) => isLayerEvent(event));
    const heard: string[] = [];
    const callbacks = Object.fromEntries(events.map((event) => [event, () => void heard.push(event)]));
    const hook = (mediaType: string): Hook => callbackHook('h', callbacks, { mediaTypes: [mediaType] });
    for (const event of events) {
      await send(hook('application/vnd.oci.image.layer.v1.tar+zstd'), event);
      await send(hook('application/vnd.oci.image.layer.v1.tar+gzip'), event);
    }
    assert.deepEqual(heard, events);
  });

  it('does not wait for callbacks that never come back', async () => {
    const hook = callbackHook(
      'c',
      { 'unpack.ociv1.image.prepare': () => new Promise(() => {}) },
      { timeout: 0.1 },
    );
    const keep = setInterval(() => {}, 1000);
    await refused(send(hook, 'unpack.ociv1.image.prepare'), 'hooks/timeout', /0.1 s/);
    clearInterval(keep);
  });
});
