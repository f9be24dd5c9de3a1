/** Where the bytes of a delta went: layer by layer, and file by file where the sources are at hand. */
import { closeSync, constants, openSync } from 'node:fs';
import type { ByteSource } from '../bytes/io.ts';
import { accountDelta, type Spending } from '../delta/account.ts';
import { addMember, type Member } from '../delta/members.ts';
import type { FindTar } from '../delta/rebuild.ts';
import { VeneerError } from '../errors.ts';
import { fileSource } from '../store/data-files.ts';
import { TarScanner } from '../tar/scan.ts';
import type { DeltaLayer } from './artifact.ts';
import type { LocateDelta } from './delta-blobs.ts';
import { rebuildLayer } from './layer-delta.ts';
import type { OpenDelta } from './open-delta.ts';
import { rangeSource } from './range-source.ts';

export interface FileSpending extends Spending {
  /** Byte string, as the tar has it. */
  readonly path: string;
  /** Bytes of the file. */
  readonly size: number;
}

export interface LayerSpending extends DeltaLayer {
  /** Bytes of its delta. */
  readonly deltaSize: number;
  /** Of the whole layer; null when the source has it. */
  readonly total: Spending | null;
  /** In the order of the tar; null without sources. */
  readonly files: readonly FileSpending[] | null;
}

/** `findTar`: the sources, or null when they are not here. */
export async function inspectDelta(
  delta: OpenDelta,
  locate: LocateDelta,
  findTar: FindTar | null,
): Promise<LayerSpending[]> {
  const layers: LayerSpending[] = [];
  for (const layer of delta.config.layers) {
    if (layer.delta === null) {
      layers.push({ ...layer, deltaSize: 0, total: null, files: null });
      continue;
    }
    const range = await locate(layer.delta);
    const fd = openSync(range.path, constants.O_RDONLY);
    try {
      const bytes = rangeSource(fileSource(fd, range.path), range);
      const members = findTar === null ? null : membersOf(delta, layer, bytes, findTar);
      const accounts = accountDelta(bytes, members ?? []);
      const files =
        members?.map(({ path, size }, i): FileSpending => ({ path, size, ...accounts[i]! })) ?? null;
      layers.push({ ...layer, deltaSize: bytes.size, total: sum(accounts), files });
    } finally {
      closeSync(fd);
    }
  }
  return layers;
}

/** The members of the target's tar, which has to be rebuilt for that. */
function membersOf(delta: OpenDelta, layer: DeltaLayer, bytes: ByteSource, findTar: FindTar): Member[] {
  const members: Member[] = [];
  const scanner = new TarScanner({ onEntry: (entry) => addMember(members, entry, layer.size) });
  try {
    for (const piece of rebuildLayer(layer, delta.config, bytes, findTar)) scanner.write(piece);
    scanner.end();
  } catch (cause) {
    if (!(cause instanceof VeneerError) || !cause.code.startsWith('tar/')) throw cause;
    const what = `Cannot tell the files of layer ${layer.diffId}: what the delta leads to is no sound tar`;
    throw new VeneerError('delta/mismatch', `${what}: ${cause.message}`, { cause });
  }
  return members;
}

function sum(accounts: readonly Spending[]): Spending {
  const total: Spending = { copied: 0, patched: 0, changed: 0, literal: 0, cost: 0 };
  for (const account of accounts) {
    total.copied += account.copied;
    total.patched += account.patched;
    total.changed += account.changed;
    total.literal += account.literal;
    total.cost += account.cost;
  }
  return total;
}
