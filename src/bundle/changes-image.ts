/** What was changed in a root file system, when nothing but the image says what it was: all of it is compared. */
import { diffTrees } from '../diff/index.ts';
import { fileSource } from '../rootfs/file-source.ts';
import { adaptToHost, isPortableXattr } from '../rootfs/host-tree.ts';
import { type LayerBlob, withLayers } from '../rootfs/open-layers.ts';
import type { OwnerMaps } from '../rootfs/owners.ts';
import { readDirectoryTree } from '../rootfs/read-directory.ts';
import { filesOf } from '../rootfs/source-files.ts';
import { mergeLayers } from '../tree/index.ts';
import type { LinkPolicy } from '../tree/merge.ts';
import type { FileTree, TreeNode } from '../tree/node.ts';
import { walkTree } from '../tree/walk.ts';
import type { Change } from './find-changes.ts';

export interface ImageComparison {
  readonly rootfs: string;
  readonly blobs: readonly LayerBlob[];
  readonly maps: OwnerMaps;
  /** As when the root file system was made. */
  readonly links: LinkPolicy;
  /** A folder with room for the layers. */
  readonly temporary: string;
  readonly signal?: AbortSignal | undefined;
}

/** By path; of what is missing only the topmost name. Of an inode with several names all of them. */
export async function changesAgainstImage(comparison: ImageComparison): Promise<Map<string, Change>> {
  const { rootfs, blobs, maps, links, temporary, signal } = comparison;
  const signals = signal === undefined ? {} : { signal };
  return withLayers(blobs, { temporary, signal }, async (layers) => {
    const image = mergeLayers(
      layers.map(({ tree }) => tree),
      links,
    );
    adaptToHost(image, maps);
    const found = await readDirectoryTree(rootfs, { keepXattr: isPortableXattr, ...signals });
    try {
      const files = filesOf(image, layers);
      const sources = image.sources.map(({ size }, index) => fileSource(files[index]!, size));
      const changes = await diffTrees(
        { root: image.root, sources: sources.map(() => ''), data: (index) => sources[index]! },
        { root: found.tree.root, sources: [''], data: () => found.data },
        { renames: false, ...signals },
      );
      const names = namesOfInodes(found.tree);
      const byPath = new Map<string, Change>();
      for (const { kind, place, new: node } of changes) {
        const path = place.path();
        byPath.set(path, kind === 'removed' ? 'missing' : kind === 'added' ? 'extra' : 'modified');
        for (const other of names.get(node as TreeNode) ?? [])
          if (!byPath.has(other)) byPath.set(other, 'modified');
      }
      return topmost(byPath);
    } finally {
      found.data.close();
    }
  });
}

/** The names of inodes that have several. */
function namesOfInodes(tree: FileTree): Map<TreeNode, string[]> {
  const names = new Map<TreeNode, string[]>();
  walkTree(tree, (path, node) => {
    if (node.children !== null) return;
    const known = names.get(node);
    if (known === undefined) names.set(node, [path]);
    else known.push(path);
  });
  for (const [node, list] of names) if (list.length < 2) names.delete(node);
  return names;
}

/** Leaves out what is missing because the directory that it was in is. */
function topmost(changes: ReadonlyMap<string, Change>): Map<string, Change> {
  const parentOf = (path: string): string => path.slice(0, Math.max(path.lastIndexOf('/'), 0));
  return new Map(
    [...changes].filter(
      ([path, change]) => change !== 'missing' || changes.get(parentOf(path)) !== 'missing',
    ),
  );
}
