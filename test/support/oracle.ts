/**
 * The oracle process (test/support/oracle, Python with nothing but its standard
 * library): it looks at mounted trees, mounts, and unpacks layers with GNU tar.
 * One process serves many requests, one at a time.
 */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const PROGRAM = fileURLToPath(new URL('./oracle', import.meta.url));

/** Attributes of directories that no layer names. */
export interface ImpliedAttributes {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Seconds since the epoch. */
  readonly mtime: number;
}

/**
 * How file content is compared: all bytes hashed, only blocks that are not zero (for files of
 * terabytes; offsets count), or not at all.
 */
export type ContentMode = 'all' | 'sparse' | 'none';

/** What the oracle process understands; byte strings in, byte strings out. */
export type OracleCommand =
  | { readonly do: 'snapshot'; readonly dir: string; readonly content: ContentMode }
  | {
      readonly do: 'mount';
      readonly type: string;
      readonly target: string;
      readonly source?: string;
      /** Mount options in order; null for a flag. */
      readonly options?: ReadonlyArray<readonly [string, string | null]>;
      readonly readonly?: boolean;
    }
  | { readonly do: 'umount'; readonly target: string }
  | {
      readonly do: 'unpack';
      /** Paths of the layer tars, lowest first. */
      readonly layers: readonly string[];
      readonly into: string;
      readonly implied: ImpliedAttributes;
    };

interface Pending {
  readonly onRow: (row: unknown[]) => void;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

export class Oracle {
  private readonly child: ChildProcessWithoutNullStreams;
  private pending: Pending | null = null;
  private tail: Promise<unknown> = Promise.resolve();

  constructor() {
    this.child = spawn('python3', ['-B', PROGRAM], { env: { ...process.env, PYTHONUTF8: '1' } });
    this.child.stderr.pipe(process.stderr);
    createInterface({ input: this.child.stdout }).on('line', (line) => this.receive(line));
    this.child.on('close', () => {
      this.pending?.reject(new Error('the oracle process ended'));
      this.pending = null;
    });
  }

  private receive(line: string): void {
    const message: unknown = JSON.parse(line);
    const pending = this.pending;
    if (pending === null) throw new Error(`the oracle process said ${line} unasked`);
    if (Array.isArray(message)) {
      pending.onRow(message);
      return;
    }
    this.pending = null;
    const reply = message as { ok?: unknown; error?: string };
    if (reply.error === undefined) pending.resolve(reply.ok);
    else pending.reject(new Error(reply.error));
  }

  /** Sends one command when those before it are answered; rows of a long answer go to `onRow`. */
  ask(command: OracleCommand, onRow: (row: unknown[]) => void = () => {}): Promise<unknown> {
    const answer = this.tail.then(
      () =>
        new Promise<unknown>((resolve, reject) => {
          this.pending = { onRow, resolve, reject };
          this.child.stdin.write(`${JSON.stringify(command)}\n`);
        }),
    );
    this.tail = answer.catch(() => {});
    return answer;
  }

  /** Ends the process once everything asked is answered. */
  async close(): Promise<void> {
    await this.tail;
    this.child.stdin.end();
    if (this.child.exitCode === null) await new Promise((resolve) => this.child.once('close', resolve));
  }
}
