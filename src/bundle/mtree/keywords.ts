/** What an mtree file says of one inode, as umoci and go-mtree write it. */
import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK } from '../../tree/node.ts';
import { encodeVis } from './vis.ts';

/** umoci's own, in the order in which they are written. */
export const KEYWORDS = [
  'size',
  'type',
  'uid',
  'gid',
  'mode',
  'link',
  'nlink',
  'tar_time',
  'sha256digest',
  'xattr',
] as const;

/** An inode as it is on the disk. */
export interface InodeFacts {
  /** As in `st_mode`. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly nlink: number;
  /** As the file system says it, also of directories. */
  readonly size: number;
  readonly mtime: number;
  readonly mtimeNsec: number;
  /** Of a symlink, else ''. */
  readonly target: string;
  /** sha256 of a regular file, hex; else ''. */
  readonly digest: string;
  readonly xattrs: ReadonlyMap<string, string> | null;
}

const TYPES = new Map([
  [S_IFREG, 'file'],
  [S_IFDIR, 'dir'],
  [S_IFLNK, 'link'],
  [S_IFCHR, 'char'],
  [S_IFBLK, 'block'],
  [S_IFIFO, 'fifo'],
  [S_IFSOCK, 'socket'],
]);

export type Keyword = readonly [keyword: string, value: string];

/** Keyword and value of each, in the order of {@link KEYWORDS}. An attribute is a keyword `xattr.NAME`. */
export function keywordsOf(facts: InodeFacts): Keyword[] {
  const type = TYPES.get(facts.mode & S_IFMT) ?? 'file';
  const perm = facts.mode & 0o7777;
  const all: Keyword[] = [
    ['size', String(facts.size)],
    ['type', type],
    ['uid', String(facts.uid)],
    ['gid', String(facts.gid)],
    ['mode', perm === 0 ? '0' : `0${perm.toString(8)}`],
  ];
  if (type === 'link') all.push(['link', encodeVis(facts.target)]);
  all.push(['nlink', String(facts.nlink)], ['tar_time', `${facts.mtime}.000000000`]);
  if (type === 'file') all.push(['sha256digest', facts.digest]);
  if (type === 'file' || type === 'dir') {
    for (const [name, value] of facts.xattrs ?? []) {
      all.push([`xattr.${encodeVis(name)}`, Buffer.from(value, 'latin1').toString('base64')]);
    }
  }
  return all;
}
