/** What an inode looks like: as `ls -l` columns and as JSON. */
import { displayByteString } from '../bytes/byte-string.ts';
import { isoTime } from '../progress/units.ts';
import {
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
  type TreeNode,
} from '../tree/node.ts';
import { jsonName } from './output.ts';

const TYPES: ReadonlyMap<number, readonly [name: string, letter: string]> = new Map([
  [S_IFREG, ['file', '-']],
  [S_IFDIR, ['directory', 'd']],
  [S_IFLNK, ['symlink', 'l']],
  [S_IFCHR, ['char device', 'c']],
  [S_IFBLK, ['block device', 'b']],
  [S_IFIFO, ['fifo', 'p']],
  [S_IFSOCK, ['socket', 's']],
]);

const typeOf = (node: TreeNode) => TYPES.get(node.mode & S_IFMT) ?? ['unknown', '?'];

export const typeName = (node: TreeNode): string => typeOf(node)[0]!;

export const isType = (node: TreeNode, type: number): boolean => (node.mode & S_IFMT) === type;

export function isDevice(node: TreeNode): boolean {
  return isType(node, S_IFCHR) || isType(node, S_IFBLK);
}

/** `-rwsr-xr-t`, as in ls(1). */
export function modeString(node: TreeNode): string {
  const { mode } = node;
  const triple = (shift: number, special: number, letter: string): string => {
    const bits = (mode >> shift) & 7;
    const execute = (bits & 1) !== 0;
    const last = (mode & special) !== 0 ? (execute ? letter : letter.toUpperCase()) : execute ? 'x' : '-';
    return `${(bits & 4) !== 0 ? 'r' : '-'}${(bits & 2) !== 0 ? 'w' : '-'}${last}`;
  };
  return `${typeOf(node)[1]}${triple(6, 0o4000, 's')}${triple(3, 0o2000, 's')}${triple(0, 0o1000, 't')}`;
}

export const octalMode = (node: TreeNode): string => (node.mode & 0o7777).toString(8).padStart(4, '0');

/** All attributes of one name as a JSON object; sizes in bytes, times in UTC. */
export function nodeJson(path: string, node: TreeNode, nlink: number): Record<string, unknown> {
  return {
    ...jsonName('path', path),
    type: typeName(node),
    mode: octalMode(node),
    uid: node.uid,
    gid: node.gid,
    nlink,
    size: node.size,
    mtime: isoTime(node.mtime, node.mtimeNsec),
    ...(isType(node, S_IFLNK) ? jsonName('target', node.target) : {}),
    ...(isDevice(node) ? { device: { major: node.devMajor, minor: node.devMinor } } : {}),
    ...(node.xattrs === null
      ? {}
      : { xattrs: [...node.xattrs].map(([name, value]) => xattrJson(name, value)) }),
  };
}

function xattrJson(name: string, value: string): Record<string, string> {
  return { ...jsonName('name', name), valueBase64: Buffer.from(value, 'latin1').toString('base64') };
}

/** A value of an attribute for people: text where it is text (a closing NUL is left out), else hex. */
export function xattrText(value: string): string {
  const text = value.endsWith('\0') ? value.slice(0, -1) : value;
  if (/^[\x20-\x7e]*$/.test(text)) return `"${displayByteString(text)}"`;
  const hex = Buffer.from(value, 'latin1').toString('hex');
  return `0x${hex.length > 128 ? `${hex.slice(0, 128)}... (${value.length} bytes)` : hex}`;
}
