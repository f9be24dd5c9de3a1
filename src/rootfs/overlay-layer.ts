/** A layer as overlayfs wants it in a directory: whiteouts are devices, opaque directories have an attribute. */
import { S_IFCHR, TreeNode } from '../tree/node.ts';

const OPAQUE = 'trusted.overlay.opaque';
/** With it overlayfs reads a directory as a merged one, and hides the whiteouts in it whatever is below. */
const ORIGIN = 'trusted.overlay.origin';

/** Turns the facts of the tree into what stands for them. Changes the tree. */
export function asOverlayLayer(root: TreeNode): void {
  const dirs = [root];
  for (let dir = dirs.pop(); dir !== undefined; dir = dirs.pop()) {
    for (const child of dir.children!.values()) if (child.children !== null) dirs.push(child);
    const marks: [name: string, value: string][] = [];
    if (dir.whiteouts !== null) marks.push([ORIGIN, '']);
    if (dir.opaque) marks.push([OPAQUE, 'y']);
    for (const name of dir.whiteouts ?? []) dir.children!.set(name, new TreeNode(S_IFCHR));
    dir.whiteouts = null;
    dir.opaque = false;
    if (marks.length > 0) dir.xattrs = new Map([...(dir.xattrs ?? []), ...marks]);
  }
}
