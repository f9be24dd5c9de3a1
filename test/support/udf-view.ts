/** What a UDF volume must show of a tree, said independently of the planner: everything that has a place in UDF. */
import { type FileTree, S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, TreeNode } from '../../src/tree/node.ts';

export interface ViewOptions {
  readonly names: 'bytes' | 'unicode';
  readonly whiteouts: 'sidecar' | 'literal';
}

/**
 * Linux shows what has only a dot or two before its extension, which is up to four characters, as another name.
 */
function isShownOtherwise(text: string): boolean {
  const dot = text.lastIndexOf('.');
  const extension = text.length - dot - 1;
  return ['.', '..'].includes(text.slice(0, Math.max(dot, 0))) && extension >= 1 && extension <= 4;
}

/** UDF 2.1.1: 255 bytes for a name, one of which says how wide its characters are; the kernel gives 254 bytes back. */
function hasPlace(name: string, { names }: ViewOptions): boolean {
  if (name.length > 254) return false;
  if (names === 'bytes') return !isShownOtherwise(name);
  const bytes = Buffer.from(name, 'latin1');
  const text = bytes.toString('utf8');
  if (!Buffer.from(text, 'utf8').equals(bytes) || isShownOtherwise(text)) return false;
  return [...text].every((char) => char.codePointAt(0)! <= 0xff) || text.length <= 127;
}

/** The target with single slashes, or null when it does not fit one block of path components. */
function heldTarget(target: string, options: ViewOptions): string | null {
  const absolute = target.startsWith('/');
  const parts = target.split('/').filter((part) => part !== '');
  let size = absolute ? 4 : 0;
  for (const part of parts) {
    if (part !== '.' && part !== '..' && !hasPlace(part, options)) return null;
    const text = Buffer.from(part, 'latin1').toString('utf8');
    const wide = options.names === 'unicode' && [...text].some((char) => char.codePointAt(0)! > 0xff);
    const characters = options.names === 'bytes' ? part.length : wide ? 2 * text.length : text.length;
    size += 4 + (part === '.' || part === '..' ? 0 : 1 + characters);
  }
  return size > 512 ? null : (absolute ? '/' : '') + parts.join('/');
}

const FIRST = Date.UTC(2001, 0, 1) / 1000 - 2000 * 365.2425 * 86_400;
const LAST = Date.UTC(9999, 11, 31, 23, 59, 59) / 1000;

function copyHeld(node: TreeNode): TreeNode {
  const copy = new TreeNode(node.mode);
  copy.uid = node.uid;
  copy.gid = node.gid;
  copy.mtime = Math.min(Math.max(node.mtime, FIRST), LAST);
  copy.mtimeNsec = node.mtimeNsec - (node.mtimeNsec % 1000);
  copy.size = node.size;
  copy.devMajor = node.devMajor;
  copy.devMinor = node.devMinor;
  copy.source = node.source;
  copy.at = node.at;
  copy.extents = node.extents;
  return copy;
}

/** The tree that a volume of `tree` must be read back as, by us and by the kernel. */
export function heldTree(tree: FileTree, options: ViewOptions): FileTree {
  const copies = new Map<TreeNode, TreeNode>();
  const root = copyHeld(tree.root);
  const pending: [TreeNode, TreeNode][] = [[tree.root, root]];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const [from, to] = next;
    if (options.whiteouts === 'literal') {
      to.opaque = from.opaque;
      const names = [...(from.whiteouts ?? [])].filter((name) => hasPlace(`.wh.${name}`, options));
      if (names.length > 0) to.whiteouts = new Set(names);
    }
    for (const [name, child] of from.children!) {
      const whiteout = (child.mode & S_IFMT) === S_IFCHR && child.devMajor === 0 && child.devMinor === 0;
      if (whiteout || child.lowerLink !== null || !hasPlace(name, options)) continue;
      let copy = copies.get(child);
      if (copy === undefined) {
        copy = copyHeld(child);
        if ((child.mode & S_IFMT) === S_IFLNK) {
          const target = heldTarget(child.target, options);
          if (target === null) continue;
          copy.target = target;
          copy.size = target.length;
        }
        if ((child.mode & S_IFMT) === S_IFREG && copy.extents?.length === 0) copy.extents = null;
        copies.set(child, copy);
        if ((child.mode & S_IFMT) === S_IFDIR) pending.push([child, copy]);
      }
      to.children!.set(name, copy);
    }
  }
  return { root, sources: tree.sources, findings: [] };
}
