/** Images from given tars, as OCI layouts on disk or as sources in memory that fail on demand. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setImmediate as yieldToLoop } from 'node:timers/promises';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { parseImageConfig } from '../../src/oci/config.ts';
import type { Descriptor } from '../../src/oci/descriptor.ts';
import { parseManifest } from '../../src/oci/manifest.ts';
import type { ImageSource } from '../../src/oci/source.ts';
import {
  describe,
  layoutFiles,
  makeBlob,
  sha256,
  type TestBlob,
  type TestImage,
  writeFiles,
} from './images.ts';
import { archive, dir, file, hardLink, symlink, whiteout } from './tar-builder.ts';

export type BlobCompression = 'gzip' | 'zstd' | 'none';

export interface LayerInput {
  readonly tar: Buffer;
  readonly compression?: BlobCompression;
}

const LAYER_TYPE = 'application/vnd.oci.image.layer.v1.tar';
const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json';
const CONFIG_TYPE = 'application/vnd.oci.image.config.v1+json';

export function compressTar(tar: Buffer, compression: BlobCompression): Buffer {
  if (compression === 'none') return tar;
  return compression === 'gzip' ? gzipSync(tar, { level: 1 }) : zstdCompressSync(tar);
}

/** An image of these layers, bottom first. `diffIds` overrides what the config says of them. */
export function buildImage(
  layers: readonly (Buffer | LayerInput)[],
  options: { diffIds?: readonly string[]; cmd?: string } = {},
): TestImage {
  const inputs = layers.map((layer): LayerInput => (Buffer.isBuffer(layer) ? { tar: layer } : layer));
  const blobs = inputs.map(({ tar, compression = 'gzip' }) => {
    const suffix = compression === 'none' ? '' : `+${compression}`;
    return makeBlob(`${LAYER_TYPE}${suffix}`, compressTar(tar, compression));
  });
  const diffIds = options.diffIds ?? inputs.map(({ tar }) => sha256(tar));
  const config = makeBlob(CONFIG_TYPE, {
    os: 'linux',
    architecture: 'amd64',
    config: { Cmd: [options.cmd ?? 'true'] },
    rootfs: { type: 'layers', diff_ids: diffIds },
  });
  const manifest = makeBlob(MANIFEST_TYPE, {
    schemaVersion: 2,
    mediaType: MANIFEST_TYPE,
    config: describe(config),
    layers: blobs.map(describe),
  });
  return { manifest, config, layers: blobs, diffIds };
}

/** Writes an OCI layout with the image under `tag`. */
export async function writeLayout(path: string, image: TestImage, tag = 'latest'): Promise<void> {
  const annotations = { 'org.opencontainers.image.ref.name': tag };
  const index = { manifests: [{ ...describe(image.manifest), annotations }] };
  await writeFiles(path, layoutFiles(index, [image.manifest, image.config, ...image.layers]));
}

/** How a source in memory behaves. */
export interface SourceBehaviour {
  readonly name?: string;
  /** Default true. */
  readonly local?: boolean;
  /** Bytes a chunk; default 64 KiB. */
  readonly chunkSize?: number;
  /** Called before each chunk of a blob; may wait, throw, or return other bytes. */
  readonly onChunk?: (blob: string, offset: number, chunk: Buffer) => Buffer | Promise<Buffer>;
  /** Called with each blob opened and the offset asked for. */
  readonly onOpen?: (blob: string, offset: number) => void;
}

/** The image as a source. Blobs of `extra` (by digest) are served instead of the image's own. */
export function memorySource(
  image: TestImage,
  behaviour: SourceBehaviour = {},
  extra: ReadonlyMap<string, Buffer> = new Map(),
): ImageSource {
  const name = behaviour.name ?? 'memory:latest';
  const blobs = new Map(image.layers.map((blob) => [blob.digest, extra.get(blob.digest) ?? blob.bytes]));
  const { chunkSize = 1 << 16 } = behaviour;

  async function* stream(digest: string, bytes: Buffer, offset: number): AsyncGenerator<Buffer> {
    for (let at = offset; at < bytes.length; at += chunkSize) {
      const chunk = Buffer.from(bytes.subarray(at, at + chunkSize));
      await yieldToLoop();
      yield (await behaviour.onChunk?.(digest, at, chunk)) ?? chunk;
    }
  }

  return {
    name,
    local: behaviour.local ?? true,
    async resolve() {
      return {
        manifest: parseManifest(image.manifest.bytes, image.manifest.mediaType, 'the manifest'),
        manifestBytes: image.manifest.bytes,
        manifestDigest: image.manifest.digest,
        config: parseImageConfig(image.config.bytes, 'the config'),
        configBytes: image.config.bytes,
        findings: [],
      };
    },
    async openBlob(descriptor: Descriptor, offset: number) {
      behaviour.onOpen?.(descriptor.digest, offset);
      const bytes = blobs.get(descriptor.digest);
      if (bytes === undefined) throw new Error(`no blob ${descriptor.digest}`);
      return stream(descriptor.digest, bytes, offset);
    },
    locateBlob: async () => null,
    close: async () => {},
  };
}

/** Bytes that do not compress and are the same every time (xorshift). */
export function noise(length: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(length);
  let state = seed >>> 0 || 1;
  for (let i = 0; i < length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[i] = state;
  }
  return bytes;
}

/** Three layers that lean on each other: a base, changes with a whiteout and a hard link into the base, an addition. */
export function sampleTars(salt = ''): Buffer[] {
  const base = archive(
    dir('etc'),
    file('etc/hostname', `base${salt}\n`),
    file('etc/removed', 'gone soon\n'),
    dir('usr'),
    dir('usr/bin'),
    file('usr/bin/tool', noise(70_000, 7), { mode: 0o755 }),
    symlink('bin', 'usr/bin'),
  );
  const change = archive(
    whiteout('etc/removed'),
    file('etc/hostname', `changed${salt}\n`),
    hardLink('usr/bin/tool-link', 'usr/bin/tool'),
  );
  const addition = archive(dir('srv'), file('srv/data', noise(150_000, 11)), file('srv/empty', ''));
  return [base, change, addition];
}

/** A directory that goes with the test. */
export function temporaryDirectory(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'veneer-store-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** Layer blobs of an image by digest, changed by `change`. */
export function changedBlobs(image: TestImage, change: (blob: TestBlob) => Buffer): Map<string, Buffer> {
  return new Map(image.layers.map((blob) => [blob.digest, change(blob)]));
}
