/** Tars in files: what threads can open too. */
import { createWriteStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import type { ByteSource } from '../bytes/io.ts';
import { type LayerTar, openTarFile, readTar, type TarFile } from '../store/layer-tar.ts';

export type { TarFile } from '../store/layer-tar.ts';

/** Tars that are open for the time of some work. */
export class OpenTars {
  readonly #open: LayerTar[] = [];

  /** Throws `store/corrupt` when the file has another size. */
  open(file: TarFile): ByteSource {
    const tar = openTarFile(file);
    this.#open.push(tar);
    return tar.source;
  }

  close(): void {
    for (const tar of this.#open.splice(0)) tar.close();
  }
}

/** The same tar in a file of its own: at `path` when it has to be put together. */
export async function wholeTar(file: TarFile, path: () => string): Promise<TarFile> {
  if (file.parts === undefined) return file;
  const whole = path();
  await pipeline(readTar(file), createWriteStream(whole, { flags: 'wx' }));
  return { diffId: file.diffId, size: file.size, path: whole };
}
