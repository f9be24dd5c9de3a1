/**
 * All printing: results on stdout, everything else on stderr. With --json one object a line
 * and nothing else; with --quiet only errors.
 */
import { Buffer } from 'node:buffer';
import { displayByteString } from '../bytes/byte-string.ts';
import type { Finding } from '../errors.ts';
import { describeError } from './errors.ts';

/** The part of a stream that is used; `process.stdout` and tests' own. */
export interface TextSink {
  write(chunk: string | Uint8Array, done?: (error?: Error | null) => void): boolean;
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
}

export interface OutputMode {
  readonly json: boolean;
  readonly quiet: boolean;
}

export class Output {
  readonly stdout: TextSink;
  readonly stderr: TextSink;
  #mode: OutputMode = { json: false, quiet: false };
  /** Runs before stderr is written to, so that a progress display can step aside. */
  beforeStderr: () => void = () => {};

  constructor(stdout: TextSink, stderr: TextSink) {
    this.stdout = stdout;
    this.stderr = stderr;
  }

  get json(): boolean {
    return this.#mode.json;
  }

  get quiet(): boolean {
    return this.#mode.quiet;
  }

  setMode(mode: OutputMode): void {
    this.#mode = mode;
  }

  /** One result: the object with --json, else the lines that `render` makes of it. */
  result(value: object, render: () => string | readonly string[]): void {
    if (this.#mode.json) this.stdout.write(`${JSON.stringify(value)}\n`);
    else if (!this.#mode.quiet) this.lines(render());
  }

  /** Human lines on stdout. */
  lines(lines: string | readonly string[]): void {
    const text = typeof lines === 'string' ? lines : lines.join('\n');
    if (text !== '') this.stdout.write(`${text}\n`);
  }

  /** Bytes on stdout, whatever the mode; resolves when they are on their way. */
  bytes(chunk: Buffer): Promise<void> {
    return new Promise((resolve, reject) => {
      this.stdout.write(chunk, (error) => (error ? reject(error) : resolve()));
    });
  }

  /** Something the user should know that is neither result nor error. */
  note(message: string, details: object = {}): void {
    if (this.#mode.quiet) return;
    this.beforeStderr();
    this.stderr.write(
      this.#mode.json ? `${JSON.stringify({ note: { message, ...details } })}\n` : `veneer: ${message}\n`,
    );
  }

  /** What was odd in the input; at most `limit` of them in words, then their number. */
  findings(findings: readonly Finding[], limit = 20): void {
    if (this.#mode.json) {
      for (const finding of findings)
        this.note(finding.message, { ...finding, ...jsonName('path', finding.path) });
      return;
    }
    for (const finding of findings.slice(0, limit)) {
      const where = finding.path === undefined ? '' : `${displayByteString(finding.path)}: `;
      this.note(`${where}${finding.message} [${finding.code}]`);
    }
    if (findings.length > limit)
      this.note(`${findings.length - limit} more oddities like these (--json lists all)`);
  }

  error(error: unknown): void {
    this.beforeStderr();
    const { code, message, hint, detail } = describeError(error);
    if (this.#mode.json) {
      this.stderr.write(`${JSON.stringify({ error: { code, message, hint } })}\n`);
      return;
    }
    this.stderr.write(`veneer: ${message}\n`);
    if (hint !== undefined) this.stderr.write(`hint: ${hint}\n`);
    if (detail !== undefined) this.stderr.write(`${detail}\n`);
  }

  /** A name as stdout should get it: escaped for a terminal's sake, the raw bytes for a pipe. Returns bytes as a byte string. */
  nameBytes(name: string): string {
    if (!this.stdout.isTTY) return name;
    return Buffer.from(displayByteString(name)).toString('latin1');
  }
}

/**
 * A byte string as JSON members: `{key: text}` when it is UTF-8, otherwise the escaped text for people
 * and `{keyBase64}` with the exact bytes.
 */
export function jsonName(key: string, name: string | undefined): Record<string, string> {
  if (name === undefined) return {};
  const bytes = Buffer.from(name, 'latin1');
  const text = bytes.toString('utf8');
  if (!text.includes('\ufffd') || Buffer.from(text).equals(bytes)) return { [key]: text };
  return { [key]: displayByteString(name), [`${key}Base64`]: bytes.toString('base64') };
}
