/** Verify: reads everything again and compares it with its digest. */
import { createHash } from 'node:crypto';
import { closeSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as letOthersRun } from 'node:timers/promises';
import type { ByteSource } from '../bytes/io.ts';
import { VeneerError } from '../errors.ts';
import type { OnProgress } from '../progress/events.ts';
import { formatBytes } from '../progress/units.ts';
import { listDirectory } from './catalog.ts';
import { imageChains } from './chain-ids.ts';
import { findChainRecord } from './chain-records.ts';
import { openStored } from './data-files.ts';
import { checkFsVerity, digestFile, findFsVerity, hasImmutableFlag } from './fs-verity.ts';
import { imageBlobs } from './gc.ts';
import { hashFile } from './hash-file.ts';
import { listImages } from './images.ts';
import { isMissing } from './io-errors.ts';
import { ownFiles } from './layer-files.ts';
import { openLayerTar } from './layer-tar.ts';
import { readLayer } from './layers.ts';
import { CHAIN_IMAGE, digestHex, HEX64, LAYER_IMAGE, REMNANT_DATA, REMNANT_FACTS } from './layout.ts';
import { takeLease } from './leases.ts';
import { type Lock, throwIfAborted } from './locks.ts';
import { type ChainRecord, type ImageRecord, readRemnantRecord } from './records.ts';
import { openRanges } from './remnants.ts';
import type { Store } from './store.ts';
import { findTree, VERITY_SCOPES } from './verity.ts';

export interface VerifyOptions {
  /** Only what this image needs; default everything in the store. */
  readonly image?: ImageRecord;
  readonly onProgress?: OnProgress;
  readonly signal?: AbortSignal;
}

export interface VerifyProblem {
  readonly path: string;
  readonly message: string;
}

export interface VerifyReport {
  readonly problems: VerifyProblem[];
  /** Files that were read whole. */
  files: number;
  bytes: number;
  /** Files whose reads the kernel checks (fs-verity); null where the file system cannot. */
  fsVerity: number | null;
  /** Files with the immutable flag. */
  immutable: number;
}

interface Target {
  readonly path: string;
  readonly digest: string;
  /** Bytes; -1 when only the digest is known. */
  readonly size: number;
  /** Opens what is hashed when it is not the file at `path`; called under the lease. */
  readonly open?: () => { readonly source: ByteSource; close(): void };
  /** The kernel may check it too. */
  readonly sealable?: true;
}

/**
 * Hashes every layer's tar (its diffID), metadata image and document; of a deduped layer what is its own, and the tar
 * that its recipe gives. A lease keeps sweeps away meanwhile.
 * Wrong files are reported, not thrown, and nothing is changed. To mend a layer: `rm` the images that use it, `gc`,
 * and pull again. A damaged merged image may just be removed; it is made again when it is needed.
 */
export async function verify(store: Store, options: VerifyOptions = {}): Promise<VerifyReport> {
  const report: VerifyReport = { problems: [], files: 0, bytes: 0, fsVerity: null, immutable: 0 };
  if (!store.exists()) return report;
  const { scope, lease } = protect(store, report, options.image);
  try {
    const targets = listTargets(store, scope, report);
    const total = targets.reduce((sum, target) => sum + Math.max(0, target.size), 0);
    const id = 'verify';
    options.onProgress?.({ type: 'start', id, what: `verify ${targets.length} files`, total });
    try {
      for (const target of targets) {
        await check(target, report, options.signal, (done) => {
          options.onProgress?.({ type: 'advance', id, done: Math.min(done, total) });
        });
        if (target.sealable && report.problems.at(-1)?.path !== target.path)
          await checkSeal(store, target, report, options.signal);
      }
    } catch (error) {
      options.onProgress?.({ type: 'end', id, outcome: 'failed' });
      throw error;
    }
    options.onProgress?.({ type: 'end', id, outcome: report.problems.length === 0 ? 'done' : 'failed' });
  } finally {
    lease.release();
  }
  return report;
}

interface Scope {
  readonly layers: string[];
  /** What deduped layers of one image need of them, their tars tell. */
  readonly remnants: string[];
  readonly chains: string[];
  readonly blobs: string[];
}

/** What to look at, with a lease on it. No sweep comes between the look and the lease, or what it took would be a problem. */
function protect(
  store: Store,
  report: VerifyReport,
  image: ImageRecord | undefined,
): { scope: Scope; lease: Lock } {
  const shared = store.share();
  try {
    const scope = chooseScope(store, report, image);
    const { layers, chains, blobs } = scope;
    return { scope, lease: takeLease(store, 'verify', { layers, chains, blobs, downloads: [] }) };
  } finally {
    shared.release();
  }
}

function chooseScope(store: Store, report: VerifyReport, image: ImageRecord | undefined): Scope {
  if (image !== undefined) {
    return {
      layers: [...new Set(image.layers.map((layer) => layer.diffId))],
      remnants: [],
      chains: imageChains(image),
      blobs: imageBlobs(image),
    };
  }
  const digests = (dir: string): string[] =>
    listDirectory(dir)
      .filter((name) => HEX64.test(name))
      .map((hex) => `sha256:${hex}`);
  const { layout } = store;
  const blobs = new Set(digests(layout.blobs));
  const onFinding = ({ message }: { message: string }): void => {
    report.problems.push({ path: layout.images, message });
  };
  for (const one of listImages(store, { onFinding })) for (const digest of imageBlobs(one)) blobs.add(digest);
  return {
    layers: digests(layout.layers),
    remnants: digests(layout.remnants),
    chains: [...new Set([...digests(layout.chains), ...digests(layout.linked)])],
    blobs: [...blobs],
  };
}

function listTargets(store: Store, scope: Scope, report: VerifyReport): Target[] {
  const { layout } = store;
  const targets: Target[] = [];
  const noting = (path: string, add: () => void): void => {
    try {
      add();
    } catch (error) {
      if (!(error instanceof VeneerError)) throw error;
      report.problems.push({ path, message: error.message });
    }
  };
  for (const digest of scope.blobs) targets.push({ path: layout.blob(digest), digest, size: -1 });
  for (const diffId of scope.layers) {
    const dir = layout.layer(diffId);
    noting(dir, () => {
      const record = readLayer(store, diffId);
      for (const { file, digest, size } of ownFiles(record))
        targets.push({ path: join(dir, file), digest, size, sealable: true });
      if (record.deduped !== undefined) {
        const open = () => openLayerTar(store, diffId);
        targets.push({ path: `${dir} (its tar)`, digest: diffId, size: record.tarSize, open });
      }
    });
  }
  for (const digest of scope.remnants) {
    const dir = layout.remnant(digest);
    noting(dir, () => targets.push(remnantTarget(dir)));
  }
  const addChain = (dir: string, file: string, record: ChainRecord | null): void => {
    if (record !== null) targets.push({ path: join(dir, file), ...record.image, sealable: true });
  };
  for (const chainId of scope.chains) {
    // Either may be missing: they are made when needed.
    const merged = layout.chain(chainId);
    noting(merged, () => addChain(merged, CHAIN_IMAGE, findChainRecord(merged, chainId)));
    const linked = layout.linkedLayer(chainId);
    noting(linked, () => addChain(linked, LAYER_IMAGE, findChainRecord(linked, chainId)));
  }
  for (const scope of VERITY_SCOPES) {
    const names = listDirectory(join(layout.verity, scope));
    for (const { digest } of targets.filter(({ sealable }) => sealable)) {
      const dir = layout.verityTree(scope, digest);
      if (!names.includes(digestHex(digest))) continue;
      noting(dir, () => {
        const found = findTree(store, scope, digest);
        if (found !== null) targets.push({ path: found.path, ...found.tree });
      });
    }
  }
  return targets;
}

/** Only the ranges of a remnant count: what lies between them is nobody's. */
function remnantTarget(dir: string): Target {
  const { ranges, content } = readRemnantRecord(join(dir, REMNANT_FACTS));
  const path = join(dir, REMNANT_DATA);
  const size = ranges.reduce((sum, [begin, end]) => sum + end - begin, 0);
  return { path, digest: content, size, open: () => openRanges(path, ranges) };
}

async function check(
  target: Target,
  report: VerifyReport,
  signal: AbortSignal | undefined,
  onRead: (done: number) => void,
): Promise<void> {
  const { path, digest, size, open } = target;
  try {
    const before = report.bytes;
    const counted = (bytes: number): void => {
      report.bytes += bytes;
      onRead(report.bytes);
    };
    const found = await (open === undefined
      ? hashFile(path, signal, counted)
      : hashOpened(open, signal, counted));
    report.files++;
    const length = report.bytes - before;
    if (size >= 0 && length !== size) {
      report.problems.push({ path, message: `${path} has ${length} bytes, not ${size}` });
    } else if (found !== digest) {
      report.problems.push({
        path,
        message: `${path} (${formatBytes(length)}) has the digest ${found}, not ${digest}`,
      });
    }
  } catch (error) {
    if (error instanceof VeneerError && (error.code === 'io/cancelled' || open === undefined)) throw error;
    const reason = isMissing(error)
      ? 'it is missing'
      : error instanceof Error
        ? error.message
        : String(error);
    report.problems.push({ path, message: `${path} cannot be read: ${reason}` });
  }
}

const PIECE = 1 << 20;

async function hashOpened(
  open: NonNullable<Target['open']>,
  signal: AbortSignal | undefined,
  onRead: (bytes: number) => void,
): Promise<string> {
  const { source, close } = open();
  try {
    const hash = createHash('sha256');
    const scratch = Buffer.allocUnsafe(PIECE);
    for (let at = 0; at < source.size; at += PIECE) {
      throwIfAborted(signal);
      const length = Math.min(PIECE, source.size - at);
      hash.update(source.read(at, length, scratch));
      onRead(length);
      await letOthersRun();
    }
    return `sha256:${hash.digest('hex')}`;
  } finally {
    close();
  }
}

/** The immutable flag; the fs-verity digest: what the kernel enforces, the record, and the bytes must all say the same. */
async function checkSeal(
  store: Store,
  { path, digest }: Target,
  report: VerifyReport,
  signal: AbortSignal | undefined,
): Promise<void> {
  try {
    if (hasImmutableFlag(path)) report.immutable++;
    const { enforced, problem } = checkFsVerity(store, { path, digest });
    if (problem !== null) report.problems.push({ path, message: problem });
    if (!enforced) return;
    report.fsVerity = (report.fsVerity ?? 0) + 1;
    const fd = openStored(path);
    try {
      const found = await digestFile(fd, signal);
      if (found !== findFsVerity(store, digest)?.fsVerity)
        report.problems.push({ path, message: `${path} has bytes with the fs-verity digest ${found}` });
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    if (error instanceof VeneerError && error.code === 'io/cancelled') throw error;
    const reason = error instanceof Error ? error.message : String(error);
    report.problems.push({ path, message: `${path} cannot be read: ${reason}` });
  }
}
