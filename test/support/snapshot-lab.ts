/** Our snapshotter in this process, asked over its socket as containerd asks it; mounts applied as containerd applies them. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import {
  create,
  type DescMessage,
  type DescMethod,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import { Client, credentials, type ServiceError, status } from '@grpc/grpc-js';
import { pino } from 'pino';
import { Daemon } from '../../src/containerd/daemon.ts';
import { type Info, type Kind, Snapshots } from '../../src/containerd/gen/snapshots_pb.ts';
import type { Mount } from '../../src/containerd/gen/types_pb.ts';
import { readServeConfig, type ServeOverrides } from '../../src/containerd/serve-config.ts';
import { mayMount } from '../../src/mount/index.ts';
import { MS, mountOld } from '../../src/sys/mount-api.ts';
import { cleanEnv, LAUNCHER } from '../e2e/run-veneer.ts';
import { missing } from './require-tool.ts';

export type Labels = Readonly<Record<string, string>>;

export interface LabPlace {
  /** Where everything is; default: a new temporary folder. */
  readonly directory?: string;
  /** A process of its own, which can be killed, and which makes everything durable. */
  readonly apart?: boolean;
}

/** Null, and the test skipped, where nothing can be mounted. */
export async function openSnapshotLab(
  t: TestContext,
  overrides: ServeOverrides = {},
  place: LabPlace = {},
): Promise<SnapshotLab | null> {
  if (!mayMount()) {
    missing(t, 'mounting needs root');
    return null;
  }
  const lab = new SnapshotLab(overrides, place);
  t.after(() => lab.close());
  await lab.start();
  return lab;
}

export class SnapshotLab {
  readonly directory: string;
  readonly root: string;
  readonly address: string;
  readonly #apart: boolean;
  #overrides: ServeOverrides;
  #child: ChildProcess | null = null;
  readonly #mounted = new Set<string>();
  #daemon: Daemon | null = null;
  #client: Client | null = null;
  #counter = 0;

  constructor(overrides: ServeOverrides = {}, { directory, apart = false }: LabPlace = {}) {
    this.directory =
      directory ?? mkdtempSync(join(process.env.VENEER_TEST_TMP ?? tmpdir(), 'veneer-snapshots-'));
    this.#apart = apart;
    this.root = join(this.directory, 'root');
    this.address = join(this.directory, 'veneer.sock');
    this.#overrides = overrides;
  }

  async start(): Promise<void> {
    const settings = {
      root: this.root,
      address: this.address,
      containerd: join(this.directory, 'no-containerd.sock'),
      ...this.#overrides,
    };
    if (this.#apart) await this.#spawn(settings);
    else {
      const config = { ...readServeConfig(null, settings), root: this.root };
      const log = pino({ level: 'silent' });
      this.#daemon = await Daemon.start({ config, log, env: {}, fsync: false });
    }
    this.#client = new Client(`unix:${this.address}`, credentials.createInsecure(), {
      'grpc.default_authority': 'localhost',
    });
  }

  async #spawn(settings: ServeOverrides): Promise<void> {
    const words = Object.entries(settings).flatMap(([key, value]) => [
      `--${key.replaceAll('_', '-')}`,
      String(value),
    ]);
    const child = spawn(process.execPath, [LAUNCHER, 'serve', ...words], {
      env: cleanEnv(),
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.#child = child;
    let log = '';
    await new Promise<void>((resolve, reject) => {
      child.stderr.on('data', (chunk: Buffer) => {
        log += chunk.toString();
        if (log.includes('"serving"')) resolve();
      });
      child.once('exit', () => reject(new Error(`veneer serve does not start: ${log}`)));
    });
  }

  /** SIGKILL is a crash: what it held and mounted stays as it is. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<number | null> {
    this.#client?.close();
    const child = this.#child;
    this.#child = null;
    if (child === null || child.exitCode !== null) return child?.exitCode ?? null;
    const exit = once(child, 'exit');
    child.kill(signal);
    return (await exit)[0] as number | null;
  }

  async stop(): Promise<void> {
    this.#client?.close();
    await this.kill('SIGTERM');
    await this.#daemon?.stop();
    this.#daemon = null;
  }

  /** Another daemon over the same store, set up as before or otherwise. */
  async restart(overrides = this.#overrides): Promise<void> {
    await this.stop();
    this.#overrides = overrides;
    await this.start();
  }

  async close(): Promise<void> {
    for (const target of this.#mounted) this.unmount(target);
    await this.stop();
    this.unmountAll();
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** A folder that does not exist yet. */
  folder(name: string): string {
    const path = join(this.directory, `${this.#counter++}-${name}`);
    mkdirSync(path);
    return path;
  }

  prepare(key: string, parent = '', labels: Labels = {}): Promise<Mount[]> {
    return this.call(Snapshots.method.prepare, { key, parent, labels }).then(({ mounts }) => mounts);
  }

  view(key: string, parent = '', labels: Labels = {}): Promise<Mount[]> {
    return this.call(Snapshots.method.view, { key, parent, labels }).then(({ mounts }) => mounts);
  }

  mounts(key: string): Promise<Mount[]> {
    return this.call(Snapshots.method.mounts, { key }).then(({ mounts }) => mounts);
  }

  async commit(name: string, key: string, labels: Labels = {}, parent = ''): Promise<void> {
    await this.call(Snapshots.method.commit, { name, key, labels, parent });
  }

  async remove(key: string): Promise<void> {
    await this.call(Snapshots.method.remove, { key });
  }

  async stat(key: string): Promise<Info> {
    return (await this.call(Snapshots.method.stat, { key })).info!;
  }

  async update(info: { name: string; parent?: string; labels: Labels }, ...paths: string[]): Promise<Info> {
    return (await this.call(Snapshots.method.update, { info, updateMask: { paths } })).info!;
  }

  usage(key: string): Promise<{ size: bigint; inodes: bigint }> {
    return this.call(Snapshots.method.usage, { key });
  }

  async cleanup(): Promise<void> {
    await this.call(Snapshots.method.cleanup, {});
  }

  async *walk(...filters: string[]): AsyncGenerator<Info> {
    const { list } = Snapshots.method;
    const stream = this.#client!.makeServerStreamRequest(
      pathOf(list),
      (message: MessageShape<typeof list.input>) => Buffer.from(toBinary(list.input, message)),
      (bytes: Buffer) => fromBinary(list.output, bytes),
      create(list.input, { filters }),
    );
    for await (const { info } of stream as AsyncIterable<{ info: Info[] }>) yield* info;
  }

  async infos(...filters: string[]): Promise<Info[]> {
    const infos: Info[] = [];
    for await (const info of this.walk(...filters)) infos.push(info);
    return infos;
  }

  async names(...filters: string[]): Promise<string[]> {
    return (await this.infos(...filters)).map(({ name }) => name).sort();
  }

  async kindOf(key: string): Promise<Kind> {
    return (await this.stat(key)).kind;
  }

  /** Mounts what the snapshotter gave, as containerd's mount.All does: by mount(2), for binds in two steps. */
  mount(mounts: readonly Mount[], target: string): string {
    for (const { type, source, options } of mounts) {
      if (type === 'bind') execFileSync('mount', ['--rbind', '-o', options.join(','), source, target]);
      else {
        const data = options.filter((option) => option !== 'ro').join(',');
        mountOld(source, target, type, options.includes('ro') ? MS.RDONLY : 0, data);
      }
      this.#mounted.add(target);
    }
    return target;
  }

  /** Mount points below the lab's folder. */
  mountPoints(): string[] {
    const all = execFileSync('findmnt', ['-rno', 'TARGET'], { encoding: 'utf8' }).split('\n');
    return all.filter((path) => path.startsWith(`${this.directory}/`));
  }

  /** As the end of the machine does. */
  unmountAll(): void {
    for (const target of this.mountPoints().reverse()) execFileSync('umount', ['--lazy', target]);
    this.#mounted.clear();
  }

  unmount(target: string): void {
    execFileSync('umount', [target]);
    this.#mounted.delete(target);
  }

  /** Mounts, works, unmounts. */
  async within<T>(mounts: readonly Mount[], work: (path: string) => T | Promise<T>): Promise<T> {
    const target = this.mount(mounts, this.folder('mount'));
    try {
      return await work(target);
    } finally {
      this.unmount(target);
    }
  }

  /** A committed snapshot of what `change` does over `parent`. */
  async layer(name: string, parent: string, change: (path: string) => void): Promise<string> {
    const mounts = await this.prepare(`${name}-active`, parent);
    await this.within(mounts, change);
    await this.commit(name, `${name}-active`);
    return name;
  }

  /** Any unary method of the daemon. */
  call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
  ): Promise<MessageShape<O>> {
    return new Promise((resolve, reject) => {
      this.#client!.makeUnaryRequest(
        pathOf(method),
        (message: MessageShape<I>) => Buffer.from(toBinary(method.input, message)),
        (bytes: Buffer) => fromBinary(method.output, bytes),
        create(method.input, request),
        (error: ServiceError | null, value?: MessageShape<O>) =>
          error === null ? resolve(value!) : reject(error),
      );
    });
  }
}

const pathOf = (method: DescMethod): string => `/${method.parent.typeName}/${method.name}`;

/** True for an error with this gRPC status, and text if given; for `assert.rejects`. */
export function withStatus(code: status, pattern = /./): (error: unknown) => boolean {
  return (error) => {
    const { code: found, details } = error as ServiceError;
    assert.equal(status[found], status[code], details);
    assert.match(details, pattern);
    return true;
  };
}
