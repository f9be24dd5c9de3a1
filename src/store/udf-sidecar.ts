/** Sidecars as files: self-contained EROFS images with blocks that every kernel since 5.4 mounts. */
import type { ByteSink } from '../bytes/io.ts';
import { planImage, type ReadData, writeImage } from '../erofs/index.ts';
import type { FileTree } from '../tree/index.ts';
import { attributeSidecar, type UdfPlan, whiteoutSidecar } from '../udf/index.ts';

/** Smaller ones need Linux 6.4, and kernels that old or newer have EROFS for the whole layer. */
const SIDECAR_BLOCK_SIZE = 4096;

/** The sidecars of a planned volume: null where there is nothing to say. */
export interface Sidecars {
  /** Goes above the volume; overlayfs needs `metacopy=on,redirect_dir=follow` for it. */
  readonly attributes: FileTree | null;
  /** Goes right below the volume of its own layer. */
  readonly whiteouts: FileTree | null;
}

/** `tree` is what was planned. Literal whiteouts are the volume's own, and for programs that know no sidecars. */
export function sidecarsOf(tree: FileTree, plan: UdfPlan): Sidecars {
  if (plan.options.whiteouts === 'literal') return { attributes: null, whiteouts: null };
  return { attributes: attributeSidecar(tree, plan.unheld), whiteouts: whiteoutSidecar(tree) };
}

/** Writes one sidecar; returns its bytes. */
export function writeSidecar(sidecar: FileTree, sink: ByteSink, read: ReadData): number {
  const plan = planImage(sidecar, { blockSize: SIDECAR_BLOCK_SIZE });
  writeImage(plan, sink, read);
  return plan.size;
}
