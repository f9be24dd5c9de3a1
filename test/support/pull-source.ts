/** Sources for tests, isolated from the credentials and proxies of whoever runs them. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { VeneerError } from '../../src/errors.ts';
import type { Descriptor } from '../../src/oci/descriptor.ts';
import { type Platform, parsePlatform } from '../../src/oci/platform.ts';
import { parseReference } from '../../src/oci/reference.ts';
import type { ImageSource } from '../../src/oci/source.ts';
import type { RegistryOptions } from '../../src/registry/options.ts';
import { openRegistry } from '../../src/registry/source.ts';
import type { TestImage } from './images.ts';

export const AMD64: Platform = parsePlatform('linux/amd64');

/** An environment without anybody's credentials or proxies. */
export const EMPTY_ENV: NodeJS.ProcessEnv = { HOME: '/nonexistent', PATH: process.env.PATH };

/** A source for `name` on `host` that is closed with the test. */
export function openSource(
  t: TestContext,
  host: string,
  name: string,
  options: RegistryOptions = {},
): ImageSource {
  const source = openRegistry(parseReference(`${host}/${name}`), {
    env: EMPTY_ENV,
    certsDirs: [],
    ...options,
  });
  t.after(() => source.close());
  return source;
}

export async function readBlob(source: ImageSource, descriptor: Descriptor, offset = 0): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of await source.openBlob(descriptor, offset)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** The source gives exactly this image, layers included. */
export async function assertImage(
  source: ImageSource,
  image: TestImage,
  platform: Platform = AMD64,
): Promise<void> {
  const found = await source.resolve(platform);
  assert.equal(found.manifestDigest, image.manifest.digest);
  assert.deepEqual(found.manifestBytes, image.manifest.bytes);
  assert.deepEqual(found.configBytes, image.config.bytes);
  assert.deepEqual(found.config.diffIds, image.diffIds);
  assert.equal(found.manifest.layers.length, image.layers.length);
  for (const [index, layer] of found.manifest.layers.entries()) {
    assert.deepEqual(await readBlob(source, layer), image.layers[index]!.bytes);
  }
}

/** For `assert.rejects` and `assert.throws`: a VeneerError of this code whose message matches. */
export function withCode(code: string, pattern?: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof VeneerError, String(error));
    assert.equal(error.code, code, error.message);
    if (pattern !== undefined) assert.match(error.message, pattern);
    return true;
  };
}
