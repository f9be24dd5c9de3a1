/**
 * A tree as a layer: the tar that a {@link TreeBuilder} makes the same tree of (OCI image spec, layer.md). Sorted, so
 * that equal trees make equal layers. A directory comes before what is in it, its whiteouts before its children.
 */

import { VeneerError } from '../errors.ts';
import { END_OF_ARCHIVE_SIZE, encodeHeader, paddingOf, type TarMember } from '../tar/encode.ts';
import type { EntryType } from '../tar/entry.ts';
import { type FileTree, S_IFBLK, S_IFCHR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, type TreeNode } from './node.ts';
import { joinPath, showPath } from './path.ts';
import { namesOf } from './walk.ts';
import { OPAQUE_MARKER, WHITEOUT_PREFIX } from './whiteout.ts';

/** Fills `piece` with the bytes of the regular file `node`, at `path`, from `from` on. For data in sources: `fillPiece`. */
export type FillFile = (node: TreeNode, from: number, piece: Buffer, path: string) => void;

export interface LayerTarOptions {
  /** The time that whiteouts carry, seconds since the epoch. */
  readonly whiteoutTime?: number;
}

/** Pieces are about this large, smaller ones are put together. */
const PIECE = 256 << 10;

/**
 * The layer's tar in pieces, each of which belongs to the caller. Holes of sparse files are written as zeros.
 *
 * `implied` directories are left out, what is in them is not, so that an empty one is lost; `lowerLink`s are written as hard links. Throws
 * `tree/invalid` for what a layer cannot say: a name that would be read as a whiteout, a socket, a link to a lower
 * file that this very layer replaces or removes.
 */
export function* layerTar(
  tree: Pick<FileTree, 'root'>,
  fill: FillFile,
  options: LayerTarOptions = {},
): Generator<Buffer> {
  const pieces = new Pieces();
  const firstNames = new Map<TreeNode, string>();
  for (const [path, node] of namesOf(tree)) {
    checkMemberName(path);
    if (node.children !== null) {
      if (!node.implied) yield* pieces.add(encodeHeader(memberOf(path, node, 'dir', '')));
      for (const name of node.whiteouts ?? []) checkMemberName(joinPath(path, name));
      for (const name of whiteoutsOf(node)) {
        yield* pieces.add(encodeHeader(whiteout(joinPath(path, name), options.whiteoutTime ?? 0)));
      }
      continue;
    }
    const first = firstNames.get(node) ?? node.lowerLink;
    if (first !== null) {
      if (first === node.lowerLink) checkLowerLink(tree.root, first, path);
      yield* pieces.add(encodeHeader(memberOf(path, node, 'link', first)));
      firstNames.set(node, path);
      continue;
    }
    firstNames.set(node, path);
    yield* pieces.add(encodeHeader(memberOf(path, node, typeOf(path, node), node.target)));
    if ((node.mode & S_IFMT) !== S_IFREG) continue;
    for (let at = 0; at < node.size; at += PIECE) {
      const piece = Buffer.allocUnsafeSlow(Math.min(PIECE, node.size - at));
      fill(node, at, piece, path);
      yield* pieces.add(piece);
    }
    yield* pieces.add(Buffer.alloc(paddingOf(node.size)));
  }
  yield* pieces.add(Buffer.alloc(END_OF_ARCHIVE_SIZE));
  yield* pieces.rest();
}

/** Puts small buffers together, so that a header does not cost its reader a turn. */
class Pieces {
  #held: Buffer[] = [];
  #bytes = 0;

  *add(bytes: Buffer): Generator<Buffer> {
    if (bytes.length === 0) return;
    this.#held.push(bytes);
    this.#bytes += bytes.length;
    if (this.#bytes >= PIECE) yield* this.rest();
  }

  *rest(): Generator<Buffer> {
    if (this.#bytes > 0) yield this.#held.length === 1 ? this.#held[0]! : Buffer.concat(this.#held);
    this.#held = [];
    this.#bytes = 0;
  }
}

function memberOf(path: string, node: TreeNode, type: EntryType, linkPath: string): TarMember {
  const { mode, uid, gid, size, mtime, mtimeNsec, devMajor, devMinor, xattrs } = node;
  const shown = path === '' ? './' : path;
  // Another name says nothing of its own: attributes on it would only be in the way.
  if (type === 'link') {
    return {
      path,
      type,
      mode,
      uid,
      gid,
      size: 0,
      mtime,
      mtimeNsec,
      linkPath,
      devMajor: 0,
      devMinor: 0,
      xattrs: null,
    };
  }
  return { path: shown, type, mode, uid, gid, size, mtime, mtimeNsec, linkPath, devMajor, devMinor, xattrs };
}

function whiteout(path: string, mtime: number): TarMember {
  return {
    path,
    type: 'file',
    mode: 0o644,
    uid: 0,
    gid: 0,
    size: 0,
    mtime,
    mtimeNsec: 0,
    linkPath: '',
    devMajor: 0,
    devMinor: 0,
    xattrs: null,
  };
}

function whiteoutsOf(dir: TreeNode): string[] {
  const names = [...(dir.whiteouts ?? [])].sort().map((name) => WHITEOUT_PREFIX + name);
  return dir.opaque ? [OPAQUE_MARKER, ...names] : names;
}

function typeOf(path: string, node: TreeNode): EntryType {
  switch (node.mode & S_IFMT) {
    case S_IFREG:
      return 'file';
    case S_IFLNK:
      return 'symlink';
    case S_IFCHR:
      return 'char';
    case S_IFBLK:
      return 'block';
    case S_IFIFO:
      return 'fifo';
  }
  throw unsayable(path, 'a socket is no part of an image');
}

function checkMemberName(path: string): void {
  const name = path.slice(path.lastIndexOf('/') + 1);
  if (name.startsWith(WHITEOUT_PREFIX))
    throw unsayable(path, `a name that begins with '${WHITEOUT_PREFIX}' means a deletion`);
}

/** Unpacking goes in order: the lower file must still be there when the link is made, and no other one. */
function checkLowerLink(root: TreeNode, target: string, path: string): void {
  let node: TreeNode | undefined = root;
  for (const part of target.split('/')) {
    if (node.opaque || node.whiteouts?.has(part)) throw linkError(path, target, 'removes');
    if (node.children === null) break;
    const next: TreeNode | undefined = node.children.get(part);
    if (next === undefined) return;
    node = next;
  }
  throw linkError(path, target, 'replaces');
}

function linkError(path: string, target: string, verb: string): VeneerError {
  return unsayable(path, `it is a link to ${showPath(target)} of a lower layer, which this layer ${verb}`);
}

function unsayable(path: string, reason: string): VeneerError {
  return new VeneerError('tree/invalid', `Cannot write ${showPath(path)} to a layer: ${reason}`);
}
