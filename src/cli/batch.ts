/** Lines are written in batches: one write a line would be slow, one for all would be large. */
import type { Output } from './output.ts';

/** Written when about so many bytes are there. */
const BATCH = 1 << 16;

export class Batch {
  readonly #out: Output;
  #pending = '';

  constructor(out: Output) {
    this.#out = out;
  }

  /** `bytes` is a byte string. */
  async write(bytes: string): Promise<void> {
    this.#pending += bytes;
    if (this.#pending.length >= BATCH) await this.flush();
  }

  /** One JSON object as a line. */
  json(value: object): Promise<void> {
    return this.write(Buffer.from(`${JSON.stringify(value)}\n`).toString('latin1'));
  }

  /** To be called at the end; resolves when all is on its way. */
  async flush(): Promise<void> {
    if (this.#pending === '') return;
    const chunk = Buffer.from(this.#pending, 'latin1');
    this.#pending = '';
    await this.#out.bytes(chunk);
  }
}
