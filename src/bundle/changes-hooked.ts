/** What was changed in a root file system, as a hook tells it: the names, or the upper directory of an overlayfs. */
import { join } from 'node:path';
import { type HookSession, readDeltas } from '../hooks/index.ts';
import { upperPath } from '../mount/upper.ts';
import type { OverlayNamespace } from '../rootfs/overlay-facts.ts';
import { type DirectoryTree, readDirectoryTree } from '../rootfs/read-directory.ts';
import { type ChangedName, readChangedNames } from '../rootfs/read-names.ts';
import type { TreeNode } from '../tree/node.ts';
import { joinPath } from '../tree/path.ts';
import { type BundleState, describeRoot, OVERLAY_NAME } from './bundle-state.ts';
import { DiskTree } from './disk-tree.ts';
import type { Change } from './find-changes.ts';
import type { ProvenNode } from './inode-proofs.ts';
import type { Masks } from './masks.ts';
import { UpperReading } from './upper-record.ts';

export type ToldChanges =
  | { readonly kind: 'names'; readonly names: readonly ChangedName[] }
  | {
      readonly kind: 'upper';
      readonly path: string;
      readonly xattrs: OverlayNamespace;
      /** What was in it when the bundle was refreshed; null: it never was. */
      readonly since: ProvenNode | null;
    };

/** Null when nobody can tell. `record`: what was in the upper directory when the bundle was refreshed. */
export async function toldChanges(
  session: HookSession | null,
  bundle: string,
  state: BundleState | null,
  record: () => ProvenNode | null,
): Promise<ToldChanges | null> {
  /** Once refreshed, it lacks deletions of what the new image has: it has no whiteouts for what no lower layer had. */
  const inUpper = (path: string, xattrs: OverlayNamespace): ToldChanges | null => {
    if (state === null || state.deltas) return { kind: 'upper', path, xattrs, since: null };
    const since = record();
    return since === null ? null : { kind: 'upper', path, xattrs, since };
  };
  const answer = await session?.ask('repack.ociv1.delta-list', {});
  if (answer != null) {
    const { reply, hook } = answer;
    if ('paths' in reply) return { kind: 'names', names: await readDeltas(reply.paths, hook.name) };
    return inUpper(reply.overlay, reply.xattrs);
  }
  if (state?.storage !== 'overlay') return null;
  return inUpper(upperPath(join(bundle, OVERLAY_NAME)), 'trusted');
}

export interface ToldLayer extends DirectoryTree {
  readonly changes: ReadonlyMap<string, Change>;
  readonly record: ProvenNode | null;
}

export interface LayerReading {
  readonly rootfs: string;
  readonly options: Parameters<typeof readChangedNames>[2];
  readonly masks: Masks;
  /** What the root directory was, as {@link BundleState.root} has it. */
  readonly oldRoot: string | undefined;
  /** What is read is to be recorded. */
  readonly refresh: boolean;
}

/**
 * The layer that they make, without what is masked; `changes` tells what is in it. `record`: what is in the upper
 * directory by now. Null when the upper directory hides all that was in a directory, something masked among it: that is
 * to stay, and only who knows the names of all the rest can say so.
 */
export async function readTold(told: ToldChanges, reading: LayerReading): Promise<ToldLayer | null> {
  const { rootfs, options, masks } = reading;
  if (told.kind === 'upper') return readUpper(told, reading);
  const names = told.names.filter(({ path }) => !masks.has(path));
  const read = await readChangedNames(rootfs, names, options);
  return { ...read, changes: maskTree(read.tree.root, masks.has), record: null };
}

async function readUpper(
  { path, xattrs, since }: ToldChanges & { kind: 'upper' },
  { options, masks, oldRoot, refresh }: LayerReading,
): Promise<ToldLayer | null> {
  if (refresh) flushFiles(path, since);
  const noting = new UpperReading();
  const read = await readDirectoryTree(path, { ...options, overlay: xattrs, onNode: noting.onNode });
  const { root } = read.tree;
  const record = refresh ? noting.record(root) : null;
  if (since !== null) noting.keepChanges(root, since);
  // It has a root whether that was changed or not.
  else if (describeRoot(root) === oldRoot) root.implied = true;
  if (hidesMasked(root, masks)) {
    read.data.close();
    return null;
  }
  return { ...read, changes: maskTree(root, masks.has), record };
}

function hidesMasked(root: TreeNode, masks: Masks): boolean {
  const pending: [path: string, dir: TreeNode][] = [['', root]];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const [path, dir] = next;
    if (!masks.hasBelow(path)) continue;
    if (dir.opaque) return true;
    for (const [name, child] of dir.children!)
      if (child.children !== null) pending.push([joinPath(path, name), child]);
  }
  return false;
}

/** So that who has mapped a file into memory gives it a new time by writing. */
function flushFiles(path: string, since: ProvenNode | null): void {
  const disk = new DiskTree(path, since);
  try {
    disk.flush();
  } finally {
    disk.close();
  }
}

/** Takes names out of the tree that do not count; returns those that are left. */
function maskTree(root: TreeNode, isMasked: (path: string) => boolean): Map<string, Change> {
  const changes = new Map<string, Change>();
  if (!root.implied) changes.set('', 'modified');
  const pending: [path: string, dir: TreeNode][] = [['', root]];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const [path, dir] = next;
    for (const name of dir.whiteouts ?? []) {
      const own = joinPath(path, name);
      if (isMasked(own)) dir.whiteouts!.delete(name);
      else changes.set(own, 'missing');
    }
    for (const [name, child] of dir.children!) {
      const own = joinPath(path, name);
      if (isMasked(own)) dir.children!.delete(name);
      else {
        if (!child.implied) changes.set(own, 'modified');
        if (child.children !== null) pending.push([own, child]);
      }
    }
  }
  return changes;
}
