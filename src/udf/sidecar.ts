/**
 * Sidecars: small trees of what a UDF volume cannot say, for overlayfs to lay over and under it.
 *
 * - The *attribute* sidecar goes above the volume. It has every inode of which the volume lacks something, and
 *   the directories on the way. Where the volume has a file's data under the same name, the sidecar has none:
 *   overlayfs takes it from below (`metacopy=on`, Documentation/filesystems/overlayfs.rst, "Metadata only copy up").
 * - The *whiteout* sidecar goes right below its own layer's volume, so that it hides what lies deeper and
 *   nothing of its layer: whiteouts and opaque directories.
 */
import { copyAttributes } from '../tree/merge.ts';
import { type FileTree, S_IFDIR, S_IFMT, S_IFREG, TreeNode } from '../tree/node.ts';
import { isWhiteoutDevice, type Unheld } from './unheld.ts';

/** On a file whose data is in a lower layer, under the same name. */
export const XATTR_METACOPY = 'trusted.overlay.metacopy';

/** A directory on the way of a walk, and what it became in the sidecar. */
interface Frame {
  readonly node: TreeNode;
  readonly above: Frame | null;
  readonly name: string;
  made: TreeNode | null;
}

const isDirectory = (node: TreeNode): boolean => (node.mode & S_IFMT) === S_IFDIR;

/** The sidecar's directory for `frame`, made with those above it when it is not there yet. */
function ensure(frame: Frame): TreeNode {
  const missing: Frame[] = [];
  for (let at: Frame | null = frame; at !== null && at.made === null; at = at.above) missing.push(at);
  for (const one of missing.reverse()) {
    one.made = new TreeNode(one.node.mode);
    copyAttributes(one.node, one.made);
    if (one.above !== null) one.above.made!.children!.set(one.name, one.made);
  }
  return frame.made!;
}

/** Visits all directories, parents first; returns the root's frame. */
function walkFrames(root: TreeNode, visit: (frame: Frame) => void): Frame {
  const top: Frame = { node: root, above: null, name: '', made: null };
  const pending = [top];
  for (let frame = pending.pop(); frame !== undefined; frame = pending.pop()) {
    visit(frame);
    for (const [name, child] of frame.node.children!) {
      if (isDirectory(child)) pending.push({ node: child, above: frame, name, made: null });
    }
  }
  return top;
}

function asTree(tree: FileTree, top: Frame): FileTree | null {
  if (top.made === null) return null;
  // nothing is mapped: a sidecar is one small file of its own, whatever block size it gets
  const sources = tree.sources.map((source) => ({ ...source, alignment: 1 }));
  return { root: top.made, sources, findings: [] };
}

/** The attribute sidecar, or null when the volume holds everything. */
export function attributeSidecar(tree: FileTree, unheld: Unheld): FileTree | null {
  if (unheld.partial.size === 0 && unheld.missing.size === 0) return null;
  const copies = new Map<TreeNode, TreeNode>();
  const top = walkFrames(tree.root, (frame) => {
    if (unheld.partial.has(frame.node) || unheld.missing.has(frame.node)) ensure(frame);
    for (const [name, child] of frame.node.children!) {
      if (isDirectory(child)) continue;
      if (!unheld.partial.has(child) && !unheld.missing.has(child)) continue;
      let copy = copies.get(child);
      if (copy === undefined) copies.set(child, (copy = copyInode(child, unheld.missing.has(child))));
      ensure(frame).children!.set(name, copy);
    }
  });
  return asTree(tree, top);
}

function copyInode(node: TreeNode, withData: boolean): TreeNode {
  const copy = new TreeNode(node.mode);
  copyAttributes(node, copy);
  copy.size = node.size;
  copy.target = node.target;
  copy.devMajor = node.devMajor;
  copy.devMinor = node.devMinor;
  if (withData) {
    copy.source = node.source;
    copy.at = node.at;
    copy.extents = node.extents;
  } else if ((node.mode & S_IFMT) === S_IFREG && node.size > 0) {
    const xattrs = [...(node.xattrs ?? []), [XATTR_METACOPY, ''] as const];
    copy.xattrs = new Map(xattrs.sort(([a], [b]) => (a < b ? -1 : 1)));
  }
  return copy;
}

/** The whiteout sidecar, or null when the layer hides nothing. */
export function whiteoutSidecar(tree: FileTree): FileTree | null {
  const top = walkFrames(tree.root, (frame) => {
    const { children, whiteouts, opaque } = frame.node;
    const hidden = new Set(whiteouts);
    for (const [name, child] of children!) if (isWhiteoutDevice(child)) hidden.add(name);
    if (hidden.size === 0 && !opaque) return;
    const made = ensure(frame);
    if (hidden.size > 0) made.whiteouts = hidden;
    made.opaque = opaque;
  });
  // its directories never show their attributes: the layer's own lie above them
  return asTree(tree, top);
}
