/** What a command gets to talk to the outside world with; tests hand in their own. */
import type { Output } from './output.ts';

export interface CliContext {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly out: Output;
  /** Aborted by SIGINT or SIGTERM. The first look at it installs the handlers, so quick commands just die as usual. */
  readonly signal: AbortSignal;
  /** The bytes the user typed for an argument, as a byte string: arguments that are not UTF-8 stay exact. */
  bytesOf(argument: string): string;
}

/** Flags every command has. */
export interface CommonFlags {
  readonly json: boolean;
  readonly quiet: boolean;
  /** Store folder; undefined when not given, see {@link defaultRoot}. */
  readonly root?: string;
}
