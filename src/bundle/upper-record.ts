/**
 * What an upper directory held when its bundle was refreshed. Afterwards it still has what is in the new image by then,
 * and no whiteout for what is deleted of that; with this beside it, it tells what is new all the same.
 */
import { createHash } from 'node:crypto';
import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Descriptor } from '../oci/descriptor.ts';
import type { FileFacts } from '../sys/stat.ts';
import type { TreeNode } from '../tree/node.ts';
import { isInMemory } from './bundle-manifest.ts';
import { decodeProofs, encodeProofs, type InodeProof, type ProvenNode } from './inode-proofs.ts';

const RECORD_NAME = 'overlay.inodes';
/** Longer than the kernel's clock ticks: what changes within one tick has the same time before and after. */
const TICK_SECONDS = 0.025;
/** Of a whiteout: overlayfs makes all of them links of one inode, whose change time says nothing. */
const WHITEOUT: InodeProof = { inode: 0n, ctime: 0, ctimeNsec: 0 };
/** Of what has changed only just: nothing is like it. */
const UNPROVEN: InodeProof = { inode: 0n, ctime: 0, ctimeNsec: 1 };

/** Notes what is read, as `onNode` of the reading. */
export class UpperReading {
  readonly #facts = new Map<TreeNode, FileFacts>();
  readonly #began = Date.now() / 1000;

  readonly onNode = (_path: string, node: TreeNode, facts: FileFacts): void => {
    this.#facts.set(node, facts);
  };

  /** What `root` is now, before anything is taken out of it. */
  record(root: TreeNode): ProvenNode {
    const proof = this.#proofOf(root);
    if (root.children === null) return { ...proof, children: null };
    const children = new Map<string, ProvenNode>();
    for (const [name, child] of root.children) children.set(name, this.record(child));
    for (const name of root.whiteouts ?? []) children.set(name, { ...WHITEOUT, children: null });
    return { ...proof, children };
  }

  #proofOf(node: TreeNode): InodeProof {
    const { inode, ctime, ctimeNsec } = this.#facts.get(node)!;
    return ctime + ctimeNsec / 1e9 < this.#began - TICK_SECONDS ? { inode, ctime, ctimeNsec } : UNPROVEN;
  }

  /** Takes out of the tree what is as it was, and puts in what is gone. Returns whether anything is left of it. */
  keepChanges(dir: TreeNode, known: ProvenNode): boolean {
    // It hides what is below, and may be another directory in the place (and the inode) of the one that is known.
    if (dir.opaque && !this.#isUnchanged(dir, known)) return true;
    dir.opaque = false;
    const whiteouts = new Set<string>();
    for (const [name, old] of known.children!) {
      const isHere = dir.children!.has(name) || (dir.whiteouts?.has(name) ?? false);
      if (!isHere && !isWhiteout(old)) whiteouts.add(name);
    }
    for (const name of dir.whiteouts ?? []) {
      const old = known.children!.get(name);
      if (old === undefined || !isWhiteout(old)) whiteouts.add(name);
    }
    dir.whiteouts = whiteouts.size > 0 ? whiteouts : null;
    for (const [name, child] of dir.children!) {
      const old = known.children!.get(name);
      if (old === undefined) continue;
      const isBoth = child.children !== null && old.children !== null;
      if (isBoth ? !this.keepChanges(child, old) : this.#isUnchanged(child, old)) dir.children!.delete(name);
    }
    dir.implied = this.#isUnchanged(dir, known);
    return !dir.implied || dir.whiteouts !== null || dir.children!.size > 0;
  }

  #isUnchanged(node: TreeNode, old: ProvenNode): boolean {
    const { inode, ctime, ctimeNsec } = this.#facts.get(node)!;
    if ((node.children === null) !== (old.children === null)) return false;
    return inode === old.inode && ctime === old.ctime && ctimeNsec === old.ctimeNsec;
  }
}

function isWhiteout({ inode, ctime, ctimeNsec }: ProvenNode): boolean {
  return inode === WHITEOUT.inode && ctime === WHITEOUT.ctime && ctimeNsec === WHITEOUT.ctimeNsec;
}

/** For the bundle of the image `manifest`. A crash leaves one that is not believed: then everything is compared. */
export function writeUpperRecord(
  bundle: string,
  upper: string,
  manifest: Pick<Descriptor, 'digest'>,
  root: ProvenNode,
): void {
  const path = join(bundle, RECORD_NAME);
  writeFileSync(
    path,
    encodeProofs(root, (node) => node, markOf(manifest)),
  );
  // A file system that keeps whole seconds only proves nothing.
  const isCoarse = statSync(path, { bigint: true }).ctimeNs % 1_000_000_000n === 0n;
  if (isCoarse || isInMemory(upper)) rmSync(path);
}

/** Null when there is none, or one of another image. */
export function readUpperRecord(bundle: string, manifest: Pick<Descriptor, 'digest'>): ProvenNode | null {
  let bytes: Buffer;
  try {
    bytes = readFileSync(join(bundle, RECORD_NAME));
  } catch {
    return null;
  }
  return decodeProofs(bytes, markOf(manifest));
}

function markOf({ digest }: Pick<Descriptor, 'digest'>): Buffer {
  return createHash('sha256').update(digest).digest();
}
