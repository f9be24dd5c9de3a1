/** Can this kernel mount UDF as we need it: from loop devices behind each other, with names as bytes? */
import { closeSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { VeneerError } from '../errors.ts';
import { S_IFDIR, S_IFIFO, TreeNode } from '../tree/node.ts';
import { planUdf, UDF_BLOCK, writeUdf } from '../udf/index.ts';
import type { Attempt } from './probe.ts';
import { mountUdf } from './udf-volume.ts';

const NAME = 'probe-\xe9';
const DATA_BLOCKS = 8;

/** Mounts a volume of one entry, in two files, and reads its root. */
export function tryUdf(scratch: string | null): Attempt {
  if (scratch === null)
    return { ok: false, reason: 'Cannot try it: no file can be written beside the store' };
  try {
    const mount = mountUdf(writeTinyVolume(scratch), 'the probe');
    try {
      const names = readdirSync(`/proc/self/fd/${mount}`, 'latin1').join();
      if (names !== NAME)
        throw new VeneerError('io/failed', `Cannot read the mounted volume: it holds ${names}`);
    } finally {
      closeSync(mount);
    }
    return { ok: true };
  } catch (error) {
    return { ok: false, reason: (error as Error).message };
  }
}

function writeTinyVolume(scratch: string): Parameters<typeof mountUdf>[0] {
  const root = new TreeNode(S_IFDIR | 0o755);
  root.children!.set(NAME, new TreeNode(S_IFIFO | 0o600));
  const names = 'bytes';
  const plan = planUdf(
    { root, sources: [], findings: [] },
    { names, whiteouts: 'sidecar', bases: [], firstBlock: DATA_BLOCKS, header: false },
  );
  const data = Buffer.alloc(DATA_BLOCKS * UDF_BLOCK);
  const pieces: Buffer[] = [];
  const { metadataDigest } = writeUdf(
    plan,
    { tarLength: data.length, digest: `sha256:${'00'.repeat(32)}` },
    { write: (chunk) => void pieces.push(Buffer.from(chunk)) },
    () => Buffer.alloc(0),
  );
  const parts = [data, Buffer.concat(pieces)].map((bytes, i) => {
    const path = join(scratch, `tiny-${i}.udf`);
    writeFileSync(path, bytes);
    return { path, size: bytes.length };
  });
  return { parts, names, anchorSector: plan.anchorBlock, metadataDigest };
}
