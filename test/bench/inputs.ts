/** What is measured on: images of the corpus, and made-up ones for single questions. */
import { execFileSync } from 'node:child_process';
import { createCipheriv } from 'node:crypto';
import {
  appendFileSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const PROJECT = fileURLToPath(new URL('../..', import.meta.url));
export const CORPUS = process.env.VENEER_CORPUS ?? join(PROJECT, '.cache/corpus');
export const TOOLS = join(process.env.VENEER_TOOLS ?? join(PROJECT, '.cache/tools'), 'bin');

export interface BenchImage {
  readonly name: string;
  /** OCI layout, tag `latest`. */
  readonly layout: string;
  /** Compressed layers, lowest first. */
  readonly blobs: readonly string[];
  /** The same layers uncompressed; empty for a made-up image. */
  readonly tars: readonly string[];
}

function readJson<T>(file: string): T {
  return JSON.parse(readFileSync(file, 'utf8')) as T;
}

const blobPath = (layout: string, digest: string): string => join(layout, 'blobs', digest.replace(':', '/'));

export function imageOf(layout: string, name: string, tars: readonly string[]): BenchImage {
  const index = readJson<{ manifests: { digest: string }[] }>(join(layout, 'index.json'));
  const manifest = readJson<{ layers: { digest: string }[] }>(blobPath(layout, index.manifests[0]!.digest));
  return { name, layout, tars, blobs: manifest.layers.map(({ digest }) => blobPath(layout, digest)) };
}

/** Images by name, made when they are not there yet. */
export function corpusImages(names: readonly string[]): BenchImage[] {
  execFileSync(join(PROJECT, 'scripts/corpus.sh'), names, { stdio: ['ignore', 'ignore', 'inherit'] });
  return names.map((name) => {
    const folder = join(CORPUS, 'tars', name);
    const tars = readdirSync(folder)
      .filter((file) => file.endsWith('.tar'))
      .sort()
      .map((file) => join(folder, file));
    return imageOf(join(CORPUS, 'oci', name), name, tars);
  });
}

const MAKE_IMAGE = fileURLToPath(new URL('./make-image.py', import.meta.url));

/**
 * One of the made-up images: `many-layers` (120 tiny ones), `big-file` (one file of 2 GB), `many-files` (300,000 empty
 * ones), `much-data` (100,000 files of 4 kB on average).
 */
export function madeUpImage(
  kind: 'many-layers' | 'big-file' | 'many-files' | 'much-data',
  workDirectory: string,
): BenchImage {
  const layout = join(workDirectory, 'made-up', kind);
  if (!existsSync(join(layout, 'index.json'))) {
    mkdirSync(layout, { recursive: true });
    execFileSync('python3', ['-B', MAKE_IMAGE, kind, layout]);
  }
  return imageOf(layout, kind, []);
}

/** Two images, `one` and `two`, of one file of 1 GiB that differs in one byte; the layers are not compressed. */
export function oneByteImages(workDirectory: string): BenchImage[] {
  const folder = join(workDirectory, 'made-up');
  const names = ['one', 'two'];
  const tars = names.map((name) => join(folder, `${name}.tar`));
  if (!existsSync(tars[1]!)) {
    mkdirSync(folder, { recursive: true });
    const file = join(folder, 'large');
    const bytes = createCipheriv('aes-128-ctr', Buffer.alloc(16), Buffer.alloc(16));
    writeFileSync(file, '');
    for (let n = 0; n < 1024; n++) appendFileSync(file, bytes.update(Buffer.alloc(1 << 20)));
    const pack = (tar: string): unknown =>
      execFileSync('tar', ['-cf', tar, '-C', folder, '--mtime=@0', '--owner=0', '--group=0', 'large']);
    pack(tars[0]!);
    const fd = openSync(file, 'r+');
    writeSync(fd, Buffer.from([1]), 0, 1, 600_000_001);
    closeSync(fd);
    pack(tars[1]!);
    rmSync(file);
  }
  return names.map((name, i) => {
    const layout = join(folder, `${name}-image`);
    if (!existsSync(join(layout, 'index.json')))
      execFileSync('python3', ['-B', MAKE_IMAGE, 'tar', layout, tars[i]!]);
    return imageOf(layout, name, [tars[i]!]);
  });
}

/** Reads the files once, so that nobody is first. */
export function warm(files: readonly string[]): void {
  for (const file of files) execFileSync('dd', [`if=${file}`, 'of=/dev/null', 'bs=1M', 'status=none']);
}

export function sizeOf(files: readonly string[]): number {
  return files.reduce((sum, file) => sum + statSync(file).size, 0);
}
