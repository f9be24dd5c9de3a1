/** containerd as a peer: a daemon of its own in its own mount namespace, with an empty root every time. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { TOOLS } from './inputs.ts';

export type Snapshotter = 'erofs' | 'overlayfs';

export class Containerd {
  readonly socket: string;
  private readonly directory: string;
  private readonly snapshotter: Snapshotter;
  private child: ChildProcess | null = null;

  constructor(directory: string, snapshotter: Snapshotter) {
    this.directory = directory;
    this.snapshotter = snapshotter;
    this.socket = join(directory, 'containerd.sock');
  }

  /** The command line that imports and unpacks an OCI archive; the daemon does the work. */
  importCommand(archive: string): string[] {
    return [
      join(TOOLS, 'ctr'),
      '-a',
      this.socket,
      'images',
      'import',
      '--snapshotter',
      this.snapshotter,
      archive,
    ];
  }

  async start(): Promise<void> {
    rmSync(this.directory, { recursive: true, force: true });
    mkdirSync(this.directory, { recursive: true });
    const config = join(this.directory, 'config.toml');
    const differs = this.snapshotter === 'erofs' ? '["erofs", "walking"]' : '["walking"]';
    writeFileSync(
      config,
      `version = 3
root = "${this.directory}/root"
state = "${this.directory}/state"
disabled_plugins = ["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri", "io.containerd.nri.v1.nri"]
[grpc]
  address = "${this.socket}"
[plugins.'io.containerd.service.v1.diff-service']
  default = ${differs}
[[plugins.'io.containerd.transfer.v1.local'.unpack_config]]
  platform = "linux/amd64"
  snapshotter = "${this.snapshotter}"
  differ = "${this.snapshotter === 'erofs' ? 'erofs' : 'walking'}"
`,
    );
    const log = openSync(join(this.directory, 'log'), 'w');
    // In a mount namespace of its own: whatever it mounts is gone when it ends.
    this.child = spawn(
      'unshare',
      ['--mount', '--propagation', 'private', join(TOOLS, 'containerd'), '-c', config],
      { stdio: ['ignore', log, log], env: { ...process.env, PATH: `${TOOLS}:${process.env.PATH}` } },
    );
    closeSync(log);
    for (let tries = 0; ; tries++) {
      if (existsSync(this.socket)) {
        try {
          execFileSync(join(TOOLS, 'ctr'), ['-a', this.socket, 'plugins', 'ls', '-q'], { stdio: 'ignore' });
          return;
        } catch (error) {
          if (tries > 100) throw error;
        }
      }
      if (tries > 100 || this.child.exitCode !== null) throw new Error('containerd does not start');
      await sleep(100);
    }
  }

  async stop(): Promise<void> {
    const child = this.child;
    this.child = null;
    if (child !== null && child.exitCode === null) {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGTERM');
      await ended;
    }
    rmSync(this.directory, { recursive: true, force: true });
  }
}
