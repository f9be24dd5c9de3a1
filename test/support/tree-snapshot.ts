/** Exact pictures of trees, from disk and from our own `FileTree`, in one shape that can be compared. */
import { createHash } from 'node:crypto';
import {
  type FileTree,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
  type TreeNode,
} from '../../src/tree/node.ts';
import type { ContentMode, Oracle } from './oracle.ts';

export type SnapshotType = 'file' | 'dir' | 'symlink' | 'char' | 'block' | 'fifo' | 'socket';

/** One name in a tree. Strings are byte strings. */
export interface SnapshotEntry {
  readonly type: SnapshotType;
  /** The low twelve bits of `st_mode`. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Bytes; 0 for directories, whose size means nothing. */
  readonly size: number;
  readonly mtime: number;
  readonly mtimeNsec: number;
  readonly devMajor: number;
  readonly devMinor: number;
  readonly target: string;
  /** All names of one inode show the first of them in byte order; '' for an inode with one name. */
  readonly hardLink: string;
  /** `st_nlink`; 0 for directories, where it means nothing. */
  readonly nlink: number;
  /** Name and value as one text, in name order. */
  readonly xattrs: string;
  /** Hex SHA-256 of a regular file's content; '' when content was not read, `!reason` when it cannot be. */
  readonly sha256: string;
}

/** Path from the root without leading slash ('' is the root) to what stands there. */
export type Snapshot = Map<string, SnapshotEntry>;

type Writable<T> = { -readonly [K in keyof T]: T[K] };

function showXattrs(pairs: ReadonlyArray<readonly [string, string]>): string {
  return pairs.map(([name, value]) => `${name}=${JSON.stringify(value)}`).join(' ');
}

/** Names the first path of each inode; `inodes` maps an inode to all its paths. */
function nameHardLinks(snapshot: Map<string, Writable<SnapshotEntry>>, inodes: Iterable<string[]>): void {
  for (const paths of inodes) {
    if (paths.length < 2) continue;
    const first = [...paths].sort()[0]!;
    for (const path of paths) snapshot.get(path)!.hardLink = first;
  }
}

/** Looks at a directory on disk: a mount or an extraction. `directory` is an ordinary string, its names may be any bytes. */
export async function snapshotDirectory(
  oracle: Pick<Oracle, 'ask'>,
  directory: string,
  content: ContentMode = 'all',
): Promise<Snapshot> {
  const snapshot = new Map<string, Writable<SnapshotEntry>>();
  const inodes = new Map<string, string[]>();
  const dir = Buffer.from(directory).toString('latin1');
  await oracle.ask({ do: 'snapshot', dir, content }, (row) => {
    const [path, type, mode, uid, gid, size, mtime, mtimeNsec, devMajor, devMinor] = row as [
      string,
      SnapshotType,
      ...number[],
    ] as [string, SnapshotType, number, number, number, number, number, number, number, number];
    const [target, nlink, inode, xattrs, sha256] = row.slice(10) as [
      string,
      number,
      string,
      [string, string][],
      string,
    ];
    snapshot.set(path, {
      type,
      mode,
      uid,
      gid,
      size,
      mtime,
      mtimeNsec,
      devMajor,
      devMinor,
      target,
      hardLink: '',
      nlink: type === 'dir' ? 0 : nlink,
      xattrs: xattrs.length === 0 ? '' : showXattrs(xattrs),
      sha256,
    });
    if (inode === '') return;
    const names = inodes.get(inode);
    if (names === undefined) inodes.set(inode, [path]);
    else names.push(path);
  });
  nameHardLinks(snapshot, inodes.values());
  return snapshot;
}

const TYPE_NAMES: ReadonlyMap<number, SnapshotType> = new Map([
  [S_IFREG, 'file'],
  [S_IFDIR, 'dir'],
  [S_IFLNK, 'symlink'],
  [S_IFCHR, 'char'],
  [S_IFBLK, 'block'],
  [S_IFIFO, 'fifo'],
  [S_IFSOCK, 'socket'],
]);

/** Reads `length` bytes at `at` of a data source. */
export type ReadData = (source: number, at: number, length: number) => Uint8Array | Promise<Uint8Array>;

const PIECE = 1 << 20;
const ZEROS = new Uint8Array(PIECE);
const BLOCK = 512;

/** Calls `onRun` for every run of data of a file, in file order, in pieces. */
async function readRuns(
  node: TreeNode,
  readData: ReadData,
  onPiece: (offset: number, piece: Uint8Array) => void,
): Promise<void> {
  const whole = { offset: 0, length: node.size, source: node.source, at: node.at };
  for (const { offset, length, source, at } of node.extents ?? (node.source >= 0 ? [whole] : [])) {
    for (let done = 0; done < length; ) {
      const piece = await readData(source, at + done, Math.min(PIECE, length - done));
      if (piece.length === 0) throw new Error(`data source ${source} ends at ${at + done}`);
      onPiece(offset + done, piece);
      done += piece.length;
    }
  }
}

async function hashAll(node: TreeNode, readData: ReadData): Promise<string> {
  const hash = createHash('sha256');
  let at = 0;
  const zeros = (upTo: number): void => {
    while (at < upTo) {
      const length = Math.min(ZEROS.length, upTo - at);
      hash.update(ZEROS.subarray(0, length));
      at += length;
    }
  };
  await readRuns(node, readData, (offset, piece) => {
    zeros(offset);
    hash.update(piece);
    at = offset + piece.length;
  });
  zeros(node.size);
  return hash.digest('hex');
}

/** As hash_sparse of the oracle process does it. */
async function hashSparse(node: TreeNode, readData: ReadData): Promise<string> {
  const hash = createHash('sha256');
  const block = Buffer.alloc(BLOCK);
  let begin = 0;
  let dirty = false;
  const flush = (): void => {
    if (dirty && block.some((byte) => byte !== 0)) {
      hash.update(`${begin} `).update(block.subarray(0, Math.min(BLOCK, node.size - begin)));
    }
    block.fill(0);
    dirty = false;
  };
  await readRuns(node, readData, (offset, piece) => {
    for (let i = 0; i < piece.length; i++) {
      const inBlock = (offset + i) % BLOCK;
      const at = offset + i - inBlock;
      if (at !== begin) {
        flush();
        begin = at;
      }
      block[inBlock] = piece[i]!;
      dirty = true;
    }
  });
  flush();
  return hash.digest('hex');
}

/**
 * The same picture from a tree of ours. Facts that only a layer has are shown as overlayfs
 * has them on disk: a whiteout is a character device 0:0, an opaque directory has
 * `trusted.overlay.opaque`.
 */
export async function snapshotTree(
  tree: FileTree,
  readData: ReadData,
  content: ContentMode = 'all',
): Promise<Snapshot> {
  const hash = { all: hashAll, sparse: hashSparse, none: () => '' }[content];
  const snapshot = new Map<string, Writable<SnapshotEntry>>();
  const inodes = new Map<TreeNode, string[]>();
  const pending: [string, TreeNode][] = [['', tree.root]];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const [path, node] = next;
    const type = TYPE_NAMES.get(node.mode & S_IFMT);
    if (type === undefined) throw new Error(`${path} has no known type: mode 0${node.mode.toString(8)}`);
    const xattrs = [...(node.xattrs ?? [])];
    if (node.opaque) xattrs.push(['trusted.overlay.opaque', 'y']);
    xattrs.sort(([a], [b]) => (a < b ? -1 : 1));
    const names = inodes.get(node);
    snapshot.set(path, {
      type,
      mode: node.mode & 0o7777,
      uid: node.uid,
      gid: node.gid,
      size: type === 'dir' ? 0 : node.size,
      mtime: node.mtime,
      mtimeNsec: node.mtimeNsec,
      devMajor: node.devMajor,
      devMinor: node.devMinor,
      target: node.target,
      hardLink: '',
      nlink: 0,
      xattrs: showXattrs(xattrs),
      sha256:
        type !== 'file'
          ? ''
          : names === undefined
            ? await hash(node, readData)
            : snapshot.get(names[0]!)!.sha256,
    });
    if (names === undefined) inodes.set(node, [path]);
    else names.push(path);
    const below = (name: string): string => (path === '' ? name : `${path}/${name}`);
    for (const [name, child] of node.children ?? []) pending.push([below(name), child]);
    for (const name of node.whiteouts ?? []) snapshot.set(below(name), { ...WHITEOUT });
  }
  nameHardLinks(snapshot, inodes.values());
  for (const paths of inodes.values()) {
    for (const path of paths) {
      const entry = snapshot.get(path)!;
      if (entry.type !== 'dir') entry.nlink = paths.length;
    }
  }
  return snapshot;
}

const WHITEOUT: SnapshotEntry = {
  type: 'char',
  mode: 0,
  uid: 0,
  gid: 0,
  size: 0,
  mtime: 0,
  mtimeNsec: 0,
  devMajor: 0,
  devMinor: 0,
  target: '',
  hardLink: '',
  nlink: 1,
  xattrs: '',
  sha256: '',
};

/** A mark on directories that overlayfs merges; its value, as shown, means nothing here. */
const ORIGIN = /(^| )trusted\.overlay\.origin="([^"\\]|\\.)*"/;

/** A per-layer image as overlayfs sees it: whiteouts have no attributes that matter, merge hints are left out. */
export function overlayView(snapshot: Snapshot): Snapshot {
  const view: Snapshot = new Map();
  for (const [path, entry] of snapshot) {
    if (entry.type === 'char' && entry.devMajor === 0 && entry.devMinor === 0) view.set(path, WHITEOUT);
    else view.set(path, { ...entry, xattrs: entry.xattrs.replace(ORIGIN, '').trimStart() });
  }
  return view;
}
