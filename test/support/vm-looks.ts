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

/** Builds one guest script: mounts, and looks at them; then runs it and hands out what was seen. */
export class GuestLooks {
  private readonly directory: string;
  private readonly lines: string[] = [];
  private readonly looks: { do: 'snapshot'; dir: string; content: ContentMode }[] = [];
  private places = 0;

  /** `directory`: of this machine, for the script's own files. */
  constructor(directory: string) {
    this.directory = directory;
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
    const all = ['ro', 'loop', ...options].join(',');
    this.lines.push(
      `mkdir ${outside}; mount -t ${type} -o ${all} '${this.host(path)}' ${outside} || fail '${path}'`,
    );
    return inside;
  }

  /** Lowest first. */
  overlay(lowers: readonly string[]): string {
    const { inside, outside } = this.place();
    const below = lowers.length === 1 ? [this.empty(), ...lowers] : lowers;
    const lowerdir = below
      .toReversed()
      .map((path) => `${HOST}${path}`)
      .join(':');
    const options = `ro,metacopy=on,redirect_dir=follow,lowerdir=${lowerdir}`;
    this.lines.push(`mkdir ${outside}; mount -t overlay -o ${options} overlay ${outside} || fail overlay`);
    return inside;
  }

  private empty(): string {
    const { inside, outside } = this.place();
    this.lines.push(`mkdir ${outside}`);
    return inside;
  }

  /** Remembers to look at a directory; returns the number of the look. */
  look(dir: string, content: ContentMode): number {
    return this.looks.push({ do: 'snapshot', dir, content }) - 1;
  }

  /** Boots and returns what was printed, and what each look has seen. */
  async boot(
    kernel: VmKernel,
    options: { timeout: number; memory?: number },
  ): Promise<{ output: string; snapshots: Snapshot[] }> {
    const commands = join(this.directory, `looks-${kernel}`);
    writeFileSync(commands, this.looks.map((look) => `${JSON.stringify(look)}\n`).join(''));
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
    if (answers.length !== this.looks.length)
      throw new Error(`${answers.length} of ${this.looks.length} looks`);
    return Promise.all(
      answers.map(({ rows: seenRows, error }, i) => {
        if (error !== undefined) throw new Error(`cannot look at ${this.looks[i]!.dir}: ${error}`);
        const replay = {
          ask: async (_: unknown, onRow: (row: unknown[]) => void = () => {}) => seenRows.forEach(onRow),
        };
        return snapshotDirectory(replay, '');
      }),
    );
  }
}
