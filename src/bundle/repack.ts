/** Making a layer of what was changed in a bundle. */
import { join } from 'node:path';
import * as v from 'valibot';
import { type Finding, VeneerError } from '../errors.ts';
import { descriptorSchema } from '../oci/descriptor.ts';
import type { JsonObject } from '../oci/encode-json.ts';
import type { OnProgress } from '../progress/events.ts';
import { clampTimes } from '../tree/clamp-times.ts';
import { fillPiece, layerTar } from '../tree/index.ts';
import { addHistory, addLayer, type LayerHistory, type NewLayer } from './add-layer.ts';
import { type BundleMeta, META_NAME, readMeta } from './bundle-meta.ts';
import { changeLayout, type LayoutChange } from './change-layout.ts';
import { namesOf } from './config-document.ts';
import type { Changes } from './find-changes.ts';
import { hookSubject } from './hook-subject.ts';
import type { OpenHooks } from './hooked-bundle.ts';
import { type ImageDocuments, readImage } from './image-documents.ts';
import type { LayoutEntry } from './layout-folder.ts';
import { openLayoutFolder } from './layout-folder.ts';
import { Masks } from './masks.ts';
import { openChanges } from './open-changes.ts';
import { putReference, type ReferencePath, resolveReference } from './references.ts';
import { ROOTFS_NAME } from './unpack.ts';

export interface RepackOptions {
  readonly compression: NewLayer['compression'];
  readonly history: LayerHistory['edit'];
  /** Byte strings; nothing at or below these counts. */
  readonly maskedPaths: readonly string[];
  /** The volumes of the image are masked too. */
  readonly maskVolumes: boolean;
  /** The bundle stands for the new image afterwards. */
  readonly refresh: boolean;
  /** Later times become this one, seconds since the epoch. */
  readonly latest: number | null;
  readonly openHooks?: OpenHooks;
  readonly onProgress?: OnProgress;
  readonly signal?: AbortSignal | undefined;
}

export interface Repacked {
  /** What index.json names: the manifest, or the index above it. */
  readonly digest: string;
  readonly size: number;
  readonly changes: Changes['changes'];
  readonly findings: readonly Finding[];
}

interface NewImage {
  /** What index.json names. */
  readonly root: JsonObject;
  readonly path: ReferencePath;
  readonly documents: ImageDocuments;
}

/** Puts what was changed in `bundle` on the image it was unpacked from, and names the result `tag`. */
export async function repackBundle(
  layoutPath: string,
  tag: string,
  bundle: string,
  options: RepackOptions,
): Promise<Repacked> {
  const { refresh, signal } = options;
  const meta = readMeta(bundle);
  const path = referencePath(meta, bundle);
  const image = await readImage(await openLayoutFolder(layoutPath), path);
  const volumes = options.maskVolumes ? namesOf(image.document.config?.Volumes) : [];
  const volumeBytes = volumes.map((volume) => Buffer.from(volume).toString('latin1'));
  const masks = new Masks([...options.maskedPaths, ...volumeBytes]);
  const places = { bundle, rootfs: join(bundle, ROOTFS_NAME), layout: layoutPath, tag };
  const session = options.openHooks?.(hookSubject(image, places, meta.maps)) ?? null;
  const found = await telling(options, `find what was changed in ${bundle}`, () =>
    openChanges({ places, meta, path, image, masks, session, refresh, signal }),
  );
  try {
    const { changes } = found;
    const history = { edit: options.history, createdBy: 'umoci repack' };
    const findings: Finding[] = [];
    const makeLayer = async (layout: LayoutChange): Promise<NewImage> => {
      let entry: JsonObject;
      if (changes.size === 0) entry = await addHistory(layout, image, history);
      else {
        const { tree, data } = await found.read();
        findings.push(...tree.findings);
        if (options.latest !== null) clampTimes(tree, options.latest);
        entry = await telling(options, `make the layer of ${tag}`, (advance) => {
          let done = 0;
          const read = (_source: number, at: number, length: number): Buffer => {
            advance((done += length));
            return data.read(at, length);
          };
          const tar = layerTar(tree, (node, from, piece) => fillPiece(node, from, piece, read));
          return addLayer(layout, image, { tar, compression: options.compression }, history);
        });
      }
      putReference(layout, tag, entry);
      // While nobody else can give the tag to another image.
      const after = await openLayoutFolder(layoutPath);
      const fresh = await resolveReference(after, tag);
      return { root: entry, path: fresh, documents: await readImage(after, fresh) };
    };
    const { root, ...fresh } = await changeLayout(layoutPath, makeLayer, signal);
    if (session !== null) {
      const subject = hookSubject(fresh.documents, places, meta.maps);
      const { content: _, ...newManifest } = subject.manifest;
      const layer = changes.size === 0 ? null : subject.layers.at(-1)!;
      await session.tell('repack.ociv1.layer.post-generate', { layer, newManifest });
    }
    if (refresh) {
      await found.refresh(fresh.path);
      await session?.tell('repack.ociv1.bundle.refresh', {});
    }
    return { digest: root.digest as string, size: root.size as number, changes, findings };
  } finally {
    found.close();
  }
}

/** Runs `work` as a task of the progress. */
async function telling<T>(
  { onProgress }: RepackOptions,
  what: string,
  work: (advance: (done: number) => void) => Promise<T>,
): Promise<T> {
  onProgress?.({ type: 'start', id: what, what, total: 0 });
  let outcome: 'done' | 'failed' = 'failed';
  try {
    const result = await work((done) => onProgress?.({ type: 'advance', id: what, done }));
    outcome = 'done';
    return result;
  } finally {
    onProgress?.({ type: 'end', id: what, outcome });
  }
}

/** From what umoci.json says, which anybody may have written. */
function referencePath({ steps }: BundleMeta, bundle: string): ReferencePath {
  const entries = steps.map((raw): LayoutEntry => {
    const parsed = v.safeParse(descriptorSchema, raw);
    if (parsed.success) return { descriptor: parsed.output, raw };
    throw new VeneerError(
      'oci/invalid',
      `Cannot use the bundle ${bundle}: ${META_NAME} holds a descriptor that is none: ${parsed.issues[0].message}`,
    );
  });
  return { steps: entries, manifest: entries.at(-1)!.descriptor };
}
