/** Is a directory what a tree says? Every name, every attribute, every byte. */
import { diffTrees } from '../diff/index.ts';
import type { FileTree } from '../tree/node.ts';
import { showPath } from '../tree/path.ts';
import { fileSource } from './file-source.ts';
import { isPortableXattr } from './host-tree.ts';
import type { OverlayNamespace } from './overlay-facts.ts';
import { asOverlayLayer } from './overlay-layer.ts';
import { readDirectoryTree } from './read-directory.ts';

export interface CompareOptions {
  /** The directory is a layer in overlayfs's form, and `expected` the layer's tree. */
  readonly overlay?: OverlayNamespace;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The first difference in words, or null when there is none. `files`: open files, one a source of `expected`, which is
 * used up. Owners are the host's on both sides.
 */
export async function findDifference(
  path: string,
  expected: FileTree,
  files: readonly number[],
  { overlay, signal }: CompareOptions,
): Promise<string | null> {
  const found = await readDirectoryTree(path, {
    keepXattr: isPortableXattr,
    ...(overlay === undefined ? {} : { overlay }),
    ...(signal === undefined ? {} : { signal }),
  });
  try {
    if (overlay !== undefined) for (const tree of [expected, found.tree]) asOverlayLayer(tree.root);
    const sources = expected.sources.map(({ size }, index) => fileSource(files[index]!, size));
    const [change] = await diffTrees(
      { root: expected.root, sources: sources.map(() => ''), data: (index) => sources[index]! },
      { root: found.tree.root, sources: [''], data: () => found.data },
      { renames: false, ...(signal === undefined ? {} : { signal }) },
    );
    if (change === undefined) return null;
    const what = { added: 'is there and should not be', removed: 'is missing' }[change.kind as string];
    return `${showPath(change.place.path())} ${what ?? `differs in its ${change.differs.join(', ')}`}`;
  } finally {
    found.data.close();
  }
}
