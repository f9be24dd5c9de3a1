/** `veneer serve` as a service: its sockets, health, metrics, logs, and what it says to systemd. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Metadata } from '@grpc/grpc-js';
import { Health, HealthCheckResponse_ServingStatus as Status } from '../../src/containerd/gen/health_pb.ts';
import { Snapshots } from '../../src/containerd/gen/snapshots_pb.ts';
import { RpcClient } from '../../src/containerd/rpc-client.ts';
import { mayMount } from '../../src/mount/index.ts';
import { cleanEnv, LAUNCHER, runVeneer } from '../e2e/run-veneer.ts';
import { missing, requireTool } from '../support/require-tool.ts';

const CALL = { metadata: new Metadata() };

class Service {
  readonly directory: string;
  readonly address: string;
  #child: ChildProcess | null = null;
  log = '';

  constructor(t: TestContext) {
    this.directory = mkdtempSync(join(tmpdir(), 'veneer-serve-'));
    this.address = this.path('run/veneer.sock');
    t.after(async () => {
      await this.stop('SIGKILL');
      rmSync(this.directory, { recursive: true, force: true });
    });
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  get pid(): number {
    return this.#child!.pid!;
  }

  words(...more: string[]): string[] {
    return ['serve', '--root', this.path('root'), '--address', this.address, ...more];
  }

  /** `before`: words in front of the command line. */
  async start(words: readonly string[], before: readonly string[] = []): Promise<void> {
    const [program, ...rest] = [...before, process.execPath, LAUNCHER, ...words];
    const child = spawn(program!, rest, { env: cleanEnv(), stdio: ['ignore', 'ignore', 'pipe'] });
    this.#child = child;
    child.stderr!.on('data', (chunk: Buffer) => {
      this.log += chunk.toString();
    });
    await this.until(/"serving"/);
  }

  async until(pattern: RegExp): Promise<void> {
    while (!pattern.test(this.log)) {
      if (this.#child!.exitCode !== null) throw new Error(`it ended: ${this.log}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  signal(name: NodeJS.Signals): void {
    this.#child!.kill(name);
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    const child = this.#child;
    if (child === null || child.exitCode !== null || child.signalCode !== null)
      return child?.exitCode ?? null;
    const exit = once(child, 'exit');
    child.kill(signal);
    return (await exit)[0] as number | null;
  }

  client(t: TestContext): RpcClient {
    const client = new RpcClient(this.address);
    t.after(() => client.close());
    return client;
  }

  /** Asks the metrics socket. */
  get(path: string, socketPath = this.path('run/metrics.sock')): Promise<{ code: number; text: string }> {
    return new Promise((resolve, reject) => {
      const asked = request({ socketPath, path }, (response) => {
        let text = '';
        response.on('data', (chunk: Buffer) => {
          text += chunk.toString();
        });
        response.on('end', () => resolve({ code: response.statusCode!, text }));
      });
      asked.on('error', reject);
      asked.end();
    });
  }
}

function openService(t: TestContext): Service | null {
  if (mayMount()) return new Service(t);
  missing(t, 'mounting needs root');
  return null;
}

test('connections that others keep open do not keep it', async (t) => {
  const service = openService(t);
  if (service === null) return;
  await service.start(service.words());
  const names = ['metrics.sock', 'metrics.sock', 'veneer.sock'];
  const kept = names.map((name) => connect(service.path(`run/${name}`)));
  t.after(() => {
    for (const socket of kept) socket.destroy();
  });
  for (const socket of kept) socket.on('error', () => {});
  kept[0]!.write('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n');
  assert.match(String((await once(kept[0]!, 'data'))[0]), /200 OK/);
  assert.equal(await service.stop(), 0);
});

test('a file under the name of a socket is left alone', async (t) => {
  const service = openService(t);
  if (service === null) return;
  const precious = service.path('precious');
  writeFileSync(precious, 'kept');
  const address = service.words().slice(0, -1);
  for (const words of [[...address, precious], service.words('--metrics', `unix:${precious}`)]) {
    const { code, stderr } = await runVeneer(words);
    assert.equal(code, 2);
    assert.match(stderr, /precious: something else than a socket is there/);
    assert.equal(readFileSync(precious, 'utf8'), 'kept');
  }
});

test('sockets, health, metrics, logs, and a clean end', async (t) => {
  const service = openService(t);
  if (service === null) return;
  await service.start(service.words());
  for (const name of ['veneer.sock', 'metrics.sock'])
    assert.equal(statSync(service.path(`run/${name}`)).mode & 0o777, 0o600, name);
  const client = service.client(t);
  const check = (name: string) => client.unary(Health.method.check, { service: name }, CALL);
  assert.equal((await check('')).status, Status.SERVING);
  assert.equal((await check(Snapshots.typeName)).status, Status.SERVING);
  await assert.rejects(check('nobody'), /no such service/);

  await client.unary(Snapshots.method.prepare, { key: 'default/1/a' }, CALL);
  await assert.rejects(client.unary(Snapshots.method.stat, { key: 'nobody' }, CALL), /nobody/);
  const { code, text } = await service.get('/metrics');
  assert.equal(code, 200);
  assert.match(text, /^veneer_snapshots\{kind="active"\} 1$/m);
  assert.match(text, /^veneer_grpc_calls_total\{method="Prepare",code="OK"\} 1$/m);
  assert.match(text, /^veneer_grpc_calls_total\{method="Stat",code="NOT_FOUND"\} 1$/m);
  assert.match(text, /^process_open_fds \d+$/m);
  assert.deepEqual(await service.get('/healthz'), { code: 200, text: 'ok\n' });
  assert.equal((await service.get('/nothing')).code, 404);

  assert.doesNotMatch(service.log, /"Prepare"/);
  service.signal('SIGUSR2');
  await service.until(/log level changed/);
  await client.unary(Snapshots.method.stat, { key: 'default/1/a' }, CALL);
  await service.until(/"method":"Stat","key":"default\/1\/a"/);

  const watch = client.read(Health.method.watch, { service: '' }, CALL);
  assert.equal((await watch.next()).value!.status, Status.SERVING);
  const stopped = service.stop();
  assert.equal((await watch.next()).value!.status, Status.NOT_SERVING);
  await watch.return(undefined);
  assert.equal(await stopped, 0);
  assert.deepEqual(readdirSync(service.path('run')), []);
  for (const line of service.log.trim().split('\n')) JSON.parse(line);
});

test('a daemon that has nothing to do sleeps', async (t) => {
  const service = openService(t);
  if (service === null) return;
  await service.start(service.words());
  const wakings = (): number => {
    const status = readFileSync(`/proc/${service.pid}/status`, 'latin1');
    return Number(/^voluntary_ctxt_switches:\t(\d+)$/m.exec(status)![1]);
  };
  // What a start leaves to be done is done by then.
  await delay(3000);
  const before = wakings();
  await delay(3000);
  const count = wakings() - before;
  // It looks for a containerd that is not there a few times a second.
  assert.ok(count < 150, `it woke ${count} times in three seconds`);
});

test('one daemon for a store, and one for a socket', async (t) => {
  const service = openService(t);
  if (service === null) return;
  await service.start(service.words());
  const second = await runVeneer([
    'serve',
    '--root',
    service.path('root'),
    '--address',
    service.path('other.sock'),
  ]);
  assert.equal(second.code, 1);
  assert.match(second.stderr, /Cannot serve .*another veneer serve/);
  const third = await runVeneer(['serve', '--root', service.path('other'), '--address', service.address]);
  assert.equal(third.code, 1);
  assert.match(third.stderr, /Cannot listen on .*veneer\.sock/);
  assert.ok(existsSync(service.address), 'the socket of the first is left alone');
});

test('a socket file that a dead daemon left is no obstacle', async (t) => {
  const service = openService(t);
  if (service === null) return;
  await service.start(service.words());
  await service.stop('SIGKILL');
  assert.ok(existsSync(service.address));
  service.log = '';
  await service.start(service.words());
  assert.equal(await service.stop(), 0);
});

test('sockets from systemd, and what it is told', async (t) => {
  const service = openService(t);
  if (service === null || requireTool(t, 'python3') === null) return;
  const manager = spawn('python3', ['-c', MANAGER, service.path('notify')]);
  t.after(() => manager.kill());
  let told = '';
  manager.stdout.on('data', (chunk: Buffer) => {
    told += chunk.toString();
  });
  const until = async (pattern: RegExp): Promise<void> => {
    while (!pattern.test(told)) await once(manager.stdout, 'data');
  };
  await until(/^bound$/m);
  const before = ['python3', '-c', ACTIVATE, service.path('passed.sock'), service.path('notify')];
  await service.start(service.words('--metrics', 'off'), before);
  assert.equal(existsSync(service.address), false, 'no socket of its own');
  const client = new RpcClient(service.path('passed.sock'));
  t.after(() => client.close());
  assert.equal((await client.unary(Health.method.check, { service: '' }, CALL)).status, Status.SERVING);
  await until(/^READY=1$/m);
  await until(/^WATCHDOG=1$/m);
  assert.equal(await service.stop(), 0);
  await until(/^STOPPING=1$/m);
});

/** A datagram socket that prints what it gets, as systemd has one. */
const MANAGER = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print('bound', flush=True)
while True:
    print(s.recv(4096).decode(), flush=True)
`;

/** Becomes the program after it, with a listening socket as descriptor 3 and what systemd says of it. */
const ACTIVATE = `
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen()
os.dup2(s.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', LISTEN_FDNAMES='grpc',
                  NOTIFY_SOCKET=sys.argv[2], WATCHDOG_USEC='200000')
os.execvp(sys.argv[3], sys.argv[3:])
`;

test('the configuration file, and its mistakes', async (t) => {
  const service = openService(t);
  if (service === null) return;
  const file = service.path('config.toml');
  writeFileSync(
    file,
    `root = "${service.path('elsewhere')}"\naddress = "${service.address}"\nmetrics = "127.0.0.1:0"\n`,
  );
  await service.start(['serve', '--config', file]);
  assert.ok(existsSync(service.path('elsewhere/containerd/snapshots.db')));
  assert.equal(existsSync(service.path('run/metrics.sock')), false);
  assert.equal(await service.stop(), 0);
  writeFileSync(file, 'adress = "/x"\n');
  const wrong = await runVeneer(['serve', '--config', file]);
  assert.equal(wrong.code, 2);
  assert.match(wrong.stderr, /adress: there is no such key/);
});

test('--print-containerd-config', async () => {
  const { code, text } = await runVeneer([
    'serve',
    '--print-containerd-config',
    '--containerd-version',
    '2.1.9',
  ]);
  assert.equal(code, 0);
  assert.match(text, /^\[proxy_plugins\.veneer\]$/m);
  const json = await runVeneer([
    'serve',
    '--print-containerd-config',
    '--containerd-version',
    '1.7.24',
    '--json',
  ]);
  assert.match((JSON.parse(json.text) as { config: string }).config, /io\.containerd\.grpc\.v1\.cri/);
  const old = await runVeneer(['serve', '--print-containerd-config', '--containerd-version', '1.6']);
  assert.equal(old.code, 2);
});
