/**
 * Real containerd, old and new, with our daemon as its snapshotter and differ: own root, state, sockets, cgroups and
 * mounts, all below one folder and gone with it.
 *
 * The programs run in mount namespaces of their own (enter-lab.sh); the folder is a shared mount, so that they see
 * what our daemon mounts on the host below it.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { cleanEnv, LAUNCHER, type Ran, run } from '../e2e/run-veneer.ts';
import { describe, layoutFiles, type TestImage, writeFiles } from './images.ts';
import { missing } from './require-tool.ts';

export type ContainerdVersion = '2' | '1.7';
export const CONTAINERD_VERSIONS: readonly ContainerdVersion[] = ['2', '1.7'];

const PROJECT = fileURLToPath(new URL('../..', import.meta.url));
const TOOLS = process.env.VENEER_TOOLS ?? join(PROJECT, '.cache/tools');
const ENTER = fileURLToPath(new URL('./enter-lab.sh', import.meta.url));
/** Inside a lab, /usr is another Debian's. */
const INSIDE_PATH = '/usr/sbin:/usr/bin';
const START_SECONDS = 30;
/** Our daemon sweeps a moment after the last removal. */
const EMPTY_SECONDS = 30;

export interface ListedSnapshot {
  readonly name: string;
  readonly parent: string;
  readonly kind: string;
}

export interface LabOptions {
  /** More words for `veneer serve`; null: it is not started. */
  readonly serve?: readonly string[] | null;
  /** containerd unpacks with its own snapshotter, and our daemon is not there. */
  readonly peer?: Peer;
  /** The folder; default: a new one. It is removed in the end, and made again by the next start. */
  readonly directory?: string;
  /** Where our daemon keeps all it has; default: below the lab's folder. Elsewhere it must be on a shared mount. */
  readonly root?: string;
}

/** containerd's own snapshotters, for comparison. */
export type Peer = 'erofs' | 'overlayfs';

/** Null, and the test skipped, where there is no such containerd or no root. */
export async function openContainerdLab(
  t: TestContext,
  version: ContainerdVersion,
  options: LabOptions = {},
): Promise<ContainerdLab | null> {
  if (process.getuid?.() !== 0) missing(t, 'containerd needs root');
  else if (!existsSync(usrOf(version))) missing(t, `scripts/tools.sh containerd-${version} was not run`);
  else {
    const lab = new ContainerdLab(version, options);
    t.after(() => lab.close());
    await lab.start();
    return lab;
  }
  return null;
}

const usrOf = (version: ContainerdVersion): string => join(TOOLS, `containerd-${version}`, 'usr');

export class ContainerdLab {
  readonly directory: string;
  /** Of our daemon: its store and snapshots. */
  readonly root: string;
  readonly socket: string;
  readonly namespace: string;
  readonly version: ContainerdVersion;
  readonly #options: LabOptions;
  #containerd: ChildProcess | null = null;
  #veneer: ChildProcess | null = null;
  #looks = 0;

  constructor(version: ContainerdVersion, options: LabOptions = {}) {
    this.version = version;
    this.#options = options;
    this.directory = options.directory ?? mkdtempSync(join(tmpdir(), 'veneer-ctrd-'));
    this.root = options.root ?? this.path('veneer');
    this.socket = this.path('containerd.sock');
    // Names cgroups, too, which are the machine's.
    this.namespace = basename(this.directory);
  }

  #prepare(): void {
    mkdirSync(this.directory, { recursive: true });
    this.#share();
    mkdirSync(this.path('run'), { recursive: true });
    mkdirSync(this.root, { recursive: true });
    writeFileSync(this.path('config.toml'), this.#config());
  }

  path(...parts: string[]): string {
    return join(this.directory, ...parts);
  }

  #config(): string {
    const stanza = this.path('snapshotter.toml');
    const { peer } = this.#options;
    writeFileSync(stanza, peer === undefined ? this.#printedStanza() : peerStanza(peer));
    return `version = ${this.version === '2' ? 3 : 2}
root = "${this.path('containerd')}"
state = "${this.path('run/containerd')}"
imports = ["${stanza}"]
disabled_plugins = ["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri", "io.containerd.nri.v1.nri"]
[grpc]
  address = "${this.socket}"
`;
  }

  /** What the program itself prints is what is tried out. */
  #printedStanza(): Buffer {
    const version = { '2': '2.1.9', '1.7': '1.7.24' }[this.version];
    const words = ['serve', '--print-containerd-config', '--containerd-version', version];
    words.push('--address', this.path('veneer.sock'));
    return execFileSync(process.execPath, [LAUNCHER, ...words], { env: cleanEnv() });
  }

  /** Starts what belongs to it, for the first time or after {@link lose}. */
  async start(): Promise<void> {
    if (!existsSync(this.path('config.toml'))) this.#prepare();
    else this.#share();
    if (this.#options.serve !== null && this.#options.peer === undefined) await this.startVeneer();
    await this.startContainerd();
  }

  async startContainerd(): Promise<void> {
    const words = this.#inside('containerd', '--config', this.path('config.toml'));
    const child = this.#spawn('sh', words, 'containerd.log', { PATH: INSIDE_PATH });
    this.#containerd = child;
    await this.#until(child, 'containerd.log', async () => {
      if (!existsSync(this.socket)) return false;
      return (await this.#runCtr(['version'])).code === 0;
    });
  }

  /** SIGKILL leaves containers and mounts as they are, as a crash does. */
  async stopContainerd(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await end(this.#containerd, signal);
    this.#containerd = null;
    rmSync(this.socket, { force: true });
  }

  async startVeneer(): Promise<void> {
    const address = this.path('veneer.sock');
    rmSync(address, { force: true });
    const words = [LAUNCHER, 'serve', '--root', this.root, '--address', address];
    words.push('--containerd', this.socket, ...(this.#options.serve ?? []));
    const child = this.#spawn(process.execPath, words, 'veneer.log', cleanEnv());
    this.#veneer = child;
    await this.#until(child, 'veneer.log', async () => existsSync(address));
  }

  async stopVeneer(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await end(this.#veneer, signal);
    this.#veneer = null;
  }

  /** Process id of our daemon. */
  get veneerPid(): number {
    return this.#veneer!.pid!;
  }

  log(name: 'containerd' | 'veneer'): string {
    return readFileSync(this.path(`${name}.log`), 'utf8');
  }

  /** Runs ctr; throws when it fails. */
  async ctr(...words: string[]): Promise<string> {
    const ran = await this.tryCtr(...words);
    if (ran.code !== 0) {
      throw new Error(
        `ctr ${words.join(' ')} ended with ${ran.code ?? ran.signal}: ${ran.stderr}${ran.text}`,
      );
    }
    return ran.text;
  }

  tryCtr(...words: string[]): Promise<Ran> {
    return this.#runCtr(words);
  }

  /** Imports an image under a full name, such as `example.org/image:1`; more words go to `ctr images import`. */
  async importImage(image: TestImage, name: string, ...words: string[]): Promise<void> {
    const layout = this.path(`layout-${name.replaceAll(/[^\w]/g, '-')}`);
    const annotations = { 'io.containerd.image.name': name };
    const index = { schemaVersion: 2, manifests: [{ ...describe(image.manifest), annotations }] };
    await writeFiles(layout, layoutFiles(index, [image.manifest, image.config, ...image.layers]));
    await this.importLayout(layout, ...words);
    rmSync(layout, { recursive: true });
  }

  async importLayout(layout: string, ...words: string[]): Promise<void> {
    const tar = `${layout.replace(/\/$/, '')}.tar`;
    const archive = tar.startsWith(this.directory) ? tar : this.path(basename(tar));
    execFileSync('tar', ['-C', layout, '-cf', archive, '.']);
    await this.ctr('images', 'import', ...words, archive);
    rmSync(archive);
  }

  /** The snapshots of a snapshotter, as `ctr snapshots ls` lists them. */
  async snapshots(snapshotter = 'veneer'): Promise<ListedSnapshot[]> {
    const lines = (await this.ctr('snapshots', '--snapshotter', snapshotter, 'ls')).split('\n').slice(1);
    return lines
      .filter((line) => line !== '')
      .map((line) => {
        const words = line.trim().split(/\s+/);
        return { name: words[0]!, parent: words.length === 3 ? words[1]! : '', kind: words.at(-1)! };
      });
  }

  /** Mounts a view of a committed snapshot on the host, as a client of containerd does it, and calls `use`. */
  async viewed<T>(snapshotter: string, name: string, use: (directory: string) => Promise<T>): Promise<T> {
    const key = `look-${this.#looks++}`;
    const directory = this.path(key);
    mkdirSync(directory);
    const words = ['snapshots', '--snapshotter', snapshotter];
    // Nothing refers to a view: containerd collects it, unless it is told in time that it must not.
    for (let tries = 0; ; tries++) {
      await this.ctr(...words, 'view', key, name);
      const kept = await this.tryCtr(...words, 'label', key, 'containerd.io/gc.root=look');
      if (kept.code === 0) break;
      if (tries === 5) throw new Error(`a view vanishes each time: ${kept.stderr}`);
    }
    // It prints what would have to be run.
    execFileSync('sh', ['-ec', await this.ctr(...words, 'mounts', directory, key)]);
    try {
      return await use(directory);
    } finally {
      execFileSync('umount', [directory]);
      await this.ctr(...words, 'rm', key);
    }
  }

  /** Waits until our daemon has removed what nobody needs; throws when something stays. */
  async untilEmpty(): Promise<void> {
    const limit = Date.now() + EMPTY_SECONDS * 1000;
    for (;;) {
      const left = this.leftovers();
      if (left.length === 0) return;
      if (Date.now() > limit) throw new Error(`this is left:\n${left.join('\n')}`);
      await delay(100);
    }
  }

  /** What stands in our daemon's folders of layers, chains and snapshots, and is mounted from there. */
  leftovers(): string[] {
    const rooms = [
      'layers',
      'chains',
      'holds',
      'leases',
      'tmp/downloads',
      'containerd/snapshots',
      'containerd/chains',
    ];
    const files = rooms.flatMap((room) => {
      const path = join(this.root, room);
      return existsSync(path) ? readdirSync(path).map((name) => `${room}/${name}`) : [];
    });
    const work = readdirSync(join(this.root, 'tmp')).filter((name) => /^work-[^.]*$/.test(name));
    for (const name of work) {
      files.push(...readdirSync(join(this.root, 'tmp', name)).map((file) => `tmp/${name}/${file}`));
    }
    const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
    return [...files, ...mounts.filter((line) => line.includes(` ${this.root}/`))];
  }

  /** The command line of a call of ctr. */
  ctrCommand(...words: string[]): string[] {
    const ctr = ['ctr', '--address', this.socket, '--namespace', this.namespace];
    return ['sh', ...this.#inside(...ctr, ...words)];
  }

  /** Kills everybody at once, and forgets all mounts: what a machine without power does. */
  async lose(): Promise<void> {
    await Promise.all([this.stopContainerd('SIGKILL'), this.stopVeneer('SIGKILL')]);
    this.#killShims();
    execFileSync('umount', ['--recursive', '--lazy', this.directory]);
  }

  /** Ends everything, containers too, and removes all traces. */
  async close(): Promise<void> {
    if (this.#containerd !== null) {
      for (const id of await this.#list('tasks', 'ls', '-q'))
        await this.tryCtr('tasks', 'kill', '-s', 'SIGKILL', id);
      for (const id of await this.#list('tasks', 'ls', '-q')) await this.tryCtr('tasks', 'rm', '-f', id);
    }
    await this.stopContainerd();
    await this.stopVeneer();
    this.#killShims();
    // Mounts made inside went with their namespaces; these are our daemon's.
    if (existsSync(this.path('config.toml')))
      execFileSync('umount', ['--recursive', '--lazy', this.directory]);
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 5 });
    removeCgroups(this.namespace);
  }

  #share(): void {
    execFileSync('mount', ['--bind', this.directory, this.directory]);
    execFileSync('mount', ['--make-rshared', this.directory]);
  }

  async #list(...words: string[]): Promise<string[]> {
    return (await this.tryCtr(...words)).text.split('\n').filter((line) => line !== '');
  }

  /** Shims outlive containerd on purpose. Ours carry the lab's folder in their command line. */
  #killShims(): void {
    for (const pid of readdirSync('/proc')) {
      if (!/^\d+$/.test(pid)) continue;
      try {
        const words = readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0');
        if (words[0]?.includes('containerd-shim') && words.includes(this.namespace))
          process.kill(Number(pid), 'SIGKILL');
      } catch {
        // It ended meanwhile.
      }
    }
  }

  #runCtr(words: readonly string[]): Promise<Ran> {
    const [program, ...rest] = this.ctrCommand(...words);
    return run(program!, rest, { env: { PATH: process.env.PATH } });
  }

  #inside(...words: string[]): string[] {
    return [ENTER, usrOf(this.version), this.path('run'), ...words];
  }

  #spawn(program: string, words: readonly string[], log: string, env: NodeJS.ProcessEnv): ChildProcess {
    const fd = openSync(this.path(log), 'a');
    try {
      return spawn(program, words, { stdio: ['ignore', fd, fd], env });
    } finally {
      closeSync(fd);
    }
  }

  async #until(child: ChildProcess, log: string, up: () => Promise<boolean>): Promise<void> {
    const limit = Date.now() + START_SECONDS * 1000;
    while (!(await up())) {
      if (Date.now() > limit || child.exitCode !== null || child.signalCode !== null) {
        throw new Error(`it does not start:\n${readFileSync(this.path(log), 'utf8').slice(-3000)}`);
      }
      await delay(50);
    }
  }
}

function peerStanza(peer: Peer): string {
  const differs = peer === 'erofs' ? '["erofs", "walking"]' : '["walking"]';
  return `version = 3
[plugins.'io.containerd.service.v1.diff-service']
  default = ${differs}
[[plugins.'io.containerd.transfer.v1.local'.unpack_config]]
  platform = "linux/amd64"
  snapshotter = "${peer}"
  differ = "${peer === 'erofs' ? 'erofs' : 'walking'}"
`;
}

async function end(child: ChildProcess | null, signal: NodeJS.Signals): Promise<void> {
  if (child === null || child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill(signal);
  await ended;
}

function removeCgroups(name: string): void {
  for (const hierarchy of readdirSync('/sys/fs/cgroup')) {
    try {
      rmdirSync(join('/sys/fs/cgroup', hierarchy, name));
    } catch {
      // This hierarchy never had it.
    }
  }
}
