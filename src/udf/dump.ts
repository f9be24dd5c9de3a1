/** A volume as stable text: one line for the trailer, one a name in byte order, with all that is on disk about it. Made to be compared. */
import { displayByteString } from '../bytes/byte-string.ts';
import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK } from '../tree/node.ts';
import { decodeTarget } from './names.ts';
import type { UdfEntry, UdfReader } from './reader.ts';

const TYPE_NAMES: ReadonlyMap<number, string> = new Map([
  [S_IFREG, 'file'],
  [S_IFDIR, 'dir'],
  [S_IFLNK, 'symlink'],
  [S_IFCHR, 'char'],
  [S_IFBLK, 'block'],
  [S_IFIFO, 'fifo'],
  [S_IFSOCK, 'socket'],
]);

/** Yields the lines, without line ends. */
export function* dumpUdf(reader: UdfReader): Generator<string, void, undefined> {
  const { trailer } = reader;
  yield `udf names=${trailer.names} whiteouts=${trailer.whiteouts} flat=${trailer.flat} header=${trailer.header} tar=${trailer.tarLength}@${trailer.digest} metadata=${trailer.firstBlock}+${trailer.metadataBlocks}@${trailer.metadataDigest} anchor=${trailer.anchorSector}`;
  const pending = [{ path: '', block: reader.rootBlock }];
  const entered = new Set<number>();
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const { path, block } = next;
    const entry = reader.readEntry(block);
    yield `${displayByteString(path === '' ? '/' : path)} ${describe(reader, entry)}`;
    if ((entry.mode & S_IFMT) !== S_IFDIR || entered.has(block)) continue;
    entered.add(block);
    const children: { path: string; block: number }[] = [];
    reader.readDirectory(entry, (name, at) => children.push({ path: `${path}/${name}`, block: at }));
    pending.push(...children.reverse());
  }
}

function describe(reader: UdfReader, entry: UdfEntry): string {
  const type = entry.mode & S_IFMT;
  const parts = [
    TYPE_NAMES.get(type)!,
    (entry.mode & 0o7777).toString(8).padStart(4, '0'),
    `${entry.uid}:${entry.gid}`,
    `nlink=${entry.nlink}`,
    `size=${entry.size}`,
    `mtime=${entry.mtime}.${String(entry.mtimeNsec).padStart(9, '0')}`,
    `block=${entry.block}`,
  ];
  if (entry.inline !== null) parts.push('inline');
  if (entry.continuations > 0) parts.push(`continued=${entry.continuations}`);
  if (type === S_IFCHR || type === S_IFBLK) parts.push(`rdev=${entry.devMajor}:${entry.devMinor}`);
  if (type === S_IFLNK) {
    const target = decodeTarget(reader.readContent(entry).toString('latin1'), reader.trailer.names);
    parts.push(`target=${displayByteString(target ?? '?')}`);
  }
  for (const { offset, length, block } of entry.runs) {
    parts.push(`data=${offset}+${length}@${block < 0 ? 'hole' : block}`);
  }
  return parts.join(' ');
}
