/** What is measured on: images of the corpus, and made-up ones for single questions. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
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

/** One of the made-up images: `many-layers` (120 tiny ones), `big-file` (one file of 2 GB), `many-files` (300,000 empty ones). */
export function madeUpImage(
  kind: 'many-layers' | 'big-file' | 'many-files',
  workDirectory: string,
): BenchImage {
  const layout = join(workDirectory, 'made-up', kind);
  if (!existsSync(join(layout, 'index.json'))) {
    mkdirSync(layout, { recursive: true });
    const program = fileURLToPath(new URL('./make-image.py', import.meta.url));
    execFileSync('python3', ['-B', program, kind, layout]);
  }
  return imageOf(layout, kind, []);
}

/** Reads the files once, so that nobody is first. */
export function warm(files: readonly string[]): void {
  for (const file of files) execFileSync('dd', [`if=${file}`, 'of=/dev/null', 'bs=1M', 'status=none']);
}

export function sizeOf(files: readonly string[]): number {
  return files.reduce((sum, file) => sum + statSync(file).size, 0);
}
