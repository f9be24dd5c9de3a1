/** A registry with one image behind a flaky proxy, and a source that looks at it through the proxy. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import type { TestContext } from 'node:test';
import type { Descriptor } from '../../src/oci/descriptor.ts';
import type { ImageSource } from '../../src/oci/source.ts';
import type { RegistryOptions } from '../../src/registry/options.ts';
import { type Fault, type FlakyProxy, type SeenRequest, startFlakyProxy } from './flaky-proxy.ts';
import { makeImage, type TestImage } from './images.ts';
import { openSource, readBlob } from './pull-source.ts';
import { pushImage, type Registry, startRegistry } from './registry.ts';

export interface Bench {
  readonly proxy: FlakyProxy;
  readonly image: TestImage;
  readonly source: ImageSource;
  /** Milliseconds that were to be waited before each retry; nothing waits in these tests. */
  readonly waits: number[];
  readonly notes: string[];
}

export const SIZE = 1_000_000;
export const ATTEMPTS = 4;

export interface Back {
  readonly registry: Registry;
  readonly image: TestImage;
}

export async function startBack(t: TestContext): Promise<Back | null> {
  const registry = await startRegistry(t);
  if (registry === null) return null;
  const image = makeImage({ compression: 'none', contents: [randomBytes(SIZE)] });
  await pushImage(registry, 'x', image, 'latest');
  return { registry, image };
}

/** A registry with one image, a proxy in front, and a source behind that; null when the test is skipped. */
export async function start(t: TestContext, options: RegistryOptions = {}): Promise<Bench | null> {
  const back = await startBack(t);
  return back && startFront(t, back, options);
}

export async function startFront(
  t: TestContext,
  { registry, image }: Back,
  options: RegistryOptions = {},
): Promise<Bench> {
  const proxy = await startFlakyProxy(t, registry.host);
  const waits: number[] = [];
  const notes: string[] = [];
  const source = openSource(t, proxy.host, 'x', {
    retry: { attempts: ATTEMPTS, wait: async (milliseconds) => void waits.push(milliseconds) },
    onProgress: (event) => {
      if (event.type === 'note') notes.push(event.message);
    },
    ...options,
  });
  return { proxy, image, source, waits, notes };
}

export const isBlob = ({ path }: SeenRequest): boolean => path.includes('/blobs/');
export const layerOf = (image: TestImage): Descriptor => ({ ...image.layers[0]!, annotations: {} });

/** A fault for the layer's blob alone. */
export function onLayer(bench: Bench, fault: (count: number, request: SeenRequest) => Fault): void {
  const path = `/v2/x/blobs/${bench.image.layers[0]!.digest}`;
  bench.proxy.rule = (request, count) => (request.path === path ? fault(count, request) : {});
}

export const rangesOf = (bench: Bench): (string | undefined)[] =>
  bench.proxy.seen
    .filter(({ path }) => path.endsWith(bench.image.layers[0]!.digest))
    .map(({ headers }) => headers.range);

export async function expectWhole(bench: Bench): Promise<void> {
  assert.ok((await readBlob(bench.source, layerOf(bench.image))).equals(bench.image.layers[0]!.bytes));
}
