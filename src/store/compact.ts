/**
 * Compaction: of files that only other layers need, the parts that they need are kept, and the rest is given back.
 *
 * 1. What is needed is found under the shared store lock, and the files are opened: they outlive their names.
 * 2. Remnants are written without any lock, which may take long.
 * 3. Under the exclusive lock all is looked at again. A layer that has got a name, a lease or a mount meanwhile, or of
 *    which more is needed now, stays as it is. Otherwise the remnant gets its name, and then the layer loses its own,
 *    after the chains that have it.
 *
 * A crash leaves debris, or the remnant beside the layer: then the layer counts, and the next sweep takes the remnant.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { exchangeNames } from '../sys/inode.ts';
import { discard, publishDirectory, syncPath, unpublishDirectory } from './atomic.ts';
import { listDirectory } from './catalog.ts';
import { findChainRecord } from './chain-records.ts';
import { fileSource, openStored } from './data-files.ts';
import { treeBytes } from './debris.ts';
import { deviceDigest, devicePath, holdsDevice } from './device-path.ts';
import { type Marks, mark } from './gc.ts';
import { storeError } from './io-errors.ts';
import { sharedRanges } from './layer-tar.ts';
import { hasLayer, readLayer } from './layers.ts';
import { digestHex, HEX64, REMNANT_DATA, REMNANT_FACTS } from './layout.ts';
import { readLeases } from './leases.ts';
import { throwIfAborted } from './locks.ts';
import { type DeviceRecord, type LayerRecord, readRemnantRecord } from './records.ts';
import { coverRanges, mergeRanges, type Range, writeRemnant } from './remnants.ts';
import type { Store } from './store.ts';
import { VERITY_SCOPES } from './verity.ts';

export interface CompactOptions {
  /** Only tell what would be given back. */
  readonly dryRun?: boolean;
  /** As for {@link gc}. */
  readonly mountedFiles?: () => readonly string[];
  readonly signal?: AbortSignal;
}

export interface CompactReport {
  /** Digests of the files of which only a part was kept. */
  readonly files: string[];
  /** Bytes that this gave back, about. */
  bytes: number;
}

/** A file of which less is needed than there is. */
interface Candidate {
  readonly digest: string;
  readonly device: DeviceRecord;
  readonly path: string;
  /** The layer goes with the file; else it is a remnant already. */
  readonly layer: boolean;
  readonly ranges: readonly Range[];
  /** Bytes that would be given back. */
  readonly gain: number;
}

/** Less is not worth a copy. Bytes. */
const MIN_GAIN = 64 << 10;

/**
 * Goes on until nothing is given back any more: a layer that goes needs nothing of others then. A dry run tells the
 * first round only. Throws `store/corrupt` when a record or recipe cannot be read: then nobody knows what is needed.
 */
export async function compact(store: Store, options: CompactOptions = {}): Promise<CompactReport> {
  const files = new Set<string>();
  let bytes = 0;
  for (;;) {
    const round = await compactOnce(store, options);
    for (const digest of round.files) files.add(digest);
    bytes += round.bytes;
    if (round.files.length === 0 || options.dryRun === true) return { files: [...files], bytes };
  }
}

async function compactOnce(store: Store, options: CompactOptions): Promise<CompactReport> {
  const report: CompactReport = { files: [], bytes: 0 };
  if (!store.exists()) return report;
  const mounted = (): readonly string[] => options.mountedFiles?.() ?? [];
  const opened = openCandidates(store, mounted);
  const written: { candidate: Candidate; dir: string }[] = [];
  const trash: string[] = [];
  try {
    for (const { candidate, fd } of opened) {
      if (options.dryRun !== true) {
        const dir = join(store.work(), `remnant-${randomBytes(9).toString('hex')}`);
        mkdirSync(dir, { mode: 0o700 });
        written.push({ candidate, dir });
        const { digest, ranges, path } = candidate;
        await writeRemnant(
          dir,
          fileSource(fd, path),
          { digest, ranges },
          { fsync: store.fsync, signal: options.signal },
        );
      } else {
        report.files.push(candidate.digest);
        report.bytes += candidate.gain;
      }
    }
    if (written.length > 0) await publishRemnants(store, mounted, written, report, trash, options.signal);
  } catch (error) {
    throw storeError('compact the store', error);
  } finally {
    for (const { fd } of opened) closeSync(fd);
    for (const { dir } of written) await discard(dir);
  }
  for (const path of trash) await discard(path);
  return report;
}

function openCandidates(
  store: Store,
  mounted: () => readonly string[],
): { candidate: Candidate; fd: number }[] {
  const lock = store.share();
  const opened: { candidate: Candidate; fd: number }[] = [];
  try {
    for (const candidate of findCandidates(store, mounted())) {
      opened.push({ candidate, fd: openStored(candidate.path) });
    }
    return opened;
  } catch (error) {
    for (const { fd } of opened) closeSync(fd);
    throw error;
  } finally {
    lock.release();
  }
}

async function publishRemnants(
  store: Store,
  mounted: () => readonly string[],
  written: readonly { candidate: Candidate; dir: string }[],
  report: CompactReport,
  trash: string[],
  signal: AbortSignal | undefined,
): Promise<void> {
  const { layout, fsync } = store;
  const lock = await store.exclusive(signal);
  try {
    const now = new Map(findCandidates(store, mounted()).map((candidate) => [candidate.digest, candidate]));
    for (const { candidate, dir } of written) {
      throwIfAborted(signal);
      const { digest, device, layer, ranges, gain } = candidate;
      const found = now.get(digest);
      if (found === undefined || found.layer !== layer || !coverRanges(ranges, found.ranges)) continue;
      // What is made of a layer goes before it, so that a crash leaves no chain whose layers are gone.
      const going = layer ? [...chainsOn(store, device.diffId), layout.layer(device.diffId)] : [];
      const target = layout.remnant(digest);
      const files = [REMNANT_DATA, REMNANT_FACTS];
      if (!(await publishDirectory(dir, target, { fsync, files }))) exchangeNames(dir, target);
      if (fsync) await syncPath(layout.remnants);
      for (const path of going) {
        const moved = unpublishDirectory(path, { work: layout.tmp, fsync });
        if (moved !== null) trash.push(moved);
      }
      report.files.push(digest);
      report.bytes += gain;
    }
  } finally {
    lock.release();
  }
}

/** Directories of the chains that have this layer: no image has it any more, and so none of them. */
function* chainsOn(store: Store, diffId: string): Generator<string> {
  for (const dir of [store.layout.linked, store.layout.chains]) {
    for (const hex of listDirectory(dir)) {
      if (!HEX64.test(hex)) continue;
      const path = join(dir, hex);
      if (findChainRecord(path, `sha256:${hex}`)?.diffIds.includes(diffId)) yield path;
    }
  }
}

/** Files that are there for the layers of others only, with what those need. Call it with the store lock held. */
function findCandidates(store: Store, mounted: readonly string[]): Candidate[] {
  const leases = readLeases(store);
  const marks = mark(store, leases.live, mounted);
  const sealed = sealedDigests(store, marks);
  const stays = (digest: string, device: DeviceRecord): boolean =>
    sealed.has(digest) ||
    (holdsDevice(store, device)
      ? marks.layers.has(digestHex(device.diffId))
      : marks.remnants.has(digestHex(digest)));
  /** Of all layers, and of those that were asked for. */
  const [needs, lasting]: [Needs, Needs] = [new Map(), new Map()];
  for (const record of readLayers(store)) {
    addNeeds(store, record, needs);
    if (marks.layers.has(digestHex(record.diffId))) addNeeds(store, record, lasting);
  }
  const bytesOf = (among: Needs, digest: string): number => {
    const need = among.get(digest);
    return need === undefined ? 0 : rangeBytes(mergeRanges(need.ranges, need.device.size));
  };
  /** What else is there only as long as a layer is. */
  const pinned = ({ deduped }: LayerRecord): number =>
    (deduped?.sources ?? []).reduce((sum, device) => {
      const digest = deviceDigest(store, device);
      return stays(digest, device) ? sum : sum + bytesOf(needs, digest) - bytesOf(lasting, digest);
    }, 0);
  const candidates: Candidate[] = [];
  for (const [digest, { device, ranges }] of needs) {
    if (stays(digest, device)) continue;
    const layer = holdsDevice(store, device);
    const path = devicePath(store, device);
    const merged = mergeRanges(ranges, device.size);
    const kept = layer
      ? treeBytes(store.layout.layer(device.diffId))
      : rangeBytes(readRemnantRecord(join(store.layout.remnant(digest), REMNANT_FACTS)).ranges);
    const gain = kept - rangeBytes(merged);
    const worth = gain + (layer ? pinned(readLayer(store, device.diffId)) : 0);
    if (worth >= MIN_GAIN) candidates.push({ digest, device, path, layer, ranges: merged, gain });
  }
  return candidates;
}

/** All that are there, also those that nobody asked for: the next pull takes what has a name for whole. */
function* readLayers(store: Store): Generator<LayerRecord> {
  for (const hex of listDirectory(store.layout.layers)) {
    const diffId = `sha256:${hex}`;
    if (HEX64.test(hex) && hasLayer(store, diffId)) yield readLayer(store, diffId);
  }
}

/** What layers need of files of others, by the digests of those; bytes. */
type Needs = Map<string, { readonly device: DeviceRecord; readonly ranges: Range[] }>;

function addNeeds(store: Store, record: LayerRecord, needs: Needs): void {
  for (const { device, ranges } of sharedRanges(store, record)) {
    const digest = deviceDigest(store, device);
    const known = needs.get(digest)?.ranges;
    if (known === undefined) needs.set(digest, { device, ranges });
    else for (const range of ranges) known.push(range);
  }
}

/** Files that are hashed as a whole, by dm-verity or fs-verity: with holes they would be others. */
function sealedDigests(store: Store, marks: Marks): { has(digest: string): boolean } {
  const { layout } = store;
  const onDisk = new Set<string>();
  for (const hex of marks.chains) {
    const chainId = `sha256:${hex}`;
    for (const directory of [layout.chain(chainId), layout.linkedLayer(chainId)]) {
      const record = findChainRecord(directory, chainId);
      if (record === null || !existsSync(layout.verityTree('disk', record.image.digest))) continue;
      for (const device of record.devices) onDisk.add(deviceDigest(store, device));
    }
  }
  return {
    has: (digest) =>
      onDisk.has(digest) ||
      existsSync(layout.fsVerity(digest)) ||
      VERITY_SCOPES.some((scope) => existsSync(layout.verityTree(scope, digest))),
  };
}

function rangeBytes(ranges: readonly Range[]): number {
  return ranges.reduce((sum, [begin, end]) => sum + end - begin, 0);
}
