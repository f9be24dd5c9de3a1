/** The files of a bundle that tell what was unpacked: the mtree file that umoci knows, and the proofs beside it. */
import { createHash } from 'node:crypto';
import { fstatSync, readFileSync, rmSync, statfsSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { decodeProofs, encodeProofs, type InodeProof, type ProvenNode } from './inode-proofs.ts';
import type { Keyword } from './mtree/keywords.ts';
import { type Branch, mtreeText } from './mtree/write.ts';
import { replaceFile } from './whole-file.ts';

export interface DescribedInode extends InodeProof {
  readonly keywords: readonly Keyword[];
}

/**
 * Change times have the granularity of the kernel's clock tick, 10 ms at most. What changes an inode after the proofs
 * were noted must get another time than what was noted.
 */
const TICK_MS = 25;

/** The proofs stand beside the mtree file of this name. */
function proofsName(mtreeName: string): string {
  return mtreeName.replace(/\.mtree$/, '.inodes');
}

/** Names of both files. */
export function manifestFiles(mtreeName: string): string[] {
  return [mtreeName, proofsName(mtreeName)];
}

/** Writes both files for the root file system `rootfs` in `bundle`. A crash leaves proofs that belong to no mtree file. */
export async function writeManifest<N extends Branch<N>>(
  bundle: string,
  mtreeName: string,
  rootfs: string,
  root: N,
  describe: (node: N, path: string) => DescribedInode,
): Promise<void> {
  const proofs = new Map<N, InodeProof>();
  const keywordsOf = (node: N, path: string): readonly Keyword[] => {
    const inode = describe(node, path);
    proofs.set(node, inode);
    return inode.keywords;
  };
  const sum = createHash('sha256');
  const writeAll = async (file: number): Promise<void> => {
    for (const text of mtreeText(root, keywordsOf, rootfs)) {
      const bytes = Buffer.from(text, 'latin1');
      sum.update(bytes);
      for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done);
    }
    // A file system that keeps whole seconds only proves nothing.
    if (fstatSync(file, { bigint: true }).ctimeNs % 1_000_000_000n === 0n) return;
    await delay(TICK_MS);
    const bytes = encodeProofs(root, (node) => proofs.get(node)!, sum.digest());
    writeFileSync(join(bundle, proofsName(mtreeName)), bytes, { mode: 0o644 });
  };
  try {
    await replaceFile(join(bundle, mtreeName), writeAll);
  } catch (error) {
    removeProofs(bundle, mtreeName);
    throw error;
  }
}

/** The proofs that belong to the mtree file with these bytes; null when there are none. */
export function readProofs(bundle: string, mtreeName: string, mtree: Buffer): ProvenNode | null {
  let bytes: Buffer;
  try {
    bytes = readFileSync(join(bundle, proofsName(mtreeName)));
  } catch {
    return null;
  }
  return decodeProofs(bytes, createHash('sha256').update(mtree).digest());
}

/** <linux/magic.h> */
const TMPFS_MAGIC = 0x01021994;

/** Nothing is written to a disk there: what changes through a mapping changes without a new time, and nothing is proven. */
export function isInMemory(path: string): boolean {
  return statfsSync(path).type === TMPFS_MAGIC;
}

/** Without proofs everything is compared. */
export function removeProofs(bundle: string, mtreeName: string): void {
  rmSync(join(bundle, proofsName(mtreeName)), { force: true });
}

export function removeManifest(bundle: string, mtreeName: string): void {
  for (const name of manifestFiles(mtreeName)) rmSync(join(bundle, name), { force: true });
}
