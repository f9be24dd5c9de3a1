/**
 * The tree that every format is written from and read back to.
 *
 * One `TreeNode` is one inode: a hard link is the same object under two names.
 * Names, link targets and xattrs are byte strings (one char = one byte), which
 * compare as bytes with `<`.
 */
import type { Finding } from '../errors.ts';

/** File types as in `st_mode & S_IFMT` (inode(7)). */
export const S_IFMT = 0o170000;
export const S_IFSOCK = 0o140000;
export const S_IFLNK = 0o120000;
export const S_IFREG = 0o100000;
export const S_IFBLK = 0o060000;
export const S_IFDIR = 0o040000;
export const S_IFCHR = 0o020000;
export const S_IFIFO = 0o010000;

/** A run of file data that stands in a data source. What no extent covers reads as zeros. */
export interface Extent {
  /** Offset in the file, bytes. */
  readonly offset: number;
  /** Bytes, > 0. */
  readonly length: number;
  /** Index into {@link FileTree.sources}. */
  readonly source: number;
  /** Byte offset in that source. */
  readonly at: number;
}

/** One inode. A class only so that all nodes share one shape, which keeps the walks fast. */
export class TreeNode {
  /** `st_mode`: type and the low twelve bits. */
  mode: number;
  uid = 0;
  gid = 0;
  /** Seconds since the epoch, a safe integer. */
  mtime = 0;
  mtimeNsec = 0;
  /** Bytes; for a symlink the length of its target, 0 for directories and special files. */
  size = 0;
  /** Device numbers of character and block devices. */
  devMajor = 0;
  devMinor = 0;
  /** Symlink target, or '' */
  target = '';
  /** Full name to value, in name order; null when there are none. */
  xattrs: Map<string, string> | null = null;
  /**
   * Where a regular file's bytes stand. `source` < 0: no data at all (empty, or one hole).
   * With `extents` null the whole file is one run at `at` in `source`; otherwise `extents`
   * rules (sorted, not overlapping) and `source`/`at` mean nothing.
   */
  source = -1;
  at = 0;
  extents: Extent[] | null = null;

  /** Directories only: name to child, in no particular order. */
  children: Map<string, TreeNode> | null = null;
  /** Directories only: names that this layer deletes below it; null when none. Never a name in `children`. */
  whiteouts: Set<string> | null = null;
  /** Directories only: nothing of the lower layers shows through. */
  opaque = false;
  /** Directories only: no layer entry names it, it exists as somebody's parent; attributes come from below. */
  implied = false;
  /** A hard link whose target this layer does not have: cleaned path from the root, no leading slash; else null. */
  lowerLink: string | null = null;

  /** Scratch of the format planners: what this inode became in the last plan, so that hard links are found without a map. */
  planned: object | null = null;

  constructor(mode: number) {
    this.mode = mode;
    if ((mode & S_IFMT) === S_IFDIR) this.children = new Map();
  }
}

/** Where file data stands: a layer's raw tar, an image file that carries data itself, or the files of a directory. */
export interface DataSource {
  readonly kind: 'tar' | 'erofs' | 'directory';
  /** What it is, for identity checks: `sha256:…` of the tar (the diffID), or of the image; '' while not known. */
  digest: string;
  /** Length in bytes; 0 while not known. */
  size: number;
  /** Every run of data in it begins on a multiple of this: 512 for a tar, the block size for an image. Bytes. */
  readonly alignment: number;
}

/** A layer or a whole image. In a merged image no node has `whiteouts`, `opaque`, `implied` or `lowerLink`. */
export interface FileTree {
  /** A whole image: a character device 0:0 in it is a device, where overlayfs would take it for a whiteout. */
  readonly merged?: true;
  readonly root: TreeNode;
  readonly sources: DataSource[];
  readonly findings: Finding[];
}
