/** Which of an entry's extended attributes the unpacked file would have (xattr(7)). */
import { S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from './node.ts';

/** XATTR_NAME_MAX and XATTR_SIZE_MAX, linux/limits.h. */
const XATTR_NAME_MAX = 255;
const XATTR_SIZE_MAX = 65536;
/** Overlayfs reads the first as its own orders; we write facts of a layer as the second. */
const RESERVED = ['trusted.overlay.', 'trusted.veneer.'];
const NAMESPACES = ['user.', 'trusted.', 'security.'];
const DEFAULT_ACL = 'system.posix_acl_default';
const ACLS = ['system.posix_acl_access', DEFAULT_ACL];

/** Called with the attribute's name and the reason it is left out. */
export type OnDropped = (name: string, reason: string) => void;

/** The attributes that stay, in name order; null when there are none. `mode` is the file's. */
export function keepXattrs(
  xattrs: Map<string, string> | null,
  mode: number,
  onDropped: OnDropped,
): Map<string, string> | null {
  if (xattrs === null || xattrs.size === 0) return null;
  const kept: string[] = [];
  for (const [name, value] of xattrs) {
    const reason = reasonToDrop(name, value.length, mode & S_IFMT);
    if (reason === null) kept.push(name);
    else onDropped(name, reason);
  }
  if (kept.length === 0) return null;
  if (kept.length === xattrs.size && kept.every((name, i) => i === 0 || kept[i - 1]! < name)) return xattrs;
  kept.sort();
  const sorted = new Map<string, string>();
  for (const name of kept) sorted.set(name, xattrs.get(name)!);
  return sorted;
}

function reasonToDrop(name: string, size: number, type: number): string | null {
  if (RESERVED.some((prefix) => name.startsWith(prefix))) return 'the name is reserved';
  if (name.includes('\0')) return 'the name holds a NUL byte';
  if (name.length > XATTR_NAME_MAX) return `the name is longer than ${XATTR_NAME_MAX} bytes`;
  if (size > XATTR_SIZE_MAX) return `a value of ${size} bytes, at most ${XATTR_SIZE_MAX} are possible`;
  if (ACLS.includes(name) && type === S_IFLNK) return 'symbolic links have no ACL';
  if (name === DEFAULT_ACL && type !== S_IFDIR) return 'only directories have a default ACL';
  if (ACLS.includes(name)) return null;
  const namespace = NAMESPACES.find((prefix) => name.startsWith(prefix));
  if (namespace === undefined || name.length === namespace.length)
    return 'the kernel knows no such namespace';
  if (namespace === 'user.' && type !== S_IFREG && type !== S_IFDIR) {
    return 'only files and directories have user attributes';
  }
  return null;
}
