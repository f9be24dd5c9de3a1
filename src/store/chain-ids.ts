/** ChainIDs of images in a store. */
import { chainIds } from '../oci/digest.ts';
import { EMPTY_CHAIN } from './layout.ts';
import type { ImageRecord } from './records.ts';

/** ChainID of a list of diffIDs, bottom first; {@link EMPTY_CHAIN} for none. */
export function chainOf(diffIds: readonly string[]): string {
  return chainIds(diffIds).at(-1) ?? EMPTY_CHAIN;
}

/** Every chain that may be stored for an image: the whole one, and each prefix (see linked/). */
export function imageChains(image: ImageRecord): string[] {
  if (image.layers.length === 0) return [EMPTY_CHAIN];
  return chainIds(image.layers.map((layer) => layer.diffId));
}
