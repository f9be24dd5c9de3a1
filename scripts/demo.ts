/**
 * npm run demo [-- IMAGE]: pulls a real image into a store of its own, mounts it, reads a file through the mount,
 * compares the time with unpacking the same layers, and leaves nothing behind. IMAGE is what `veneer pull` takes;
 * without one it is the Debian image of scripts/corpus.sh, or one made of this machine's own programs.
 */
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeDemoImage } from './demo-image.ts';
import {
  newMountPoint,
  project,
  run,
  runDemo,
  say,
  scratch,
  show,
  store,
  veneer,
  whyNoMount,
} from './demo-run.ts';

const seconds = (milliseconds: number): string => `${(milliseconds / 1000).toFixed(2)} s`;

interface Layer {
  readonly diffId: string;
  readonly blob: { readonly digest: string; readonly size: number };
}

/** Compressed layers of a local layout, else the store's uncompressed ones: what there is to unpack. */
function layerFiles(source: string, layers: readonly Layer[]): { files: string[]; compressed: boolean } {
  const folder = /^oci:([^:@]+)/.exec(source)?.[1];
  const blobs = layers.map(({ blob }) => join(folder ?? '', 'blobs', blob.digest.replace(':', '/')));
  if (folder !== undefined && blobs.every((path) => existsSync(path)))
    return { files: blobs, compressed: true };
  return {
    files: layers.map(({ diffId }) => join(store, 'layers', diffId.slice('sha256:'.length), 'layer.tar')),
    compressed: false,
  };
}

async function chooseImage(): Promise<string> {
  const given = process.argv[2];
  if (given !== undefined) return given;
  const corpus = join(process.env.VENEER_CORPUS ?? join(project, '.cache/corpus'), 'oci/debian');
  if (existsSync(join(corpus, 'index.json'))) return `oci:${corpus}:latest`;
  say('There is no Debian image here (making it needs root), so this one is made of files of this machine.');
  return makeDemoImage(join(scratch, 'image'), run);
}

/** A file that every such image has, else the first that there is. */
async function chooseFile(name: string): Promise<string> {
  const { stdout } = await veneer('ls', '-R', '--json', name);
  const files = stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as { path: string; type: string; size: number })
    .filter(({ type, size }) => type === 'file' && size > 0);
  const usual = ['/usr/lib/os-release', '/etc/os-release', '/etc/debian_version', '/etc/alpine-release'];
  const found = usual.find((path) => files.some((file) => file.path === path)) ?? files[0]?.path;
  if (found === undefined) throw new Error('the image holds no file');
  return found;
}

async function demo(): Promise<void> {
  const source = await chooseImage();
  const pulled = await show('pull', source, '--json');
  const image = JSON.parse(pulled.stdout) as { name: string; layers: Layer[] };
  const blobBytes = image.layers.reduce((sum, { blob }) => sum + blob.size, 0);
  say(
    `  ${image.name}: ${image.layers.length === 1 ? '1 layer' : `${image.layers.length} layers`}, ${(blobBytes / 1e6).toFixed(1)} MB, all digests verified`,
  );
  const obstacle = await whyNoMount();
  const file = await chooseFile(image.name);
  if (obstacle === null) await showMount(source, image, file, pulled.milliseconds);
  else await showReading(image.name, file, obstacle);
}

async function showMount(
  source: string,
  image: { name: string; layers: Layer[] },
  file: string,
  pullTime: number,
): Promise<void> {
  const mountPoint = newMountPoint('mnt');
  const mounted = await show('mount', image.name, mountPoint);
  say(`$ head -n 3 ${mountPoint}${file}`);
  say(firstLines(readFileSync(`${mountPoint}${file}`)));

  const { files, compressed } = layerFiles(source, image.layers);
  const target = join(scratch, 'unpacked');
  mkdirSync(target);
  const began = performance.now();
  say(
    `$ tar -x ... ${files.length} ${compressed ? 'compressed' : 'uncompressed'} ${files.length === 1 ? 'layer' : 'layers'}, for comparison`,
  );
  for (const path of files)
    await run('tar', ['-x', '-f', path, '-C', target, '--numeric-owner'], { quiet: true });
  // The pull waited for the disk too.
  await run('sync', ['-f', target], { quiet: true });
  const unpackTime = performance.now() - began;

  await show('umount', mountPoint);
  say();
  say(`  pull   ${seconds(pullTime).padStart(8)}   fetch, verify every digest, index, make durable`);
  say(`  mount  ${seconds(mounted.milliseconds).padStart(8)}   again and again, from now on`);
  say(
    `  unpack ${seconds(unpackTime).padStart(8)}   tar on the same ${compressed ? '' : 'uncompressed '}layers, made durable: nothing verified, whiteouts ignored`,
  );
  say();
  say('Single runs on this machine, whole processes; docs/benchmarks.md has careful figures.');
}

async function showReading(name: string, file: string, obstacle: string): Promise<void> {
  say(`${obstacle}; an image can be read without it:`);
  const listed = await show('ls', '-l', name);
  say(firstLines(Buffer.from(listed.stdout), 12));
  const printed = await show('cat', `${name}:${file}`);
  say(firstLines(Buffer.from(printed.stdout)));
}

function firstLines(bytes: Buffer, count = 3): string {
  const text = bytes
    .subarray(0, 4096)
    .toString('latin1')
    .replace(/[^\x20-\x7e\n]/g, '.');
  return text
    .trimEnd()
    .split('\n')
    .slice(0, count)
    .map((line) => `  ${line.slice(0, 100)}`)
    .join('\n');
}

await runDemo(demo);
