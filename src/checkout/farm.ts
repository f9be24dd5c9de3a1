/**
 * Files that checkouts share by hard links: `ROOT/objects/HE/HEX`, HEX being the hash of content and attributes. They
 * have no write bits, for a hard link is no copy: whoever writes to one writes to all. One that was written to all the
 * same is told by its size, time or mode, and replaced; checkouts that have it keep what they have.
 */
import { createHash, randomBytes } from 'node:crypto';
import { linkSync, lstatSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { VeneerError } from '../errors.ts';
import { readExactly } from '../store/data-files.ts';
import { errnoName } from '../store/io-errors.ts';
import type { OpenImage } from '../store/open-tree.ts';
import type { Store } from '../store/store.ts';
import { makeDirectory } from '../sys/make-directory.ts';
import { fileExtents } from '../tree/file-data.ts';
import type { TreeNode } from '../tree/node.ts';

/** Mode bits that shared files have. */
export const READ_ONLY = 0o7555;
const PIECE = 1 << 20;
const ZEROS = Buffer.alloc(64 << 10);

export class Farm {
  readonly #store: Store;
  readonly #scratch = Buffer.allocUnsafe(PIECE);
  readonly #root = process.geteuid?.() === 0;

  constructor(store: Store) {
    this.#store = store;
  }

  /**
   * Makes `target` a link to the shared file for `node`, which `make` writes where it is missing.
   * False: the file has as many links as the file system allows, so `target` is a file of its own.
   *
   * A crash leaves debris in the work directory at most: a shared file gets its name when it is whole, and has two
   * links by then, so that no sweep takes it for one that nobody has.
   */
  link(
    image: Pick<OpenImage, 'file'>,
    node: TreeNode,
    target: Buffer,
    make: (path: Buffer | string) => void,
  ): boolean {
    const path = this.#store.layout.object(this.#key(image, node));
    if (isIntact(path, node)) {
      const result = tryLink(path, target);
      if (result === 'made') return true;
      if (result === 'full') {
        make(target);
        return false;
      }
    }
    const work = join(this.#store.work(), `object-${randomBytes(9).toString('hex')}`);
    try {
      make(work);
      const result = tryLink(work, target);
      if (result !== 'made') throw new Error(`${work} is not there`);
      makeDirectory(dirname(path), 0o700);
      renameSync(work, path);
    } catch (error) {
      rmSync(work, { force: true });
      throw error;
    }
    return true;
  }

  #key(image: Pick<OpenImage, 'file'>, node: TreeNode): string {
    const hash = createHash('sha256');
    let at = 0;
    const skipTo = (end: number): void => {
      for (; at < end; at += Math.min(ZEROS.length, end - at))
        hash.update(ZEROS.subarray(0, Math.min(ZEROS.length, end - at)));
    };
    for (const extent of fileExtents(node)) {
      skipTo(extent.offset);
      const { fd, path } = image.file(extent.source);
      for (let done = 0; done < extent.length; done += PIECE) {
        const length = Math.min(PIECE, extent.length - done);
        hash.update(readExactly(fd, extent.at + done, length, path, this.#scratch));
      }
      at = extent.offset + extent.length;
    }
    skipTo(node.size);
    const { mode, uid, gid, mtime, mtimeNsec, xattrs } = node;
    const facts = [hash.digest('hex'), mode & READ_ONLY, mtime, mtimeNsec, [...(xattrs ?? [])]];
    // Everybody but root owns all files alike.
    const owner = this.#root ? [uid, gid] : [process.geteuid?.()];
    return createHash('sha256')
      .update(JSON.stringify([facts, owner]))
      .digest('hex');
  }
}

/** Nobody has written to it, as far as that shows. */
function isIntact(path: string, node: TreeNode): boolean {
  const facts = lstatSync(path, { throwIfNoEntry: false, bigint: true });
  if (facts === undefined || !facts.isFile()) return false;
  const mtime = BigInt(node.mtime) * 1_000_000_000n + BigInt(node.mtimeNsec);
  return facts.size === BigInt(node.size) && facts.mtimeNs === mtime && (facts.mode & 0o222n) === 0n;
}

function tryLink(path: string, target: Buffer): 'made' | 'missing' | 'full' {
  try {
    linkSync(path, target);
    return 'made';
  } catch (error) {
    switch (errnoName(error)) {
      case 'ENOENT':
        return 'missing';
      case 'EMLINK':
        return 'full';
      case 'EXDEV':
      case 'EPERM':
      case 'ENOTSUP':
        throw new VeneerError(
          'checkout/no-link',
          'Cannot make hard links: the store and the checkout are not on one file system that has them',
          { hint: 'leave out --link, or keep a store there (--root DIR)', cause: error },
        );
      default:
        throw error;
    }
  }
}
