/** Makes the inodes of an image in a directory on the host, one name at a time. */
import {
  closeSync,
  constants,
  ftruncateSync,
  linkSync,
  openSync,
  readSync,
  symlinkSync,
  writeSync,
} from 'node:fs';
import { displayByteString } from '../bytes/byte-string.ts';
import { VeneerError } from '../errors.ts';
import type { Attributes } from '../rootfs/attributes.ts';
import type { OpenImage } from '../store/open-tree.ts';
import { copyRange } from '../sys/copy-range.ts';
import type { Folder } from '../sys/folder.ts';
import { makeNode } from '../sys/inode.ts';
import { fileExtents } from '../tree/file-data.ts';
import { S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK, type TreeNode } from '../tree/node.ts';
import type { Farm } from './farm.ts';

const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
/** Below it a copy through memory is cheaper than to ask the kernel for one. */
const SMALL = 16 << 10;
const PIECE = 1 << 20;

export interface MakerCounts {
  /** Bytes of file data that were copied or shared. */
  bytes: number;
  /** Files that are hard links to ones of the store. */
  linked: number;
}

export class Maker {
  readonly #image: Pick<OpenImage, 'file'>;
  readonly #attributes: Attributes;
  readonly #farm: Farm | null;
  readonly #scratch = Buffer.allocUnsafe(PIECE);
  readonly counts: MakerCounts = { bytes: 0, linked: 0 };

  constructor(image: Pick<OpenImage, 'file'>, attributes: Attributes, farm: Farm | null) {
    this.#image = image;
    this.#attributes = attributes;
    this.#farm = farm;
  }

  /**
   * Makes a non-directory under a name that is free, whole with its attributes. `path` is what it is called in
   * messages. False when such a thing cannot be made here by this user, which is noted.
   */
  make(folder: Folder, name: string, node: TreeNode, path: string): boolean {
    const target = folder.at(name);
    switch (node.mode & S_IFMT) {
      case S_IFREG:
        if (this.#farm === null || node.size === 0) {
          this.#writeFile(target, node, path);
          this.#attributes.apply(target, path, node);
        } else {
          const make = (to: Buffer | string): void => {
            this.#writeFile(Buffer.from(to), node, path);
            this.#attributes.apply(Buffer.from(to), path, node);
          };
          if (this.#farm.link(this.#image, node, target, make)) this.counts.linked++;
        }
        return true;
      case S_IFLNK:
        symlinkSync(Buffer.from(node.target, 'latin1'), target);
        break;
      default:
        try {
          makeNode(target, (node.mode & S_IFMT) | 0o600, node.devMajor, node.devMinor);
        } catch (error) {
          const type = node.mode & S_IFMT;
          if (type === S_IFIFO || type === S_IFSOCK) throw error;
          this.#attributes.missing(path, error);
          return false;
        }
    }
    this.#attributes.apply(target, path, node);
    return true;
  }

  #writeFile(target: Buffer, node: TreeNode, path: string): void {
    const fd = openSync(target, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    try {
      let end = 0;
      for (const { offset, length, source, at } of fileExtents(node)) {
        this.#copy(this.#image.file(source), at, length, fd, offset, path);
        this.counts.bytes += length;
        end = offset + length;
      }
      // Holes stay holes, at the end too.
      if (end < node.size) ftruncateSync(fd, node.size);
    } finally {
      closeSync(fd);
    }
  }

  #copy(
    from: { readonly fd: number; readonly path: string },
    fromAt: number,
    length: number,
    to: number,
    toAt: number,
    path: string,
  ): void {
    let done = length > SMALL ? copyRange(from.fd, fromAt, length, to, toAt) : 0;
    while (done < length) {
      const count = readSync(from.fd, this.#scratch, 0, Math.min(PIECE, length - done), fromAt + done);
      if (count === 0) {
        throw new VeneerError(
          'store/corrupt',
          `Cannot check out ${displayByteString(path)}: ${from.path} ends at ${fromAt + done}`,
        );
      }
      for (let written = 0; written < count; ) {
        written += writeSync(to, this.#scratch, written, count - written, toAt + done + written);
      }
      done += count;
    }
  }
}

/** One more name for an inode that has one: `names` lead to it from the root. */
export function linkTo(root: Folder, names: readonly string[], folder: Folder, name: string): void {
  const opened: Folder[] = [];
  try {
    let at = root;
    for (const part of names.slice(0, -1)) opened.push((at = at.enter(part)));
    linkSync(at.at(names.at(-1)!), folder.at(name));
  } finally {
    for (const one of opened) one.close();
  }
}
