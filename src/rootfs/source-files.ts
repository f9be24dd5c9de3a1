/** Which open layer each source of a merged tree is. */
import type { FileTree } from '../tree/node.ts';
import type { OpenLayer } from './open-layers.ts';

/** Open files, one for each source of a tree that was merged of these layers; -1 for a source of none of them. */
export function filesOf({ sources }: Pick<FileTree, 'sources'>, layers: readonly OpenLayer[]): number[] {
  const files = new Map(layers.map(({ tree, file }) => [tree.sources[0]?.digest, file]));
  return sources.map(({ digest }) => files.get(digest) ?? -1);
}
