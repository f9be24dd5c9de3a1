/**
 * An image as stable text: one line for the superblock, one a device, one a name
 * in byte order, with everything that is on disk about it. Made to be compared.
 */
import { displayByteString } from '../bytes/byte-string.ts';
import { fileExtents } from '../tree/file-data.ts';
import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, type TreeNode } from '../tree/node.ts';
import { LAYOUT_CHUNKED, LAYOUT_INLINE, LAYOUT_PLAIN } from './format.ts';
import type { DiskInode, ErofsReader } from './reader.ts';

const TYPE_NAMES: Readonly<Record<number, string>> = {
  1: 'fifo',
  2: 'char',
  4: 'dir',
  6: 'block',
  8: 'file',
  10: 'symlink',
  12: 'socket',
};
const LAYOUT_NAMES: Readonly<Record<number, string>> = {
  [LAYOUT_PLAIN]: 'plain',
  [LAYOUT_INLINE]: 'inline',
  [LAYOUT_CHUNKED]: 'chunked',
};

/** Yields the lines, without line ends. Throws what reading the tree throws, behind the lines of superblock and devices. */
export function* dumpImage(reader: ErofsReader): Generator<string, void, undefined> {
  const { superblock } = reader;
  yield `erofs blocksize=${superblock.blockSize} blocks=${superblock.blocks} inodes=${superblock.inodes} epoch=${superblock.epoch}.${superblock.epochNsec} compat=0x${superblock.featureCompat.toString(16)} incompat=0x${superblock.featureIncompat.toString(16)} uuid=${superblock.uuid}`;
  let number = 0;
  for (const device of superblock.devices) {
    yield `device ${++number} blocks=${device.blocks} uniaddr=${device.uniaddr} tag=${displayByteString(device.tag)}`;
  }

  // what a forged image could make endless is refused here
  reader.readTree();
  const pending = [{ path: '', nid: superblock.rootNid }];
  let next: { path: string; nid: number } | undefined;
  while ((next = pending.pop()) !== undefined) {
    const { path, nid } = next;
    const inode = reader.readInode(nid);
    yield `${displayByteString(path === '' ? '/' : path)} ${describeInode(inode, reader.readNode(inode))}`;
    if ((inode.mode & S_IFMT) !== S_IFDIR) continue;
    const children: { path: string; nid: number }[] = [];
    reader.readDirectory(inode, (name, child) => {
      if (name !== '.' && name !== '..') children.push({ path: `${path}/${name}`, nid: child });
    });
    for (let i = children.length - 1; i >= 0; i--) pending.push(children[i]!);
  }
}

function describeInode(inode: DiskInode, node: TreeNode | null): string {
  const type = inode.mode & S_IFMT;
  const parts = [
    node === null ? 'whiteout' : TYPE_NAMES[type >> 12]!,
    (inode.mode & 0o7777).toString(8).padStart(4, '0'),
    `${inode.uid}:${inode.gid}`,
    `nlink=${inode.nlink}`,
    `size=${inode.size}`,
    `mtime=${inode.mtime}.${String(inode.mtimeNsec).padStart(9, '0')}`,
    `nid=${inode.nid}`,
    `${inode.extended ? 'extended' : 'compact'}/${LAYOUT_NAMES[inode.layout]}`,
  ];
  if (node === null) return parts.join(' ');
  if (type === S_IFCHR || type === S_IFBLK) parts.push(`rdev=${node.devMajor}:${node.devMinor}`);
  if (type === S_IFLNK) parts.push(`target=${displayByteString(node.target)}`);
  if (type === S_IFREG) {
    for (const extent of fileExtents(node)) {
      parts.push(`data=${extent.offset}+${extent.length}@${extent.source}:${extent.at}`);
    }
  }
  if (node.opaque) parts.push('opaque');
  if (node.implied) parts.push('implied');
  if (node.lowerLink !== null) parts.push(`lower-link=${displayByteString(node.lowerLink)}`);
  for (const [name, value] of node.xattrs ?? []) {
    parts.push(`${displayByteString(name)}=${displayByteString(value)}`);
  }
  return parts.join(' ');
}
