/** Sidecars where the kernel has no EROFS: their few inodes copied into memory. */
import {
  chmodSync,
  closeSync,
  ftruncateSync,
  lchownSync,
  linkSync,
  mkdirSync,
  openSync,
  symlinkSync,
  writeSync,
} from 'node:fs';
import type { ByteSource } from '../bytes/io.ts';
import { XATTR_OPAQUE } from '../erofs/facts.ts';
import { ErofsReader } from '../erofs/reader.ts';
import { VeneerError } from '../errors.ts';
import { makeNode, setTimes } from '../sys/inode.ts';
import { createFs, mountFs, openFs, setFsString } from '../sys/mount-api.ts';
import { setXattr } from '../sys/xattr.ts';
import { fileExtents } from '../tree/file-data.ts';
import { S_IFCHR, S_IFLNK, S_IFMT, S_IFREG, type TreeNode } from '../tree/node.ts';

const PIECE = 1 << 20;

/** Does this kernel have EROFS, or load it when asked? */
export function hasErofs(): boolean {
  try {
    closeSync(openFs('erofs'));
    return true;
  } catch (error) {
    if (error instanceof VeneerError && error.code === 'sys/ENODEV') return false;
    throw error;
  }
}

/** A detached tmpfs mount with what a sidecar image holds. `image`: its bytes. */
export function copySidecar(image: ByteSource): number {
  const { root } = new ErofsReader(image).readTree();
  const fs = openFs('tmpfs');
  let mount: number;
  try {
    setFsString(fs, 'mode', '0755');
    createFs(fs);
    mount = mountFs(fs, 0);
  } finally {
    closeSync(fs);
  }
  try {
    copyTree(root, Buffer.from(`/proc/self/fd/${mount}/.`), image);
    return mount;
  } catch (error) {
    closeSync(mount);
    throw error;
  }
}

function copyTree(root: TreeNode, top: Buffer, image: ByteSource): void {
  const directories: { node: TreeNode; path: Buffer }[] = [{ node: root, path: top }];
  const made = new Map<TreeNode, Buffer>();
  for (const { node, path } of directories) {
    for (const name of node.whiteouts ?? []) makeNode(below(path, name), S_IFCHR, 0, 0);
    for (const [name, child] of node.children!) {
      const to = below(path, name);
      const known = made.get(child);
      if (known !== undefined) linkSync(known, to);
      else if (child.children !== null) {
        mkdirSync(to);
        directories.push({ node: child, path: to });
      } else {
        makeFile(child, to, image);
        setAttributes(child, to);
        made.set(child, to);
      }
    }
  }
  // last, and deepest first: what is made in a directory changes its time
  for (const { node, path } of directories.reverse()) setAttributes(node, path);
}

/** `name` is a byte string. */
const below = (directory: Buffer, name: string): Buffer =>
  Buffer.concat([directory, Buffer.from(`/${name}`, 'latin1')]);

function makeFile(node: TreeNode, path: Buffer, image: ByteSource): void {
  const type = node.mode & S_IFMT;
  if (type === S_IFLNK) symlinkSync(Buffer.from(node.target, 'latin1'), path);
  else if (type !== S_IFREG) makeNode(path, node.mode, node.devMajor, node.devMinor);
  else {
    const fd = openSync(path, 'wx');
    try {
      ftruncateSync(fd, node.size);
      for (const { offset, length, at } of fileExtents(node)) {
        for (let done = 0; done < length; done += PIECE) {
          const piece = image.read(at + done, Math.min(PIECE, length - done));
          for (let sent = 0; sent < piece.length; )
            sent += writeSync(fd, piece, sent, piece.length - sent, offset + done + sent);
        }
      }
    } finally {
      closeSync(fd);
    }
  }
}

/** The order matters: a new owner takes setuid bits and capabilities away, everything takes the time. */
function setAttributes(node: TreeNode, path: Buffer): void {
  lchownSync(path, node.uid, node.gid);
  if ((node.mode & S_IFMT) !== S_IFLNK) chmodSync(path, node.mode & 0o7777);
  if (node.opaque) setXattr(path, XATTR_OPAQUE, 'y');
  for (const [name, value] of node.xattrs ?? []) setXattr(path, name, value);
  const time = { seconds: node.mtime, nanoseconds: node.mtimeNsec };
  setTimes(path, time, time);
}
