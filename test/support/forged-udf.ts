/** Tars of an attacker who wants the kernel to mount what he says instead of what is in them. */
import { createHash } from 'node:crypto';
import { S_IFDIR, S_IFREG, TreeNode } from '../../src/tree/node.ts';
import { makeAnchor } from '../../src/udf/descriptors.ts';
import { planUdf, type UdfPlan, writeUdf } from '../../src/udf/index.ts';
import { archive, file } from './tar-builder.ts';

/** The name that only forged metadata has. */
export const EVIL = 'evil';
/** What the tars really hold. */
export const GOOD = 'good';

const BLOCK = 512;
const SETUID_ROOT = S_IFREG | 0o4755;

/** Metadata with a setuid program of root's, for sectors from `firstBlock` on. */
function forge(firstBlock: number, tarLength: number, digest: string): { bytes: Buffer; plan: UdfPlan } {
  const root = new TreeNode(S_IFDIR | 0o755);
  const program = new TreeNode(SETUID_ROOT);
  program.size = 4;
  program.source = 0;
  root.children!.set(EVIL, program);
  const tree = {
    root,
    sources: [{ kind: 'tar' as const, digest, size: tarLength, alignment: BLOCK }],
    findings: [],
  };
  const plan = planUdf(tree, { names: 'bytes', whiteouts: 'sidecar', bases: [0], firstBlock, header: false });
  const chunks: Buffer[] = [];
  const read = (): Buffer => Buffer.alloc(0);
  writeUdf(plan, { tarLength, digest }, { write: (chunk) => void chunks.push(Buffer.from(chunk)) }, read);
  return { bytes: Buffer.concat(chunks), plan };
}

/** A member whose data is an anchor at byte 131072 of the tar, where the kernel looks when nobody tells it better, and all that the anchor leads to. */
export function tarWithAnchorInside(): Buffer {
  const at = 300;
  const { bytes, plan } = forge(at, at * BLOCK, `sha256:${'00'.repeat(32)}`);
  const payload = Buffer.alloc(at * BLOCK + bytes.length - BLOCK);
  makeAnchor(plan, 256).copy(payload, 256 * BLOCK - BLOCK);
  bytes.copy(payload, at * BLOCK - BLOCK);
  return archive(file(GOOD, payload));
}

/** A tar behind whose end stands a trailer that says the truth about its length and digest, and lies about its files. */
export function tarWithForgedTrailer(): Buffer {
  const tar = archive(file(GOOD, 'good data'));
  const digest = `sha256:${createHash('sha256').update(tar).digest('hex')}`;
  return Buffer.concat([tar, forge(tar.length / BLOCK, tar.length, digest).bytes]);
}
