/** An image through the whole of veneer: a layout is pulled into a store and mounted, as the command line does it. */
import { resolve } from 'node:path';
import { applyMount, planMount, probeCapabilities, unmount } from '../../src/mount/index.ts';
import { openLayout } from '../../src/oci/index.ts';
import { type ImageRecord, mountable, pullImage, Store } from '../../src/store/index.ts';

export class StoredImage {
  private readonly store: Store;
  private readonly record: ImageRecord;

  private constructor(store: Store, record: ImageRecord) {
    this.store = store;
    this.record = record;
  }

  /**
   * Pulls the only image of an OCI layout into a store at `root`; with `beside`, as layers that share their data with
   * those of another image, which is pulled before it.
   */
  static async pull(root: string, layout: string, beside?: string): Promise<StoredImage> {
    const store = Store.open(root, { fsync: false });
    const pull = async (from: string, name: string): Promise<ImageRecord> => {
      const source = await openLayout(from);
      try {
        return await pullImage(store, source, { name, dedupe: beside !== undefined });
      } finally {
        await source.close();
      }
    };
    if (beside !== undefined) await pull(beside, 'beside');
    return new StoredImage(store, await pull(layout, 'test'));
  }

  /** Mounts it on `target`, calls `use`, and unmounts. */
  async mounted<T>(target: string, mode: 'merged' | 'layers', use: () => Promise<T>): Promise<T> {
    const images = await mountable(this.store, this.record, mode);
    const runDir = this.store.layout.run;
    const request = { target: resolve(target), mode, images, options: [], backing: 'auto', runDir } as const;
    applyMount(planMount(request, probeCapabilities()));
    try {
      return await use();
    } finally {
      unmount(request.target, runDir);
    }
  }

  /** The image files of a mount and their devices in order. */
  async images(mode: 'merged' | 'layers'): Promise<{ path: string; devices: string[] }[]> {
    const images = await mountable(this.store, this.record, mode);
    return images.map(({ primary, devices }) => ({
      path: primary,
      devices: devices.map(({ path }) => path),
    }));
  }

  close(): void {
    this.store.close();
  }
}
