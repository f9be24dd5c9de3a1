/** veneer.json: what a bundle is that was not unpacked the plain way, for `repack`. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as v from 'valibot';
import { parseDocument } from '../oci/json.ts';
import { putFile } from './whole-file.ts';

export const STATE_NAME = 'veneer.json';
/** The folder in a bundle that has what is written to an overlayfs on its root file system. */
export const OVERLAY_NAME = 'overlay';
const MAX_BYTES = 1 << 20;

const schema = v.object({
  version: v.literal(1),
  /** The layers are mounted from veneer's store, under an overlayfs. */
  storage: v.picklist(['overlay', 'hooks']),
  /** A hook will say what changed. */
  deltas: v.boolean(),
  /** Layers that were taken from hooks, and how far they were checked. */
  skipped: v.array(
    v.object({ diffID: v.string(), hook: v.string(), verified: v.picklist(['tree', 'manifest', 'none']) }),
  ),
  /** What the root directory was, as `mode uid gid seconds nanoseconds`. */
  root: v.string(),
});

export type BundleState = v.InferOutput<typeof schema>;

export function writeState(bundle: string, state: Omit<BundleState, 'version'>): Promise<void> {
  return putFile(join(bundle, STATE_NAME), `${JSON.stringify({ version: 1, ...state }, null, 2)}\n`);
}

/** Null for a bundle that was unpacked the plain way. Throws `oci/invalid`. */
export function readState(bundle: string): BundleState | null {
  const path = join(bundle, STATE_NAME);
  return existsSync(path) ? parseDocument(schema, readFileSync(path), MAX_BYTES, path) : null;
}

/** As {@link BundleState.root} has it. */
export function describeRoot(facts: {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: number;
  readonly mtimeNsec: number;
}): string {
  const { mode, uid, gid, mtime, mtimeNsec } = facts;
  return `${mode.toString(8)} ${uid} ${gid} ${mtime} ${mtimeNsec}`;
}
