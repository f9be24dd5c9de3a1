/** SIGINT and SIGTERM as an AbortSignal, and the exit codes that go with them. */
import { VeneerError } from '../errors.ts';

const EXIT_CODES = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;
type Stopping = keyof typeof EXIT_CODES;

/** A launcher and a terminal may both deliver one Ctrl-C: what follows so soon is its echo. */
const ECHO_MS = 500;

export class Cancellation {
  readonly #controller = new AbortController();
  #watching = false;
  #firstAt = 0;
  /** Set once something told the process to stop: the exit code then, and what it was. */
  exitCode: number | undefined;
  reason = '';

  /** Installs the handlers at the first call. A second, later signal ends the process at once. */
  get signal(): AbortSignal {
    if (!this.#watching) {
      this.#watching = true;
      for (const name of Object.keys(EXIT_CODES) as Stopping[]) process.on(name, () => this.#stop(name));
    }
    return this.#controller.signal;
  }

  #stop(name: Stopping): void {
    if (this.exitCode !== undefined) {
      if (performance.now() - this.#firstAt > ECHO_MS) process.exit(EXIT_CODES[name]);
      return;
    }
    this.#firstAt = performance.now();
    this.cancel(EXIT_CODES[name], name);
  }

  /** Aborts the work if it can be aborted, else ends the process. */
  cancel(exitCode: number, reason: string): void {
    if (this.exitCode === undefined) this.reason = reason;
    this.exitCode ??= exitCode;
    if (!this.#watching) process.exit(exitCode);
    this.#controller.abort(new VeneerError('io/cancelled', `Cannot go on: stopped by ${reason}`));
  }
}
