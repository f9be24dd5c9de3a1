/** A {@link CliContext} for tests: remembers what is printed. */
import type { CliContext } from '../../src/cli/context.ts';
import { Output, type TextSink } from '../../src/cli/output.ts';

export interface FakeContext extends CliContext {
  stdout(): string;
  stderr(): string;
}

class Memory implements TextSink {
  readonly isTTY: boolean;
  readonly columns = 80;
  readonly rows = 24;
  readonly #chunks: Buffer[] = [];

  constructor(isTTY: boolean) {
    this.isTTY = isTTY;
  }

  write(chunk: string | Uint8Array, done?: (error?: Error | null) => void): boolean {
    this.#chunks.push(Buffer.from(chunk as Uint8Array));
    done?.();
    return true;
  }

  text(): string {
    return Buffer.concat(this.#chunks).toString('utf8');
  }
}

export function fakeContext(options: { isTTY?: boolean; env?: CliContext['env'] } = {}): FakeContext {
  const stdout = new Memory(options.isTTY ?? false);
  const stderr = new Memory(options.isTTY ?? false);
  return {
    env: options.env ?? {},
    out: new Output(stdout, stderr),
    signal: new AbortController().signal,
    bytesOf: (argument) => Buffer.from(argument).toString('latin1'),
    stdout: () => stdout.text(),
    stderr: () => stderr.text(),
  };
}
