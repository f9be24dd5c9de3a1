/**
 * npm run demo:delta [-- OLD NEW]: a new version of an image comes as a delta and is stored as the blocks that are
 * new. Shows both mounted, the bytes sent and the bytes stored, and leaves nothing behind. OLD and NEW are what
 * `veneer pull` takes; without them they are two Debian images of scripts/corpus.sh, a month of updates apart, or two
 * made of this machine's own files.
 */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { makeDemoPair } from './demo-image.ts';
import { newMountPoint, project, run, runDemo, say, scratch, show, veneer, whyNoMount } from './demo-run.ts';

const sizeOf = (bytes: number): string =>
  bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;

interface Pulled {
  readonly name: string;
  readonly config: { readonly digest: string };
  readonly layers: readonly { readonly diffId: string; readonly blob: { readonly size: number } }[];
}

interface Stored {
  readonly name: string;
  readonly tarBytes: number;
  readonly storedBytes: number;
}

async function chooseImages(): Promise<[before: string, after: string]> {
  const [before, after] = process.argv.slice(2);
  if (before !== undefined && after !== undefined) return [before, after];
  const corpus = join(process.env.VENEER_CORPUS ?? join(project, '.cache/corpus'), 'oci');
  const [one, two] = ['debian-v1', 'debian-v2'].map((name) => join(corpus, name));
  if ([one!, two!].every((path) => existsSync(join(path, 'index.json'))))
    return [`oci:${one}:latest`, `oci:${two}:latest`];
  say(
    'There are no two Debian images here (making them needs root), so these are made of files of this machine.',
  );
  return makeDemoPair(scratch, run);
}

async function demo(): Promise<void> {
  const [before, after] = await chooseImages();
  const delta = join(scratch, 'delta');
  say(`$ veneer delta create --from ${before} --to ${after} -o oci:${delta}`);
  const created = await veneer(
    'delta',
    'create',
    '--from',
    before,
    '--to',
    after,
    '-o',
    `oci:${delta}`,
    '--json',
  );
  const { size: sent, layers: made } = JSON.parse(created.stdout) as {
    size: number;
    layers: { blobSize?: number }[];
  };
  const blobs = made.reduce((sum, { blobSize }) => sum + (blobSize ?? 0), 0);

  const old = JSON.parse((await show('pull', before, '--name', 'old', '--json')).stdout) as Pulled;
  say(`  ${sizeOf(old.layers.reduce((sum, { blob }) => sum + blob.size, 0))} of layers`);
  await show('delta', 'apply', `oci:${delta}`, '--name', 'new', '--json');
  const images = (await veneer('images', '--json')).stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Stored);
  const fresh = images.find(({ name }) => name === 'new')!;

  await showMounts();
  await show('verify');
  say();
  say(`  sent    ${sizeOf(sent).padStart(9)}   the delta; the layers' blobs are ${sizeOf(blobs)}`);
  say(
    `  stored  ${sizeOf(fresh.storedBytes).padStart(9)}   beside the old image; the layers' tars are ${sizeOf(fresh.tarBytes)}`,
  );
  say();
  say('Every layer of the new image was hashed against its diffID: the image is the one that its ID names.');
}

async function showMounts(): Promise<void> {
  const obstacle = await whyNoMount();
  if (obstacle !== null) {
    say(`${obstacle}; both images can be read without it:`);
    for (const name of ['old', 'new'])
      say((await show('ls', '-l', name)).stdout.split('\n').slice(0, 4).join('\n'));
    return;
  }
  const points = ['old', 'new'].map((name) => [name, newMountPoint(name)] as const);
  for (const [name, path] of points) await show('mount', name, path);
  const status = points
    .map(([, path]) => join(path, 'var/lib/dpkg/status'))
    .filter((path) => existsSync(path));
  for (const path of status) {
    const packages = readFileSync(path, 'latin1').match(/^Version: /gm)?.length ?? 0;
    say(`  ${path}: ${packages} packages, ${statSync(path).size} bytes`);
  }
  const [, [, target]] = points as [readonly [string, string], readonly [string, string]];
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  say(
    `  ${mounts
      .find((line) => line.split(' ')[4] === target)
      ?.replace(/^.* - /, 'new: ')
      .slice(0, 110)}`,
  );
  for (const [, path] of points) await show('umount', path);
}

await runDemo(demo);
