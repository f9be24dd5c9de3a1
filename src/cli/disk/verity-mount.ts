/** `veneer mount --verity`: the flat disk of an image with its tree, for the kernel. */
import { readFileSync } from 'node:fs';
import { bootPieces } from '../../disk/extra.ts';
import { planFlat } from '../../disk/image.ts';
import type { DiskSegment } from '../../disk/segments.ts';
import { checkSignature } from '../../disk/signature.ts';
import { VeneerError } from '../../errors.ts';
import type { VerityDisk } from '../../mount/types.ts';
import type { Store } from '../../store/store.ts';
import { openStoredInput, readTail } from './input.ts';
import { flatTree } from './trees.ts';

export interface VerityMountOptions {
  readonly rootHash: string | undefined;
  readonly signature: string | undefined;
  /** With it the signature is checked here, without by the kernel. */
  readonly cert: string | undefined;
  readonly signal: AbortSignal;
}

/** Throws `verity/mismatch` when the image has another root hash, or nobody signed it. */
export async function makeVerityDisk(
  store: Store,
  name: string,
  options: VerityMountOptions,
): Promise<VerityDisk> {
  const { rootHash, signature, cert, signal } = options;
  const input = await openStoredInput(store, name, { signal, keep: true });
  try {
    const tree = await flatTree(input, null, { signal, superblock: true });
    if (rootHash !== undefined && rootHash !== tree.rootHash) {
      throw new VeneerError(
        'verity/mismatch',
        `Cannot mount ${name}: its root hash is ${tree.rootHash}, wanted is ${rootHash}`,
      );
    }
    if (signature !== undefined && cert !== undefined) checkSignature(tree.rootHash, signature, cert);
    const plan = planFlat(input.image, tree, readTail);
    const hashArea = plan.parts.at(-1)!;
    return {
      runs: plan.segments.flatMap((segment) => verityRuns(segment, input.image.primary.path)),
      dataBlockSize: tree.dataBlockSize,
      dataBlocks: tree.dataBlocks,
      hashOffset: hashArea.start * 512,
      rootHash: tree.rootHash,
      salt: tree.salt,
      ...(signature !== undefined && cert === undefined ? { signature: readFileSync(signature) } : {}),
    };
  } finally {
    input.release();
  }
}

/** Zeros come from the boot area of the image, for not every kernel has dm-zero. */
function verityRuns(segment: DiskSegment, primary: string): VerityDisk['runs'][number][] {
  const { sectors } = segment;
  switch (segment.kind) {
    case 'file':
      return [{ sectors, file: { path: segment.path, at: segment.at } }];
    case 'bytes':
      return [{ sectors, file: segment.bytes }];
    case 'zero':
      return bootPieces(sectors).map((piece) => ({ sectors: piece, file: { path: primary, at: 0 } }));
  }
}
