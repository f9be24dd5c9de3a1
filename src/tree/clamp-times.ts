/** Times of a layer that shall be the same whenever it is made. */
import type { FileTree } from './node.ts';
import { namesOf } from './walk.ts';

/** Later times become `latest`, seconds since the epoch, as with tar's --clamp-mtime. */
export function clampTimes(tree: Pick<FileTree, 'root'>, latest: number): void {
  for (const [, node] of namesOf(tree)) {
    if (node.mtime < latest) continue;
    node.mtime = latest;
    node.mtimeNsec = 0;
  }
}
