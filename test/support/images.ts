/** Small real images for tests: layers of a file each, and the documents around them, OCI or docker. */
import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { archive, file } from './tar-builder.ts';

export interface TestBlob {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly bytes: Buffer;
}

export interface TestImage {
  readonly manifest: TestBlob;
  readonly config: TestBlob;
  readonly layers: readonly TestBlob[];
  readonly diffIds: readonly string[];
}

export interface TestImageOptions {
  readonly kind?: 'oci' | 'docker';
  readonly compression?: 'gzip' | 'zstd' | 'none';
  readonly platform?: { readonly os: string; readonly architecture: string; readonly variant?: string };
  /** Content of the one file in each layer, bottom first. */
  readonly contents: readonly Buffer[];
}

export const sha256 = (bytes: Uint8Array): string =>
  `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

export function makeBlob(mediaType: string, content: Buffer | object): TestBlob {
  const bytes = Buffer.isBuffer(content) ? content : Buffer.from(JSON.stringify(content));
  return { mediaType, digest: sha256(bytes), size: bytes.length, bytes };
}

export const describe = ({
  mediaType,
  digest,
  size,
}: TestBlob): { mediaType: string; digest: string; size: number } => ({
  mediaType,
  digest,
  size,
});

export function makeImage(options: TestImageOptions): TestImage {
  const docker = options.kind === 'docker';
  const compression = options.compression ?? 'gzip';
  const tars = options.contents.map((content, index) => archive(file(`file-${index}`, content)));
  const diffIds = tars.map(sha256);
  const layers = tars.map((tar) => makeBlob(layerType(docker, compression), compress(tar, compression)));
  const config = makeBlob(
    docker ? 'application/vnd.docker.container.image.v1+json' : 'application/vnd.oci.image.config.v1+json',
    {
      ...(options.platform ?? { os: 'linux', architecture: 'amd64' }),
      config: { Cmd: ['true'] },
      rootfs: { type: 'layers', diff_ids: diffIds },
    },
  );
  const mediaType = docker
    ? 'application/vnd.docker.distribution.manifest.v2+json'
    : 'application/vnd.oci.image.manifest.v1+json';
  const manifest = makeBlob(mediaType, {
    schemaVersion: 2,
    mediaType,
    config: describe(config),
    layers: layers.map(describe),
  });
  return { manifest, config, layers, diffIds };
}

/** An index over images with their platforms. */
export function makeIndex(
  entries: readonly { image: TestImage; platform?: object; annotations?: object }[],
): TestBlob {
  const mediaType = 'application/vnd.oci.image.index.v1+json';
  return makeBlob(mediaType, {
    schemaVersion: 2,
    mediaType,
    manifests: entries.map(({ image, platform, annotations }) => ({
      ...describe(image.manifest),
      platform,
      annotations,
    })),
  });
}

/** The files of an OCI layout by path. */
export function layoutFiles(index: object, blobs: readonly TestBlob[]): Map<string, Buffer> {
  const files = new Map<string, Buffer>();
  files.set('oci-layout', Buffer.from('{"imageLayoutVersion":"1.0.0"}'));
  files.set('index.json', Buffer.from(JSON.stringify({ schemaVersion: 2, ...index })));
  for (const { digest, bytes } of blobs) files.set(`blobs/${digest.replace(':', '/')}`, bytes);
  return files;
}

export async function writeFiles(dir: string, files: ReadonlyMap<string, Buffer>): Promise<void> {
  for (const [path, bytes] of files) {
    await mkdir(dirname(join(dir, path)), { recursive: true });
    await writeFile(join(dir, path), bytes);
  }
}

export const imageBlobs = (image: TestImage): TestBlob[] => [image.manifest, image.config, ...image.layers];

function compress(tar: Buffer, compression: 'gzip' | 'zstd' | 'none'): Buffer {
  if (compression === 'none') return tar;
  return compression === 'gzip' ? gzipSync(tar) : zstdCompressSync(tar);
}

function layerType(docker: boolean, compression: 'gzip' | 'zstd' | 'none'): string {
  const suffix = compression === 'none' ? '' : compression;
  if (docker) return `application/vnd.docker.image.rootfs.diff.tar${suffix && `.${suffix}`}`;
  return `application/vnd.oci.image.layer.v1.tar${suffix && `+${suffix}`}`;
}
