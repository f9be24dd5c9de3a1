/** The oracles that are programs: GNU tar, mkfs.erofs, fsck.erofs, umoci. None shares code with veneer. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type FileTree, walkTree } from '../../src/tree/index.ts';
import type { MountLab } from '../support/kernel-mount.ts';
import type { ImageFile } from './case-images.ts';

const run = promisify(execFile);
/** What a program said that failed. */
export class OracleRefusal extends Error {}

async function attempt(program: string, words: readonly string[]): Promise<void> {
  try {
    await run(program, words);
  } catch (error) {
    const { stdout = '', stderr = '', message } = error as Error & { stdout?: string; stderr?: string };
    throw new OracleRefusal(`${stdout}${stderr}`.trim().split('\n').slice(-3).join('; ') || message);
  }
}

/** erofs-utils walk a tree by recursion: the deepest of the table need more stack than is usual. */
function withStack(program: string, words: readonly string[]): Promise<void> {
  return attempt('sh', ['-c', 'ulimit -s unlimited; exec "$@"', program, program, ...words]);
}

/** Throws when fsck.erofs finds anything wrong with an image. */
export async function fsckErofs(program: string, images: readonly ImageFile[]): Promise<void> {
  for (const { path, devices } of images) {
    await withStack(program, [...devices.map((device) => `--device=${device}`), path]).catch(
      (error: Error) => {
        throw new Error(`fsck.erofs refuses ${path}: ${error.message}`);
      },
    );
  }
}

/** Attributes of directories that no layer names: what veneer gives them, docs/decisions. */
export const IMPLIED = { mode: 0o755, uid: 0, gid: 0, mtime: 0 } as const;

/** Unpacks with GNU tar into an empty folder, by default in memory; returns where, and what it complained about. */
export async function unpackWithTar(
  lab: MountLab,
  tars: readonly string[],
  into?: string,
): Promise<{ at: string; complaints: string }> {
  const at = into ?? (await lab.mountMemory());
  const said = (await lab.oracle.ask({ do: 'unpack', layers: tars, into: at, implied: IMPLIED })) as string[];
  return { at, complaints: said.filter((text) => text !== '').join('; ') };
}

/** Directories that some layer does not name, by path; `everywhere`: none of the layers that have it does. */
export interface Unnamed {
  readonly somewhere: ReadonlySet<string>;
  readonly everywhere: ReadonlySet<string>;
}

/** Attributes of directories that its layer does not name are everybody's own idea: mkfs.erofs and umoci have no rule. */
export function findUnnamed(layers: readonly FileTree[]): Unnamed {
  const somewhere = new Set<string>();
  const named = new Set<string>();
  for (const layer of layers) {
    walkTree(layer, (path, node) => {
      if (node.children !== null) (node.implied ? somewhere : named).add(path);
    });
  }
  return { somewhere, everywhere: new Set([...somewhere].filter((path) => !named.has(path))) };
}

/** Layer images and their merge by mkfs.erofs. Throws {@link OracleRefusal}. */
export async function mkfsImages(
  program: string,
  directory: string,
  tars: readonly string[],
  mode: 'i' | 'f',
): Promise<{ layers: ImageFile[]; merged: ImageFile }> {
  const layers: ImageFile[] = [];
  for (const [i, tar] of tars.entries()) {
    const path = join(directory, `mkfs-${mode}-${i}.erofs`);
    const options = mode === 'i' ? ['--tar=i'] : ['--tar=f', '-Enoinline_data'];
    await withStack(program, ['--quiet', '--aufs', ...options, path, tar]);
    layers.push({ path, devices: mode === 'i' ? [tar] : [] });
  }
  const path = join(directory, `mkfs-${mode}.erofs`);
  await attempt(program, [
    '--quiet',
    '--aufs',
    '--ovlfs-strip=1',
    path,
    ...layers.map((layer) => layer.path),
  ]);
  return { layers, merged: { path, devices: mode === 'i' ? tars : layers.map((layer) => layer.path) } };
}

/** An OCI layout of uncompressed layers, for umoci. */
export function writeLayout(directory: string, tars: readonly string[]): void {
  const blobs = join(directory, 'blobs/sha256');
  mkdirSync(blobs, { recursive: true });
  const put = (mediaType: string, bytes: Buffer): object => {
    const hex = createHash('sha256').update(bytes).digest('hex');
    writeFileSync(join(blobs, hex), bytes);
    return { mediaType, digest: `sha256:${hex}`, size: bytes.length };
  };
  const json = (mediaType: string, value: object): object =>
    put(mediaType, Buffer.from(JSON.stringify(value)));
  const type = (what: string): string => `application/vnd.oci.image.${what}`;
  const layers = tars.map((tar) => put(type('layer.v1.tar'), readFileSync(tar)));
  const config = json(type('config.v1+json'), {
    architecture: 'amd64',
    os: 'linux',
    config: {},
    rootfs: { type: 'layers', diff_ids: layers.map((layer) => (layer as { digest: string }).digest) },
  });
  const mediaType = type('manifest.v1+json');
  const manifest = json(mediaType, { schemaVersion: 2, mediaType, config, layers });
  const annotations = { 'org.opencontainers.image.ref.name': 'latest' };
  writeFileSync(join(directory, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  writeFileSync(
    join(directory, 'index.json'),
    JSON.stringify({ schemaVersion: 2, manifests: [{ ...manifest, annotations }] }),
  );
}

/** Unpacks with umoci; returns the root filesystem. Throws {@link OracleRefusal}. */
export async function unpackWithUmoci(
  program: string,
  lab: MountLab,
  tars: readonly string[],
): Promise<string> {
  const layout = lab.folder('layout');
  writeLayout(layout, tars);
  const memory = await lab.mountMemory();
  const bundle = join(memory, 'bundle');
  await attempt(program, ['unpack', '--image', `${layout}:latest`, bundle]);
  return join(bundle, 'rootfs');
}
