/** Records of stored chains. Apart from chains.ts so that a mount of what is stored loads no tree or image code. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { VeneerError } from '../errors.ts';
import { chainOf } from './chain-ids.ts';
import { CHAIN_FACTS } from './layout.ts';
import { type ChainRecord, type LayerRecord, readChainRecord } from './records.ts';
import type { Store } from './store.ts';

/** True when the merged image of the chain is stored. */
export function hasChain(store: Store, chainId: string): boolean {
  return statSync(store.layout.chain(chainId), { throwIfNoEntry: false })?.isDirectory() ?? false;
}

/** Does a stack of layers need an image of this layer made for the very chain? Of the roots only the topmost shows. */
export function leansOnChain(layer: LayerRecord, topmost: boolean): boolean {
  return layer.needsChain || (topmost && !layer.namesRoot);
}

/** Reads chains/HEX/chain.json or linked/HEX/chain.json; null when it is not there. Throws `store/corrupt`. */
export function findChainRecord(directory: string, chainId: string): ChainRecord | null {
  let record: ChainRecord;
  try {
    record = readChainRecord(join(directory, CHAIN_FACTS));
  } catch (error) {
    if (error instanceof VeneerError && error.code === 'store/missing') return null;
    throw error;
  }
  if (record.chainId === chainId && chainOf(record.diffIds) === chainId) return record;
  throw new VeneerError('store/corrupt', `Cannot read ${directory}: it is about another chain`, {
    hint: 'run `veneer fsck --repair`',
  });
}
