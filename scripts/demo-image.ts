/** A small OCI layout of files that any user may read, for a demo without root. */
import { createHash } from 'node:crypto';
import {
  createReadStream,
  createWriteStream,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';

type Run = (program: string, words: readonly string[], options?: { quiet?: boolean }) => Promise<unknown>;

/** Of this machine's root, as far as they are there: some ten megabytes. */
const PARTS = [
  'usr/share/zoneinfo',
  'usr/share/perl',
  'usr/share/doc',
  'usr/lib/os-release',
  'etc/debian_version',
];

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

/** Makes the layout `folder` with one gzip layer; returns its name for `veneer pull`. */
export async function makeDemoImage(folder: string, run: Run): Promise<string> {
  const parts = PARTS.filter((path) => existsSync(join('/', path)));
  return makeImage(folder, ['-C', '/', ...parts], run);
}

/** Two versions of such an image in `folder`: in the second one files are gone, and some that are large have changed. */
export async function makeDemoPair(folder: string, run: Run): Promise<[before: string, after: string]> {
  const root = join(folder, 'root');
  mkdirSync(join(root, 'opt'), { recursive: true });
  const parts = PARTS.filter((path) => existsSync(join('/', path)));
  const words = Array.from({ length: 1 << 20 }, (_, i) => `${i * 2654435761} `).join('');
  writeFileSync(join(root, 'opt/data'), words);
  const before = await makeImage(join(folder, 'old'), ['-C', '/', ...parts, '-C', root, 'opt'], run);
  writeFileSync(join(root, 'opt/data'), `${words.slice(0, 5_000_000)}changed${words.slice(5_000_007)}`);
  const after = await makeImage(join(folder, 'new'), ['-C', '/', ...parts.slice(1), '-C', root, 'opt'], run);
  return [before, after];
}

async function makeImage(folder: string, files: readonly string[], run: Run): Promise<string> {
  const blobs = join(folder, 'blobs/sha256');
  mkdirSync(blobs, { recursive: true });
  const tar = join(folder, 'layer.tar');
  const blob = join(folder, 'layer.tar.gz');
  await run('tar', ['-c', '-f', tar, '--ignore-failed-read', '--sort=name', ...files], { quiet: true });
  await pipeline(createReadStream(tar), createGzip({ level: 1 }), createWriteStream(blob));
  const diffId = `sha256:${sha256(readFileSync(tar))}`;
  rmSync(tar);
  const bytes = readFileSync(blob);
  const layer = { digest: `sha256:${sha256(bytes)}`, size: bytes.length };
  renameSync(blob, join(blobs, layer.digest.slice(7)));

  const put = (value: object): { digest: string; size: number } => {
    const text = Buffer.from(JSON.stringify(value));
    writeFileSync(join(blobs, sha256(text)), text);
    return { digest: `sha256:${sha256(text)}`, size: text.length };
  };
  const config = put({
    architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
    os: 'linux',
    rootfs: { type: 'layers', diff_ids: [diffId] },
  });
  const type = 'application/vnd.oci.image';
  const manifest = put({
    schemaVersion: 2,
    mediaType: `${type}.manifest.v1+json`,
    config: { mediaType: `${type}.config.v1+json`, ...config },
    layers: [{ mediaType: `${type}.layer.v1.tar+gzip`, ...layer }],
  });
  writeFileSync(join(folder, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  writeFileSync(
    join(folder, 'index.json'),
    JSON.stringify({
      schemaVersion: 2,
      manifests: [
        {
          mediaType: `${type}.manifest.v1+json`,
          ...manifest,
          annotations: { 'org.opencontainers.image.ref.name': 'latest' },
        },
      ],
    }),
  );
  return `oci:${folder}:latest`;
}
