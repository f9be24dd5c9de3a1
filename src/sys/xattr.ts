/**
 * Extended attributes, xattr(7), never following a final symlink. Names and values are byte strings
 * (one char = one byte); paths are {@link SysPath}s.
 */
import { constants } from 'node:os';
import { check, cString, type SysPath, showPath, sysError } from './error.ts';
import { errno, libc } from './libc.ts';

// <linux/limits.h>: XATTR_SIZE_MAX and XATTR_LIST_MAX
const VALUE_MAX = 65536;
const LIST_MAX = 65536;
let scratch: Buffer | undefined;

/** Full names of all attributes, in the kernel's order; none where the file system has no attributes. */
export function listXattrs(path: SysPath): string[] {
  scratch ??= Buffer.alloc(Math.max(VALUE_MAX, LIST_MAX));
  const length = libc('llistxattr')(cString(path), scratch, LIST_MAX);
  if (length === -1) {
    const reason = errno();
    if (reason === constants.errno.EOPNOTSUPP) return [];
    throw sysError(reason, `list the attributes of ${showPath(path)}`);
  }
  const names = scratch.toString('latin1', 0, length).split('\0');
  names.pop();
  return names;
}

/** One attribute's value, or null when the file does not have it. */
export function getXattr(path: SysPath, name: string): string | null {
  scratch ??= Buffer.alloc(Math.max(VALUE_MAX, LIST_MAX));
  const length = libc('lgetxattr')(cString(path), cString(Buffer.from(name, 'latin1')), scratch, VALUE_MAX);
  if (length === -1) {
    const reason = errno();
    if (reason === constants.errno.ENODATA || reason === constants.errno.EOPNOTSUPP) return null;
    throw sysError(reason, `read the attribute ${name} of ${showPath(path)}`);
  }
  return scratch.toString('latin1', 0, length);
}

/** Creates or replaces an attribute. */
export function setXattr(path: SysPath, name: string, value: string): void {
  const bytes = Buffer.from(value, 'latin1');
  const result = libc('lsetxattr')(
    cString(path),
    cString(Buffer.from(name, 'latin1')),
    bytes,
    bytes.length,
    0,
  );
  check(result, `set the attribute ${name} of ${showPath(path)}`);
}

/** Removes an attribute. `sys/ENODATA`: there is none. */
export function removeXattr(path: SysPath, name: string): void {
  const result = libc('lremovexattr')(cString(path), cString(Buffer.from(name, 'latin1')));
  check(result, `remove the attribute ${name} of ${showPath(path)}`);
}
