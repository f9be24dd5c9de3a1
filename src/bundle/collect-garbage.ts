/** Taking blobs out of a layout that nothing in its index.json needs. */
import { lstatSync, readdirSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { Finding } from '../errors.ts';
import { childDescriptors, hasChildren } from '../oci/children.ts';
import { isDigest } from '../oci/digest.ts';
import { changeLayout, type LayoutChange, removeWorkFolders } from './change-layout.ts';
import { type LayoutFolder, readManifestBlob } from './layout-folder.ts';

export interface Collected {
  readonly removed: readonly { readonly digest: string; readonly size: number }[];
  readonly kept: number;
  /** What crashed writers left. */
  readonly workFolders: number;
  /** `oci/stray-file`: something that is no blob, left where it is. */
  readonly findings: readonly Finding[];
}

/**
 * Deletes the blobs of the layout in `path` that no entry of index.json leads to. Nothing is deleted when a manifest
 * on the way is missing or damaged: what it needed cannot be known. A crash leaves some of them; run it again.
 */
export function collectGarbage(path: string): Promise<Collected> {
  return changeLayout(path, async (layout) => {
    const needed = await neededDigests(layout);
    const removed: { digest: string; size: number }[] = [];
    const findings: Finding[] = [];
    let kept = 0;
    for (const { digest, file } of blobFiles(layout, findings)) {
      if (needed.has(digest)) {
        kept++;
        continue;
      }
      removed.push({ digest, size: lstatSync(file).size });
      unlinkSync(file);
    }
    return { removed, kept, workFolders: removeWorkFolders(path), findings };
  });
}

/** The digests of everything that index.json leads to, itself left out. Each blob is read once. */
async function neededDigests(layout: LayoutFolder): Promise<Set<string>> {
  const needed = new Set<string>();
  const pending = layout.entries.map(({ descriptor }) => descriptor);
  const read = new Set<string>();
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    needed.add(next.digest);
    // By media type too: one blob may be named as a layer here and as a manifest there.
    if (!hasChildren(next.mediaType) || read.has(next.digest)) continue;
    read.add(next.digest);
    const bytes = await readManifestBlob(layout, next);
    pending.push(...childDescriptors(bytes, `the blob ${next.digest} in ${layout.place}`));
  }
  return needed;
}

function* blobFiles(
  layout: LayoutChange,
  findings: Finding[],
): Generator<{ readonly digest: string; readonly file: string }> {
  for (const algorithm of ['sha256', 'sha512']) {
    const folder = layout.blobFolder(algorithm);
    if (folder === null) continue;
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      const digest = `${algorithm}:${entry.name}`;
      const isBlob = isDigest(digest) && (entry.isFile() || entry.isSymbolicLink());
      if (isBlob) yield { digest, file: join(folder, entry.name) };
      else
        findings.push({
          code: 'oci/stray-file',
          message: `blobs/${algorithm} holds something that is no blob`,
          path: Buffer.from(entry.name).toString('latin1'),
        });
    }
  }
}
