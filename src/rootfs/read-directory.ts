/**
 * Reads a directory of the host as a tree: a whole root file system, or the upper directory of an overlayfs as the
 * layer that it is. Nothing outside the directory is looked at, whoever renames and links in it meanwhile.
 */
import { closeSync, constants, readdirSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { openBeneath } from '../sys/open-beneath.ts';
import type { FileTree, TreeNode } from '../tree/node.ts';
import { joinPath } from '../tree/path.ts';
import { settleWhiteouts } from '../tree/whiteout.ts';
import { DirectoryData } from './directory-data.ts';
import { InodeReader, type ReadDir, type ReadOptions } from './inode-reader.ts';
import { ifThere, withAccess } from './lend-access.ts';

export type ReadDirectoryOptions = ReadOptions;

export interface DirectoryTree {
  /** `sources[0]` is the directory. */
  readonly tree: FileTree;
  /** Its bytes. To be closed. */
  readonly data: DirectoryData;
}

/** The event loop gets a turn after so many names. */
const TURN_NAMES = 2000;

/**
 * The tree of `path`. What vanishes while it is read was never there. Throws `rootfs/overlay` for upper directories
 * that do not tell all, `rootfs/unmapped-id` for owners that the container does not have, `tree/limit`, and the
 * signal's reason.
 */
export async function readDirectoryTree(
  path: string | Buffer,
  options: ReadOptions = {},
): Promise<DirectoryTree> {
  return readTree(path, options, async (reader, data) => {
    const root = reader.readRoot();
    await readBelow(reader, data, [root], options.signal);
    return root.node;
  });
}

/** What both ways of reading have around them. */
export async function readTree(
  path: string | Buffer,
  options: ReadOptions,
  read: (reader: InodeReader, data: DirectoryData) => Promise<TreeNode>,
): Promise<DirectoryTree> {
  const data = new DirectoryData(path);
  try {
    const reader = new InodeReader(data, options);
    const root = await read(reader, data);
    const source = { kind: 'directory', digest: '', size: data.size, alignment: 1 } as const;
    return { tree: { root, sources: [source], findings: reader.findings.list() }, data };
  } catch (error) {
    data.close();
    throw error;
  }
}

/** Reads all that is in these directories. */
export async function readBelow(
  reader: InodeReader,
  data: DirectoryData,
  pending: ReadDir[],
  signal: AbortSignal | undefined,
): Promise<void> {
  const opaque: TreeNode[] = [];
  let sinceTurn = 0;
  for (let dir = pending.pop(); dir !== undefined; dir = pending.pop()) {
    if (dir.node.opaque) opaque.push(dir.node);
    // Sorted, and directories taken from the end of the list, so that they come in order too.
    const below = readNames(reader, data, dir);
    for (const one of below.reverse()) pending.push(one);
    sinceTurn += dir.node.children!.size + 1;
    if (sinceTurn < TURN_NAMES) continue;
    sinceTurn = 0;
    await nextTurn();
    signal?.throwIfAborted();
  }
  settleWhiteouts([], opaque);
}

/** Returns the directories that are in it. */
function readNames(reader: InodeReader, data: DirectoryData, dir: ReadDir): ReadDir[] {
  const found = ifThere(() =>
    withAccess(data.root, dir.path, () => {
      const fd = openBeneath(data.root, dir.path, constants.O_RDONLY | constants.O_DIRECTORY);
      try {
        return { fd, names: readdirSync(`/proc/self/fd/${fd}`, { encoding: 'latin1' }).sort() };
      } catch (error) {
        closeSync(fd);
        throw error;
      }
    }),
  );
  if (found === null) return [];
  try {
    return found.names.flatMap((name) => reader.read(dir, name, joinPath(dir.path, name), found.fd) ?? []);
  } finally {
    closeSync(found.fd);
  }
}
