/**
 * The merged images of chains, mounted on the host: one mount a chain, which every snapshot on it shares.
 *
 * A mount outlives the daemon, and so does what containers have on top of it; after a reboot it is made again when
 * somebody needs it. What is mounted is asked of the kernel each time: nothing here has to be right after a crash.
 */
import { mkdirSync, rmdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { VeneerError } from '../errors.ts';
import { applyMount, planMount, probeCapabilities, unmount } from '../mount/index.ts';
import type { MountRequest } from '../mount/types.ts';
import { listDirectory } from '../store/catalog.ts';
import { chainOf } from '../store/chain-ids.ts';
import { findChainRecord } from '../store/chain-records.ts';
import { devicePath } from '../store/device-path.ts';
import { isMissing } from '../store/io-errors.ts';
import { CHAIN_IMAGE, digestHex, HEX64, shortDigest } from '../store/layout.ts';
import type { MergeThread } from '../store/merge-thread.ts';
import { type MountableImage, mountable } from '../store/mountable.ts';
import type { Store } from '../store/store.ts';
import { ChainDisks } from './chain-disks.ts';
import { bindForm, erofsForm, type MountForm, overlayForm, templateForm } from './mount-form.ts';
import { overlayOptions } from './overlay-options.ts';
import type { ServeConfig } from './serve-config.ts';

export class ChainMounts {
  readonly #store: Store;
  readonly #merger: MergeThread;
  readonly #directory: string;
  readonly #config: Pick<ServeConfig, 'mounts' | 'format' | 'backing'>;
  readonly #disks: ChainDisks;
  readonly #overlayOptions = overlayOptions();
  /** Mounts that are being made, by chainID. */
  readonly #running = new Map<string, Promise<string>>();

  /** Below `directory`: `chains/` with the mount points, `disks/`. */
  constructor(
    store: Store,
    merger: MergeThread,
    directory: string,
    config: Pick<ServeConfig, 'mounts' | 'format' | 'backing'>,
  ) {
    this.#store = store;
    this.#merger = merger;
    this.#directory = join(directory, 'chains');
    const disks = join(directory, 'disks');
    for (const path of [this.#directory, disks]) mkdirSync(path, { recursive: true, mode: 0o700 });
    this.#disks = new ChainDisks(store, disks);
    this.#config = config;
  }

  /** Where the chain is mounted, or would be. */
  pathOf(chainId: string): string {
    return join(this.#directory, digestHex(chainId));
  }

  /** How many are mounted; after a reboot there are directories without a mount. */
  count(): number {
    return listDirectory(this.#directory).filter((hex) => HEX64.test(hex) && this.#isMounted(`sha256:${hex}`))
      .length;
  }

  /** Mounts the chain of `diffIds` where it is not; merges it first when nobody has. Returns the mount point. */
  async ensure(diffIds: readonly string[]): Promise<string> {
    const chainId = chainOf(diffIds);
    if (this.#isMounted(chainId)) return this.pathOf(chainId);
    let running = this.#running.get(chainId);
    if (running === undefined) {
      running = this.#mount(chainId, diffIds).finally(() => this.#running.delete(chainId));
      this.#running.set(chainId, running);
    }
    return running;
  }

  /** What shows the chain read-only, once it is {@link ensure}d. */
  viewForms(diffIds: readonly string[]): MountForm[] {
    const chainId = chainOf(diffIds);
    switch (this.#config.mounts) {
      case 'overlay':
        return [bindForm(this.pathOf(chainId), false)];
      case 'erofs': {
        const { primary, devices } = this.#filesOf(chainId);
        return [erofsForm(primary, devices, probeCapabilities().fileBacked ? [] : ['loop'])];
      }
      case 'vmdk':
        return [erofsForm(this.#disks.pathOf(chainId), [])];
    }
  }

  /** The same with a writable directory over it. */
  activeForms(diffIds: readonly string[], upper: string): MountForm[] {
    if (this.#config.mounts === 'overlay')
      return [overlayForm(upper, this.pathOf(chainOf(diffIds)), this.#overlayOptions)];
    return [...this.viewForms(diffIds), templateForm(upper, this.#overlayOptions)];
  }

  /** The chainID of what {@link viewForms} gave, or null. */
  chainOfForm({ source }: Pick<MountForm, 'source'>): string | null {
    const places: [before: string, after: string][] = [
      [`${this.#directory}/`, ''],
      [`${this.#store.layout.chains}/`, `/${CHAIN_IMAGE}`],
      [`${this.#disks.directory}/`, '.vmdk'],
    ];
    for (const [before, after] of places) {
      if (!source.startsWith(before) || !source.endsWith(after)) continue;
      const hex = source.slice(before.length, source.length - after.length);
      if (HEX64.test(hex)) return `sha256:${hex}`;
    }
    return null;
  }

  /** Takes the mount away; whoever still uses it keeps it until then. */
  release(chainId: string): void {
    const path = this.pathOf(chainId);
    try {
      if (this.#isMounted(chainId)) unmount(path, this.#store.layout.run, { lazy: true });
      rmdirSync(path);
    } catch (error) {
      if (!isMissing(error)) throw releaseError(path, error);
    }
    this.#disks.release(chainId);
  }

  /** Releases every chain but those that `keep` names. */
  sweep(keep: ReadonlySet<string>): void {
    for (const hex of listDirectory(this.#directory)) {
      const chainId = `sha256:${hex}`;
      if (HEX64.test(hex) && !keep.has(chainId) && !this.#running.has(chainId)) this.release(chainId);
    }
    this.#disks.sweep(keep);
  }

  #isMounted(chainId: string): boolean {
    const found = statSync(this.pathOf(chainId), { throwIfNoEntry: false });
    return found !== undefined && found.dev !== statSync(this.#directory).dev;
  }

  async #mount(chainId: string, diffIds: readonly string[]): Promise<string> {
    await this.#merger.merge(diffIds);
    const layers = diffIds.map((diffId) => ({ diffId }));
    const [image] = await mountable(this.#store, { layers }, 'merged');
    if (this.#config.mounts === 'vmdk') await this.#disks.write(chainId, image!);
    const target = this.pathOf(chainId);
    mkdirSync(target, { recursive: true, mode: 0o700 });
    const label = `snapshots on chain ${shortDigest(chainId)}`;
    const base = {
      target,
      options: [],
      backing: this.#config.backing,
      runDir: this.#store.layout.run,
      label,
    };
    if (this.#config.format === 'udf') await this.#mountUdf(base, image!);
    else mountNow({ ...base, mode: 'merged', images: [image!] });
    return target;
  }

  async #mountUdf(base: Omit<MountRequest, 'mode' | 'images'>, image: MountableImage): Promise<void> {
    const { stackVolumes } = await import('./udf-stack.ts');
    const { discardVolumes, writeVolumes } = await import('../store/udf-volumes.ts');
    const { directory, volumes } = writeVolumes(this.#store, [image], { standard: false });
    try {
      mountNow({ ...base, mode: 'layers', images: stackVolumes(volumes), metacopy: true });
    } finally {
      discardVolumes(directory);
    }
  }

  /** The image's files, where they are now. */
  #filesOf(chainId: string): { primary: string; devices: string[] } {
    const directory = this.#store.layout.chain(chainId);
    const record = findChainRecord(directory, chainId);
    if (record === null)
      throw new VeneerError('store/missing', `Cannot use chain ${chainId}: it is not in the store`);
    const devices = record.devices.map((device) => devicePath(this.#store, device));
    return { primary: join(directory, CHAIN_IMAGE), devices };
  }
}

function mountNow(request: MountRequest): void {
  applyMount(planMount(request, probeCapabilities()));
}

function releaseError(path: string, cause: unknown): VeneerError {
  if (cause instanceof VeneerError) return cause;
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new VeneerError('io/failed', `Cannot take ${path} away: ${reason}`, { cause });
}
