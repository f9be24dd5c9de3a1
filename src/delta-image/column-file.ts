/**
 * One column on its way into the file of a delta: compressed at once while it is short; when it is not, as a stream
 * into a file of its own, so that what is held in memory is bounded.
 */
import { closeSync, createReadStream, openSync, rmSync, writeSync } from 'node:fs';
import { promisify } from 'node:util';
import { constants, createZstdCompress, type ZstdCompress, zstdCompress } from 'node:zlib';
import { MAX_WINDOW_LOG, type VarintBuffer } from '../delta/format.ts';

const compressAsync = promisify(zstdCompress);

/** Raw bytes that are held, at most. */
const HELD = 8 << 20;
/** Window of streams: what a compressor holds grows with it. */
const STREAM_WINDOW_LOG = 24;

export class ColumnFile {
  readonly #level: number;
  readonly #raw: VarintBuffer;
  readonly #path: string;
  #rawSize = 0;
  #size = 0;
  #bytes: Buffer | null = null;
  #stream: ZstdCompress | null = null;
  #fd = -1;
  #ended: Promise<void> = Promise.resolve();

  /** `raw` is emptied into this whenever {@link drain} is called; `path` is for a file, if it needs one. */
  constructor(raw: VarintBuffer, level: number, path: string) {
    this.#raw = raw;
    this.#level = level;
    this.#path = path;
  }

  get sizes(): { readonly rawSize: number; readonly size: number } {
    return { rawSize: this.#rawSize, size: this.#size };
  }

  /** Takes what has gathered, if it is much. */
  async drain(): Promise<void> {
    if (this.#raw.length >= HELD) await this.#feed();
  }

  /** After this the column is complete. */
  async finish(): Promise<void> {
    if (this.#stream !== null) {
      await this.#feed();
      this.#stream.end();
      await this.#ended;
      return;
    }
    this.#rawSize = this.#raw.length;
    if (this.#rawSize === 0) return;
    this.#bytes = await compressAsync(this.#raw.filled(), {
      // Told the size, it takes tables of that size.
      pledgedSrcSize: this.#rawSize,
      params: {
        [constants.ZSTD_c_compressionLevel]: this.#level,
        [constants.ZSTD_c_windowLog]: windowLog(this.#rawSize),
      },
    });
    this.#size = this.#bytes.length;
  }

  async *output(): AsyncGenerator<Buffer> {
    if (this.#bytes !== null) yield this.#bytes;
    else if (this.#stream !== null) yield* createReadStream(this.#path) as AsyncIterable<Buffer>;
  }

  close(): void {
    this.#stream?.destroy();
    if (this.#fd < 0) return;
    closeSync(this.#fd);
    rmSync(this.#path, { force: true });
  }

  async #feed(): Promise<void> {
    const stream = (this.#stream ??= this.#open());
    const bytes = Buffer.from(this.#raw.filled());
    this.#raw.length = 0;
    this.#rawSize += bytes.length;
    const written = new Promise<void>((resolve, reject) => {
      stream.write(bytes, (error) => (error ? reject(error) : resolve()));
    });
    // Whichever fails first tells why.
    await Promise.race([written, this.#ended.then(() => written)]);
  }

  #open(): ZstdCompress {
    this.#fd = openSync(this.#path, 'wx', 0o600);
    const stream = createZstdCompress({
      params: {
        [constants.ZSTD_c_compressionLevel]: this.#level,
        [constants.ZSTD_c_windowLog]: STREAM_WINDOW_LOG,
      },
    });
    stream.on('data', (chunk: Buffer) => {
      try {
        for (let done = 0; done < chunk.length; ) done += writeSync(this.#fd, chunk, done);
        this.#size += chunk.length;
      } catch (error) {
        stream.destroy(error as Error);
      }
    });
    this.#ended = new Promise((resolve, reject) => {
      stream.once('end', resolve);
      stream.once('error', reject);
    });
    this.#ended.catch(() => {});
    return stream;
  }
}

/** Large enough for all of it, and no larger: it is what the reader has to hold. */
function windowLog(size: number): number {
  return Math.min(MAX_WINDOW_LOG, Math.max(10, Math.ceil(Math.log2(size))));
}
