/** Hooks for tests: programs that do as they are told, and a subject to tell them of. */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { HookEvent, HookFacts, HookLayer, HookSubject } from '../../src/hooks/index.ts';
import { chainIds } from '../../src/oci/digest.ts';

const digest = (char: string): string => `sha256:${char.repeat(64)}`;

export function hookLayers(diffIDs: readonly string[]): HookLayer[] {
  const chains = chainIds(diffIDs);
  return diffIDs.map((diffID, index) => ({
    index,
    mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
    digest: digest('b'),
    size: 1000 + index,
    diffID,
    chainID: chains[index]!,
    parentChainID: chains[index - 1] ?? null,
  }));
}

export const SUBJECT: HookSubject = {
  bundle: '/srv/bundle',
  rootfs: '/srv/bundle/rootfs',
  source: { layout: '/srv/layout', tag: 'latest' },
  manifest: {
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    digest: digest('a'),
    size: 500,
    content: { schemaVersion: 2 },
  },
  config: {
    mediaType: 'application/vnd.oci.image.config.v1+json',
    digest: digest('c'),
    size: 400,
    content: { architecture: 'amd64' },
  },
  layers: hookLayers([digest('1'), digest('2'), digest('3')]),
  maps: { uid: [{ container: 0, host: 0, size: 65_536 }], gid: [], rootless: false },
};

const layer = SUBJECT.layers[1]!;
const target = SUBJECT.rootfs;

/** What an event of each kind says besides the subject. */
export const FACTS: { readonly [E in HookEvent]: HookFacts[E] } = {
  'unpack.ociv1.image.prepare': {},
  'unpack.ociv1.layer.try-skip': { layer },
  'unpack.ociv1.layer.extract-to': { layer },
  'unpack.ociv1.layer.pre-extract': { layer, target, portable: true },
  'unpack.ociv1.layer.post-extract': { layer, target, portable: true },
  'unpack.ociv1.layer.commit': { layer, target, portable: true },
  'unpack.ociv1.image.assemble': { directories: ['/cache/1', '/cache/2', '/cache/3'] },
  'unpack.ociv1.bundle.finish': {},
  'unpack.ociv1.image.abort': {
    reason: 'the disk is full',
    deeds: [{ event: 'unpack.ociv1.layer.commit', layer: 0 }],
  },
  'repack.ociv1.delta-list': {},
  'repack.ociv1.layer.pre-generate': {},
  'repack.ociv1.layer.post-generate': {
    layer,
    newManifest: { mediaType: SUBJECT.manifest.mediaType, digest: digest('d'), size: 600 },
  },
  'repack.ociv1.bundle.refresh': {},
};

/** An answer that each event may have. */
export const ANSWERS: { readonly [E in HookEvent]: object } = {
  'unpack.ociv1.image.prepare': { cumulative: true },
  'unpack.ociv1.layer.try-skip': { directory: '/cache/2', diffIDs: [digest('2')] },
  'unpack.ociv1.layer.extract-to': { directory: '/cache/2' },
  'unpack.ociv1.layer.pre-extract': {},
  'unpack.ociv1.layer.post-extract': {},
  'unpack.ociv1.layer.commit': {},
  'unpack.ociv1.image.assemble': {},
  'unpack.ociv1.bundle.finish': {},
  'unpack.ociv1.image.abort': {},
  'repack.ociv1.delta-list': { paths: '/run/list' },
  'repack.ociv1.layer.pre-generate': { rootfs: '/snap/now' },
  'repack.ociv1.layer.post-generate': {},
  'repack.ociv1.bundle.refresh': {},
};

/** A folder with programs in it. */
export class HookLab {
  readonly directory = mkdtempSync(join(tmpdir(), 'veneer-hooks-'));
  #count = 0;

  folder(name: string): string {
    const path = join(this.directory, `${this.#count++}-${name}`);
    mkdirSync(path);
    return path;
  }

  /** A shell script; the event is `$1`, `$HERE` the lab's folder. */
  program(script: string): string {
    const path = join(this.directory, `hook-${this.#count++}`);
    writeFileSync(path, `#!/bin/sh\nHERE=${this.directory}\n${script}\n`);
    chmodSync(path, 0o755);
    return path;
  }

  write(name: string, text: string, mode = 0o644): string {
    const path = join(this.directory, name);
    writeFileSync(path, text);
    chmodSync(path, mode);
    return path;
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}
