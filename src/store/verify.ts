/** Verify: reads everything again and compares it with its digest. */
import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { VeneerError } from '../errors.ts';
import type { OnProgress } from '../progress/events.ts';
import { listDirectory } from './catalog.ts';
import { imageChains } from './chain-ids.ts';
import { findChainRecord } from './chain-records.ts';
import { imageBlobs } from './gc.ts';
import { listImages } from './images.ts';
import { isMissing, showBytes } from './io-errors.ts';
import { readLayer } from './layers.ts';
import { CHAIN_IMAGE, HEX64, LAYER_IMAGE, LAYER_TAR } from './layout.ts';
import { takeLease } from './leases.ts';
import { throwIfAborted } from './locks.ts';
import type { ChainRecord, ImageRecord } from './records.ts';
import type { Store } from './store.ts';

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
}

interface Target {
  readonly path: string;
  readonly digest: string;
  /** Bytes; -1 when only the digest is known. */
  readonly size: number;
}

/**
 * Hashes every layer.tar (its diffID), metadata image and document. A lease keeps sweeps away meanwhile.
 * Wrong files are reported, not thrown, and nothing is changed. To mend a layer: `rm` the images that use it, `gc`,
 * and pull again. A damaged merged image may just be removed; it is made again when it is needed.
 */
export async function verify(store: Store, options: VerifyOptions = {}): Promise<VerifyReport> {
  const report: VerifyReport = { problems: [], files: 0, bytes: 0 };
  if (!store.exists()) return report;
  const scope = chooseScope(store, report, options.image);
  const lease = takeLease(store, 'verify', { ...scope, downloads: [] });
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
  readonly chains: string[];
  readonly blobs: string[];
}

function chooseScope(store: Store, report: VerifyReport, image: ImageRecord | undefined): Scope {
  if (image !== undefined) {
    return {
      layers: [...new Set(image.layers.map((layer) => layer.diffId))],
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
      const { tarSize, image } = readLayer(store, diffId);
      targets.push({ path: join(dir, LAYER_TAR), digest: diffId, size: tarSize });
      targets.push({ path: join(dir, LAYER_IMAGE), ...image });
    });
  }
  const addChain = (dir: string, file: string, record: ChainRecord | null): void => {
    if (record !== null) targets.push({ path: join(dir, file), ...record.image });
  };
  for (const chainId of scope.chains) {
    // Either may be missing: they are made when needed.
    const merged = layout.chain(chainId);
    noting(merged, () => addChain(merged, CHAIN_IMAGE, findChainRecord(merged, chainId)));
    const linked = layout.linkedLayer(chainId);
    noting(linked, () => addChain(linked, LAYER_IMAGE, findChainRecord(linked, chainId)));
  }
  return targets;
}

async function check(
  target: Target,
  report: VerifyReport,
  signal: AbortSignal | undefined,
  onRead: (done: number) => void,
): Promise<void> {
  const { path, digest, size } = target;
  try {
    const before = report.bytes;
    const found = await hashFile(path, signal, (bytes) => {
      report.bytes += bytes;
      onRead(report.bytes);
    });
    report.files++;
    const length = report.bytes - before;
    if (size >= 0 && length !== size) {
      report.problems.push({ path, message: `${path} has ${length} bytes, not ${size}` });
    } else if (found !== digest) {
      report.problems.push({
        path,
        message: `${path} (${showBytes(length)}) has the digest ${found}, not ${digest}`,
      });
    }
  } catch (error) {
    if (error instanceof VeneerError) throw error;
    const reason = isMissing(error)
      ? 'it is missing'
      : error instanceof Error
        ? error.message
        : String(error);
    report.problems.push({ path, message: `${path} cannot be read: ${reason}` });
  }
}

const CHUNK = 1 << 20;

/** Hashes a file; the next piece is read while one is hashed. */
async function hashFile(
  path: string,
  signal: AbortSignal | undefined,
  onRead: (bytes: number) => void,
): Promise<string> {
  const hash = createHash('sha256');
  const file: FileHandle = await open(path, 'r');
  try {
    let ahead = file.read(Buffer.allocUnsafe(CHUNK), 0, CHUNK, null);
    let spare = Buffer.allocUnsafe(CHUNK);
    for (;;) {
      const { bytesRead, buffer } = await ahead;
      throwIfAborted(signal);
      if (bytesRead === 0) return `sha256:${hash.digest('hex')}`;
      ahead = file.read(spare, 0, CHUNK, null);
      // A failing read is reported by the next turn; without this it would be unhandled if the hash threw.
      ahead.catch(() => undefined);
      hash.update(buffer.subarray(0, bytesRead));
      onRead(bytesRead);
      spare = buffer;
    }
  } finally {
    await file.close();
  }
}
