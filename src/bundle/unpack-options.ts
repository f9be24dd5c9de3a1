/** How an image is to be unpacked, and what writing makes of that. */
import type { Finding } from '../errors.ts';
import type { OwnerMaps } from '../rootfs/owners.ts';
import type { WriteProblem } from '../rootfs/write-batch.ts';
import type { WriteTreeOptions } from '../rootfs/write-tree.ts';
import type { FileTree } from '../tree/index.ts';
import type { OpenHooks } from './hooked-bundle.ts';

export interface UnpackOptions {
  readonly maps: OwnerMaps;
  /** Entries go through lower layers' symlinks to directories, instead of taking their place. */
  readonly keepDirlinks: boolean;
  readonly onFiles?: (done: number) => void;
  readonly signal?: AbortSignal | undefined;
  /** Bundles only. */
  readonly openHooks?: OpenHooks;
  /** Where else the tree of these layers is to be had, with files to share blocks with; null: nowhere. */
  readonly openStored?: (diffIds: readonly string[]) => Promise<StoredTree | null>;
}

/** The merged tree of an image, and the open files that hold its data, one a source. */
export interface StoredTree {
  readonly tree: FileTree;
  readonly files: readonly number[];
  close(): void;
}

export function writeOptions({ maps, onFiles, signal }: UnpackOptions): WriteTreeOptions {
  return {
    owners: !maps.rootless,
    bearable: (problem) => isBearable(problem, maps.rootless),
    ...(onFiles === undefined ? {} : { onFiles }),
    signal,
  };
}

/** Other file systems have no attributes, and some of them are root's to set. */
function isBearable({ what, errno }: WriteProblem, rootless: boolean): boolean {
  if (!what.startsWith('xattr ')) return false;
  return errno === 'ENOTSUP' || errno === 'EOPNOTSUPP' || (rootless && errno === 'EPERM');
}

export function findingOf({ path, what, message }: WriteProblem): Finding {
  return {
    code: 'rootfs/refused',
    message: `the ${what} is left out: ${message.replace(/^.*?: /, '')}`,
    path,
  };
}
