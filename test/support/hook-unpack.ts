/** An image of a few layers that lean on each other, and its way through hooks into a bundle. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type HookedResult, unpackThroughHooks } from '../../src/bundle/unpack-hooked.ts';
import { type Hook, HookSession, type HookSubject, type SessionOptions } from '../../src/hooks/index.ts';
import { openLayout } from '../../src/oci/index.ts';
import { parsePlatform } from '../../src/oci/platform.ts';
import type { LayerBlob } from '../../src/rootfs/open-layers.ts';
import type { LinkPolicy } from '../../src/tree/merge.ts';
import { hookLayers, SUBJECT } from './hook-lab.ts';
import { buildImage, writeLayout } from './image-builder.ts';
import type { Oracle } from './oracle.ts';
import { archive, device, dir, fifo, file, hardLink, opaque, symlink, whiteout } from './tar-builder.ts';
import { type Snapshot, snapshotDirectory } from './tree-snapshot.ts';

const BASE = archive(
  dir('./', { mode: 0o755, mtime: 1_500_000_000 }),
  dir('etc/', { uid: 7, gid: 8, mode: 0o750 }),
  file('etc/passwd', 'root:x:0:0::/root:/bin/sh\n'),
  file('etc/gone', 'gone'),
  hardLink('etc/twin', 'etc/passwd'),
  dir('old/'),
  file('old/a', 'a'),
  file('old/b', 'b'),
  symlink('lib', 'usr/lib'),
  dir('usr/'),
  dir('usr/lib/'),
  file('usr/lib/big', Buffer.alloc(200_000, 'big'), { mode: 0o4755, uid: 1000, gid: 1000 }),
);
/** Leans on the layer below: names no parents, links into it. */
const MIDDLE = archive(
  whiteout('etc/gone'),
  file('etc/new', 'new'),
  hardLink('copy', 'etc/passwd'),
  opaque('old'),
  file('old/c', 'c'),
  file('usr/lib/more', 'more'),
  fifo('pipe'),
);
const TOP = archive(
  dir('./', { mode: 0o711, mtime: 1_600_000_000 }),
  dir('etc/', { uid: 9 }),
  file('etc/passwd', 'changed\n'),
  whiteout('pipe'),
  device('null', 'char', 1, 3),
);
const OTHER_TOP = archive(file('other', 'other'), whiteout('old'));

export const IMAGES = { first: [BASE, MIDDLE, TOP], second: [BASE, MIDDLE, OTHER_TOP] } as const;

export interface TestUnpack {
  readonly bundle: string;
  readonly result: HookedResult;
}

/** An image in a layout below `place`, and what unpacking it takes. */
export class HookImage {
  readonly layout: string;
  readonly tars: readonly Buffer[];
  #blobs: LayerBlob[] = [];

  private constructor(layout: string, tars: readonly Buffer[]) {
    this.layout = layout;
    this.tars = tars;
  }

  static async make(place: string, name: string, tars: readonly Buffer[]): Promise<HookImage> {
    const image = new HookImage(join(place, name), tars);
    await writeLayout(image.layout, buildImage(tars));
    const source = await openLayout(image.layout);
    try {
      const { manifest, config } = await source.resolve(parsePlatform('linux/amd64'));
      for (const [index, layer] of manifest.layers.entries()) {
        const { digest, size } = layer;
        const range = await source.locateBlob(layer);
        image.#blobs.push({ digest, size, diffId: config.diffIds[index]!, range: range! });
      }
    } finally {
      await source.close();
    }
    return image;
  }

  get diffIDs(): string[] {
    return this.#blobs.map(({ diffId }) => diffId);
  }

  /** The same with a layer whose tar is not what the config says. */
  broken(index: number): HookImage {
    const image = new HookImage(this.layout, this.tars);
    const diffId = `sha256:${'0'.repeat(64)}`;
    image.#blobs = this.#blobs.map((blob, at) => (at === index ? { ...blob, diffId } : blob));
    return image;
  }

  subject(bundle: string): HookSubject {
    const source = { layout: this.layout, tag: 'latest' };
    return { ...SUBJECT, bundle, rootfs: join(bundle, 'rootfs'), source, layers: hookLayers(this.diffIDs) };
  }

  async unpack(
    bundle: string,
    hooks: readonly Hook[],
    options: SessionOptions & { readonly links?: LinkPolicy } = {},
  ): Promise<HookedResult> {
    mkdirSync(bundle, { recursive: true });
    const subject = this.subject(bundle);
    const session = new HookSession(hooks, subject, options);
    try {
      return await unpackThroughHooks({
        session,
        subject,
        blobs: this.#blobs,
        maps: { uidMaps: [], gidMaps: [], rootless: false },
        links: options.links ?? 'follow',
        write: { owners: true },
      });
    } catch (error) {
      await session.abort(error);
      throw error;
    }
  }

  /** What GNU tar makes of it in `into`, an empty folder. */
  async expected(oracle: Oracle, place: string): Promise<Snapshot> {
    const into = join(place, 'expected');
    mkdirSync(into);
    const layers = this.tars.map((tar, index) => {
      const path = join(place, `layer-${index}.tar`);
      writeFileSync(path, tar);
      return path;
    });
    await oracle.ask({ do: 'unpack', layers, into, implied: { mode: 0o755, uid: 0, gid: 0, mtime: 0 } });
    return snapshotDirectory(oracle, into);
  }
}
