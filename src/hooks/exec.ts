/**
 * Programs as hooks: no shell, the event as the last argument, one JSON object on stdin, one on stdout, stderr is the
 * log. Exit status 0 is an answer, 10 declines, anything else has failed.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { VeneerError } from '../errors.ts';
import type { Hook, HookCall, HookPolicy } from './hook.ts';
import { type HookEvent, type HookRequest, PROTOCOL } from './protocol.ts';

export interface ExecSettings extends HookPolicy {
  readonly name: string;
  /** Absolute path of the program and its first arguments. */
  readonly command: readonly string[];
  readonly events: ReadonlySet<HookEvent>;
  /** Variables that are passed on besides {@link PASSED}. */
  readonly env?: readonly string[];
}

export const DECLINED = 10;

/** Of our environment a program sees these, and what says which event it is. */
const PASSED = ['PATH', 'HOME', 'USER', 'LANG', 'LC_ALL', 'TZ', 'TMPDIR', 'XDG_RUNTIME_DIR'];
/** A reply is small; whoever writes more has gone mad. Bytes. */
const REPLY_MAX = 1 << 20;
/** Longest line of the log that is passed on, chars. */
const LINE_MAX = 2000;
/** Between TERM and KILL, and for output that is held open after the end. Milliseconds. */
const GRACE = 3000;

export function execHook({ command, env = [], ...settings }: ExecSettings): Hook {
  return { ...settings, call: (request, call) => runProgram(settings.name, command, env, request, call) };
}

async function runProgram(
  name: string,
  command: readonly string[],
  env: readonly string[],
  request: HookRequest,
  { signal, log }: HookCall,
): Promise<unknown> {
  const { event } = request;
  const [program, ...args] = command;
  const child = spawn(program!, [...args, event], {
    cwd: '/',
    env: environment(env, request),
    stdio: ['pipe', 'pipe', 'pipe'],
    // Its own process group, so that what it starts ends with it.
    detached: true,
  });
  const lines = new LogLines(log);
  const output: Buffer[] = [];
  let size = 0;
  let excess = false;
  child.stdout.on('data', (chunk: Buffer) => {
    size += chunk.length;
    if (size <= REPLY_MAX) output.push(chunk);
    else if (!excess) {
      excess = true;
      killGroup(child, 'SIGKILL');
    }
  });
  child.stderr.on('data', (chunk: Buffer) => lines.add(chunk));
  // A hook that needs nothing of the request need not read it.
  child.stdin.on('error', () => {});
  child.stdin.end(`${JSON.stringify(request)}\n`);
  const ended = await waitFor(child, signal);
  lines.end();
  signal.throwIfAborted();
  const cannot = (reason: string, code: 'hooks/failed' | 'hooks/bad-reply' = 'hooks/failed'): VeneerError =>
    new VeneerError(code, `Cannot go on with ${event}: ${name} ${reason}${lines.last()}`);
  if (excess) throw cannot(`wrote more than ${REPLY_MAX} bytes`, 'hooks/bad-reply');
  if (typeof ended !== 'object') throw cannot(`could not be started: ${ended}`);
  if (ended.signal !== null) throw cannot(`was killed by ${ended.signal}`);
  if (ended.status === DECLINED) return null;
  if (ended.status !== 0) throw cannot(`ended with status ${ended.status}`);
  const text = Buffer.concat(output).toString('utf8').trim();
  if (text === '') return {};
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw cannot(`wrote no JSON: ${JSON.stringify(text.slice(0, 200))}`, 'hooks/bad-reply');
  }
}

function environment(env: readonly string[], request: HookRequest): NodeJS.ProcessEnv {
  const passed = [...PASSED, ...env].flatMap((name) => {
    const value = process.env[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  return {
    ...Object.fromEntries(passed),
    HOOK_EVENT: request.event,
    HOOK_PROTOCOL: String(PROTOCOL),
    HOOK_BUNDLE: request.bundle,
  };
}

interface Ended {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** How it ended, or the reason that it never began. TERM, then KILL for all of its group when the signal comes. */
function waitFor(child: ChildProcess, signal: AbortSignal): Promise<Ended | string> {
  return new Promise((resolve) => {
    let kill: NodeJS.Timeout | undefined;
    let drain: NodeJS.Timeout | undefined;
    const stop = (): void => {
      killGroup(child, 'SIGTERM');
      kill = setTimeout(() => killGroup(child, 'SIGKILL'), GRACE);
    };
    const done = (result: Ended | string): void => {
      clearTimeout(kill);
      clearTimeout(drain);
      signal.removeEventListener('abort', stop);
      // What it left behind of itself would go on working on the bundle.
      if (signal.aborted) killGroup(child, 'SIGKILL');
      resolve(result);
    };
    child.once('error', (error) => done(error.message));
    child.once('exit', () => {
      // Something it started may hold its output open: that must not keep us.
      drain = setTimeout(() => {
        child.stdout?.destroy();
        child.stderr?.destroy();
      }, GRACE);
    });
    child.once('close', (status, by) => done({ status, signal: by }));
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
  });
}

function killGroup({ pid }: ChildProcess, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch {
    // All of it has ended.
  }
}

/** Cuts what comes into lines, and keeps the last for messages. */
class LogLines {
  readonly #log: (line: string) => void;
  readonly #decoder = new TextDecoder();
  #rest = '';
  #last = '';

  constructor(log: (line: string) => void) {
    this.#log = log;
  }

  add(chunk: Buffer): void {
    const lines = (this.#rest + this.#decoder.decode(chunk, { stream: true })).split('\n');
    this.#rest = lines.pop()!.slice(0, LINE_MAX);
    for (const line of lines) this.#take(line);
  }

  end(): void {
    if (this.#rest !== '') this.#take(this.#rest);
    this.#rest = '';
  }

  last(): string {
    return this.#last === '' ? '' : ` (${this.#last})`;
  }

  #take(line: string): void {
    const shown = line.slice(0, LINE_MAX).replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, '?');
    if (shown.trim() === '') return;
    this.#last = shown.trim();
    this.#log(shown);
  }
}
