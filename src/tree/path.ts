/** Paths as byte strings: cut into components, cleaned, checked. */
import { displayByteString } from '../bytes/byte-string.ts';
import { VeneerError } from '../errors.ts';

/** Longest name of one directory entry, bytes (NAME_MAX, linux/limits.h). */
export const NAME_MAX = 255;
/** Longest symlink target, bytes (PATH_MAX less its NUL, linux/limits.h; symlink(2) refuses longer ones). */
export const TARGET_MAX = 4095;

/** Components of `path`; empty ones and `.` are dropped, `..` stays. */
export function splitPath(path: string): string[] {
  const parts: string[] = [];
  for (let from = 0; from <= path.length; ) {
    let end = path.indexOf('/', from);
    if (end < 0) end = path.length;
    const length = end - from;
    if (length > 1 || (length === 1 && path.charCodeAt(from) !== 0x2e)) parts.push(path.slice(from, end));
    from = end + 1;
  }
  return parts;
}

/** Components of `path` seen from the root, `..` resolved lexically; it stops at the root. */
export function cleanPath(path: string): string[] {
  const parts = splitPath(path);
  if (!parts.includes('..')) return parts;
  const clean: string[] = [];
  for (const part of parts) {
    if (part === '..') clean.pop();
    else clean.push(part);
  }
  return clean;
}

/** Is `..` one of the components? */
export function hasDotDot(path: string): boolean {
  return path.includes('..') && splitPath(path).includes('..');
}

/** `dir` is '' for the root. */
export function joinPath(dir: string, name: string): string {
  return dir === '' ? name : `${dir}/${name}`;
}

/** For messages: from the root, readable, and no longer than a terminal line or two. */
export function showPath(path: string): string {
  const shown = path.length > 200 ? `${path.slice(0, 100)}...${path.slice(-90)}` : path;
  return `'/${displayByteString(shown)}'`;
}

/** Throws unless a file system can hold `name` as a directory entry. */
export function checkName(name: string, offset: number): void {
  if (name.length > NAME_MAX) {
    throw new VeneerError(
      'tree/invalid',
      `Cannot add ${showPath(name)}: a name of ${name.length} bytes, at most ${NAME_MAX} are possible (entry at offset ${offset})`,
    );
  }
  if (name.includes('\0')) {
    throw new VeneerError(
      'tree/invalid',
      `Cannot add ${showPath(name)}: the name holds a NUL byte (entry at offset ${offset})`,
    );
  }
}
