/** The upper directory of a writable snapshot as a layer: what the container changed, and nothing else. */
import { readDirectoryTree } from '../rootfs/read-directory.ts';
import { clampTimes } from '../tree/clamp-times.ts';
import { fillPiece } from '../tree/file-data.ts';
import { layerTar } from '../tree/layer-tar.ts';
import type { TreeNode } from '../tree/node.ts';
import { dropUnchanged } from './unchanged.ts';
import { isFreshRoot } from './upper.ts';

export interface UpperLayerOptions {
  /** SOURCE_DATE_EPOCH, seconds: no time in the layer is later. */
  readonly epoch?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What an upper directory covers. */
export type Below =
  /** It is no upper directory but all there is. */
  | { readonly kind: 'nothing' }
  /** Where it is mounted. */
  | { readonly kind: 'mounted'; readonly path: string }
  /** Layers that nobody has looked at from here: the directory has not got the attributes of their root. */
  | { readonly kind: 'unseen' }
  /** The same, and whoever filled it did not know of them either: whiteouts are overlayfs's all the same ("rebase"). */
  | { readonly kind: 'later' };

export interface UpperLayer {
  readonly root: TreeNode;
  /** The layer's tar, once. Throws `rootfs/changed` when something is written meanwhile. */
  readonly pieces: Iterable<Buffer>;
  close(): void;
}

/** Where what is below is mounted, what overlayfs only copied up is left out. */
export async function readUpperLayer(
  upper: string,
  below: Below,
  { epoch, signal }: UpperLayerOptions = {},
): Promise<UpperLayer> {
  const { tree, data } = await readDirectoryTree(upper, {
    ...(below.kind === 'nothing' ? {} : { overlay: 'trusted' as const }),
    ...(signal === undefined ? {} : { signal }),
  });
  try {
    const read = (_: number, at: number, length: number): Buffer => data.read(at, length);
    // As it was made, but for the time, which every new name changes: the layer does not say what its root is like.
    if (below.kind === 'later' && isFreshRoot({ ...tree.root, mtime: 0, mtimeNsec: 0 }))
      tree.root.implied = true;
    if (below.kind === 'mounted') dropUnchanged(tree, read, below.path);
    if (epoch !== undefined) clampTimes(tree, epoch);
    const pieces = layerTar(tree, (node, from, piece) => fillPiece(node, from, piece, read), {
      whiteoutTime: epoch ?? 0,
    });
    return { root: tree.root, pieces, close: () => data.close() };
  } catch (error) {
    data.close();
    throw error;
  }
}
