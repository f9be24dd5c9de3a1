/**
 * Looks at mounts inside a guest, with the oracle process of this machine: the guest sees this machine's files
 * read-only below /share/0 and changes its root to there.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ContentMode } from './oracle.ts';
import { type Snapshot, snapshotDirectory } from './tree-snapshot.ts';
import { runVm, type VmKernel } from './vm.ts';

const ORACLE = fileURLToPath(new URL('./oracle', import.meta.url));
const HOST = '/share/0';
const MARK = '== looks';

interface Look {
  readonly do: 'snapshot';
  readonly dir: string;
  readonly content: ContentMode;
}

interface MountCall {
  readonly do: 'mount-old';
  readonly type: string;
  readonly path: string | null;
  readonly target: string;
  readonly options: readonly string[];
}

/** Builds one guest script: mounts, and looks at them; then runs it and hands out what was seen. */
export class GuestLooks {
  private readonly directory: string;
  private readonly byCalls: boolean;
  private readonly lines: string[] = [];
  /** For the oracle process, in order. */
  private readonly commands: (Look | MountCall)[] = [];
  private looks = 0;
  private places = 0;

  /**
   * `directory`: of this machine, for the script's own files. `by`: mount(8), as a user does, or the system calls
   * alone: in an emulated machine a program takes half a second to start, and hundreds of mounts minutes.
   */
  constructor(directory: string, by: 'mount(8)' | 'mount(2)' = 'mount(8)') {
    this.directory = directory;
    this.byCalls = by === 'mount(2)';
  }

  /** A new empty directory of the guest, as both roots call it. */
  private place(): { inside: string; outside: string } {
    const inside = `/mnt/${this.places++}`;
    return { inside, outside: `${HOST}${inside}` };
  }

  /** Any commands, in the guest's own root; they see this machine's files below {@link host}. */
  run(line: string): void {
    this.lines.push(line);
  }

  host(path: string): string {
    return `${HOST}${path}`;
  }

  /** Mounts a file of this machine through a loop device; returns the directory. */
  mount(type: 'udf' | 'erofs', path: string, options: readonly string[] = []): string {
    const { inside, outside } = this.place();
    if (this.byCalls) {
      this.commands.push({ do: 'mount-old', type, path, target: inside, options });
      return inside;
    }
    const all = ['ro', 'loop', ...options].join(',');
    this.lines.push(
      `mkdir ${outside}; mount -t ${type} -o ${all} '${this.host(path)}' ${outside} || fail '${path}'`,
    );
    return inside;
  }

  /** Lowest first. */
  overlay(lowers: readonly string[]): string {
    const { inside, outside } = this.place();
    const below = (lowers.length === 1 ? [this.empty(), ...lowers] : lowers).toReversed();
    const options = (root: string): string[] => [
      'metacopy=on',
      'redirect_dir=follow',
      `lowerdir=${below.map((path) => root + path).join(':')}`,
    ];
    if (this.byCalls) {
      const call = {
        do: 'mount-old',
        type: 'overlay',
        path: null,
        target: inside,
        options: options(''),
      } as const;
      this.commands.push(call);
      return inside;
    }
    const words = ['ro', ...options(HOST)].join(',');
    this.lines.push(`mkdir ${outside}; mount -t overlay -o ${words} overlay ${outside} || fail overlay`);
    return inside;
  }

  private empty(): string {
    const { inside, outside } = this.place();
    this.lines.push(`mkdir ${outside}`);
    return inside;
  }

  /** Remembers to look at a directory; returns the number of the look. */
  look(dir: string, content: ContentMode): number {
    this.commands.push({ do: 'snapshot', dir, content });
    return this.looks++;
  }

  /** Boots and returns what was printed, and what each look has seen. */
  async boot(
    kernel: VmKernel,
    options: { timeout: number; memory?: number },
  ): Promise<{ output: string; snapshots: Snapshot[] }> {
    const commands = join(this.directory, `looks-${kernel}`);
    writeFileSync(commands, this.commands.map((command) => `${JSON.stringify(command)}\n`).join(''));
    const script = [
      `fail() { echo "cannot mount $1"; dmesg | tail -3; }`,
      `for d in proc sys dev; do mount --rbind /$d ${HOST}/$d; done`,
      `mount -t tmpfs none ${HOST}/mnt; mount -t tmpfs none ${HOST}/run`,
      ...this.lines,
      `echo '${MARK}'`,
      `chroot ${HOST} /usr/bin/env PYTHONUTF8=1 python3 -B '${ORACLE}' < '${this.host(commands)}'`,
    ].join('\n');
    const { status, output } = await runVm({
      kernel,
      script,
      shares: [{ path: '/' }],
      memory: options.memory ?? 1024,
      timeout: options.timeout,
    });
    const [said = '', seen = ''] = output.split(`${MARK}\n`);
    if (status !== 0) throw new Error(`the guest ended with ${status}:\n${said}\n${seen.slice(-2000)}`);
    return { output: said, snapshots: await this.parse(seen) };
  }

  private async parse(seen: string): Promise<Snapshot[]> {
    const answers: { rows: unknown[][]; error: string | undefined }[] = [];
    let rows: unknown[][] = [];
    for (const line of seen.split('\n')) {
      if (line === '') continue;
      const message = JSON.parse(line) as unknown[] | { error?: string };
      if (Array.isArray(message)) rows.push(message);
      else {
        answers.push({ rows, error: message.error });
        rows = [];
      }
    }
    if (answers.length !== this.commands.length)
      throw new Error(`${answers.length} of ${this.commands.length} answers`);
    return Promise.all(
      answers.flatMap(({ rows: seenRows, error }, i) => {
        const command = this.commands[i]!;
        if (error !== undefined) throw new Error(`cannot ${JSON.stringify(command)}: ${error}`);
        if (command.do !== 'snapshot') return [];
        const replay = {
          ask: async (_: unknown, onRow: (row: unknown[]) => void = () => {}) => seenRows.forEach(onRow),
        };
        return [snapshotDirectory(replay, '')];
      }),
    );
  }
}
