/** Walks over whole trees. Iterative: a hostile tree may be as deep as its builder's limit. */
import { type DataSource, type FileTree, S_IFDIR, S_IFMT, type TreeNode } from './node.ts';
import { joinPath } from './path.ts';

/** `path` is a byte string from the root, without a leading slash; '' and a null parent for the root itself. */
export type Visit = (path: string, node: TreeNode, parent: TreeNode | null) => void;

/** One name: its path as {@link Visit} has it, the node, the directory that has the name. */
export type Named = readonly [path: string, node: TreeNode, parent: TreeNode | null];

/**
 * Every name, depth-first, a directory before what is in it, names of one
 * directory sorted as bytes. A hard-linked inode comes once a name.
 */
export function* namesOf(tree: Pick<FileTree, 'root'>): Generator<Named> {
  yield ['', tree.root, null];
  const dirs: TreeNode[] = [tree.root];
  const paths: string[] = [''];
  const names: string[][] = [sortedNames(tree.root)];
  while (dirs.length > 0) {
    const top = dirs.length - 1;
    const name = names[top]!.pop();
    if (name === undefined) {
      dirs.pop();
      paths.pop();
      names.pop();
      continue;
    }
    const parent = dirs[top]!;
    const node = parent.children!.get(name)!;
    const path = joinPath(paths[top]!, name);
    yield [path, node, parent];
    if ((node.mode & S_IFMT) === S_IFDIR) {
      dirs.push(node);
      paths.push(path);
      names.push(sortedNames(node));
    }
  }
}

/** Visits every name in the order of {@link namesOf}. */
export function walkTree(tree: FileTree, visit: Visit): void {
  for (const [path, node, parent] of namesOf(tree)) visit(path, node, parent);
}

/** Last name first, so that the walk can take them off the end. */
function sortedNames(dir: TreeNode): string[] {
  return [...dir.children!.keys()].sort().reverse();
}

/**
 * Link count (`st_nlink`) of every inode: names of a non-directory; two and one
 * more a subdirectory for a directory, as disk file systems count them.
 * The map's size is the number of inodes.
 */
export function countLinks(tree: Pick<FileTree, 'root'>): Map<TreeNode, number> {
  const links = new Map<TreeNode, number>();
  const dirs: TreeNode[] = [tree.root];
  for (let dir = dirs.pop(); dir !== undefined; dir = dirs.pop()) {
    let own = 2;
    for (const child of dir.children!.values()) {
      if ((child.mode & S_IFMT) === S_IFDIR) {
        own++;
        dirs.push(child);
      } else {
        links.set(child, (links.get(child) ?? 0) + 1);
      }
    }
    links.set(dir, own);
  }
  return links;
}

/** The sources that some file's data stands in, in the order of `tree.sources`. */
export function usedSources(tree: FileTree): DataSource[] {
  const used = new Uint8Array(tree.sources.length);
  const pending = [tree.root];
  for (let node = pending.pop(); node !== undefined; node = pending.pop()) {
    for (const child of node.children!.values()) {
      if (child.children !== null) pending.push(child);
      else if (child.extents !== null) for (const { source } of child.extents) used[source] = 1;
      else if (child.source >= 0 && child.size > 0) used[child.source] = 1;
    }
  }
  return tree.sources.filter((_, source) => used[source] === 1);
}
