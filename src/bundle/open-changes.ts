/** What was changed in a bundle: by hooks, by the upper directory of an overlayfs, by the mtree file, or by the image. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { VeneerError } from '../errors.ts';
import type { HookSession } from '../hooks/index.ts';
import { isMounted } from '../mount/mountinfo.ts';
import { isPortableXattr } from '../rootfs/host-tree.ts';
import type { DirectoryTree } from '../rootfs/read-directory.ts';
import { readChangedNames } from '../rootfs/read-names.ts';
import {
  type DescribedInode,
  isInMemory,
  readProofs,
  removeManifest,
  removeProofs,
  writeManifest,
} from './bundle-manifest.ts';
import { type BundleMeta, mtreeName, writeMeta } from './bundle-meta.ts';
import { type BundleState, OVERLAY_NAME, readState, writeState } from './bundle-state.ts';
import { readTold, toldChanges } from './changes-hooked.ts';
import { changesAgainstImage } from './changes-image.ts';
import { type DiskNode, DiskTree } from './disk-tree.ts';
import { type Changes, findChanges, MtreeFile } from './find-changes.ts';
import { findLayers } from './find-image.ts';
import type { SubjectPlaces } from './hook-subject.ts';
import type { ImageDocuments } from './image-documents.ts';
import type { Masks } from './masks.ts';
import type { Keyword } from './mtree/keywords.ts';
import type { ReferencePath } from './references.ts';
import { ROOTFS_NAME } from './unpack.ts';
import { readUpperRecord, writeUpperRecord } from './upper-record.ts';

export interface Repacking {
  readonly places: SubjectPlaces;
  readonly meta: BundleMeta;
  readonly path: ReferencePath;
  readonly image: ImageDocuments;
  readonly masks: Masks;
  readonly session: HookSession | null;
  /** The bundle stands for the new image afterwards. */
  readonly refresh: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** What was changed, however that was found out. */
export interface FoundChanges {
  readonly changes: Changes['changes'];
  /** As a layer; called once, and closed with the rest. */
  read(): Promise<DirectoryTree>;
  /** The bundle is one of that image from now on. */
  refresh(fresh: ReferencePath): Promise<void>;
  close(): void;
}

export async function openChanges(repacking: Repacking): Promise<FoundChanges> {
  const { places, session } = repacking;
  const state = readState(places.bundle);
  const still = await session?.ask('repack.ociv1.layer.pre-generate', {});
  const rootfs = still?.reply.rootfs ?? places.rootfs;
  const told = await openTold(repacking, rootfs, state);
  if (told !== null) return told;
  return state === null ? openMtree(repacking, rootfs) : openImage(repacking, rootfs, state);
}

async function openTold(
  repacking: Repacking,
  rootfs: string,
  state: BundleState | null,
): Promise<FoundChanges | null> {
  const { places, path, meta, session, masks, refresh } = repacking;
  const { bundle } = places;
  const told = await toldChanges(session, bundle, state, () => readUpperRecord(bundle, path.manifest));
  if (told === null) return null;
  const reading = { rootfs, options: readOptions(repacking), masks, oldRoot: state?.root, refresh };
  const found = await readTold(told, reading);
  if (found === null) return null;
  const { changes, record, ...read } = found;
  return {
    changes,
    read: async () => read,
    refresh: async (fresh) => {
      if (told.kind === 'upper' && record !== null)
        writeUpperRecord(bundle, told.path, fresh.manifest, record);
      await refreshState(bundle, meta, fresh, state, told.kind === 'names');
    },
    close: () => read.data.close(),
  };
}

async function openImage(repacking: Repacking, rootfs: string, state: BundleState): Promise<FoundChanges> {
  const { places, image, meta, masks, signal } = repacking;
  const { bundle } = places;
  if (state.storage === 'overlay' && !isMounted(rootfs)) {
    throw new VeneerError('oci/not-found', `Cannot repack ${bundle}: its root file system is not mounted`, {
      hint: `Mount it with "veneer mount --rw=${join(bundle, OVERLAY_NAME)} IMAGE ${rootfs}".`,
    });
  }
  const all = await changesAgainstImage({
    rootfs,
    blobs: await findLayers(places.layout, image, places.tag),
    maps: meta.maps,
    links: state.storage === 'overlay' ? 'replace' : 'follow',
    temporary: bundle,
    signal,
  });
  const changes = new Map([...all].filter(([path]) => !masks.has(path)));
  const opened: DirectoryTree[] = [];
  return {
    changes,
    read: async () => {
      const names = [...changes.keys()].map((path) => ({ path, recursive: false }));
      opened.push(await readChangedNames(rootfs, names, readOptions(repacking)));
      return opened[0]!;
    },
    refresh: (fresh) => refreshState(bundle, meta, fresh, state, false),
    close: () => opened[0]?.data.close(),
  };
}

async function openMtree(repacking: Repacking, rootfs: string): Promise<FoundChanges> {
  const { places, path, meta, masks, refresh, signal } = repacking;
  const { bundle } = places;
  const oldName = mtreeName(path.manifest);
  const mtreeBytes = readMtree(bundle, oldName);
  const mtree = new MtreeFile(mtreeBytes);
  const disk = new DiskTree(rootfs, readProofs(bundle, oldName, mtreeBytes));
  const opened: DirectoryTree[] = [];
  try {
    if (refresh) disk.flush();
    const { changes, replaced } = await findChanges(disk, mtree, masks.has, signal);
    return {
      changes,
      read: async () => {
        const names = [...changes.keys()].map((name) => ({ path: name, recursive: replaced.has(name) }));
        opened.push(await readChangedNames(rootfs, names, readOptions(repacking)));
        return opened[0]!;
      },
      refresh: (fresh) => refreshMtree(bundle, disk, mtree, oldName, meta, fresh),
      close: () => {
        opened[0]?.data.close();
        disk.close();
      },
    };
  } catch (error) {
    disk.close();
    throw error;
  }
}

/**
 * What is in the upper directory stays there, and is in the image now. `deltas`: hooks tell what is new from here on,
 * too. A crash in between leaves a bundle of the old image of which everything is compared.
 */
async function refreshState(
  bundle: string,
  meta: BundleMeta,
  fresh: ReferencePath,
  state: BundleState | null,
  deltas: boolean,
): Promise<void> {
  if (state !== null) await writeState(bundle, { ...state, deltas: state.deltas && deltas });
  // Nobody has looked at all the files, so there is no mtree file of the new image.
  else await writeState(bundle, { storage: 'hooks', deltas, skipped: [], root: '' });
  await refreshMeta(bundle, meta, fresh);
}

function refreshMeta(bundle: string, { maps }: BundleMeta, fresh: ReferencePath): Promise<void> {
  return writeMeta(bundle, { steps: fresh.steps.map(({ raw }) => raw), maps });
}

function readMtree(bundle: string, name: string): Buffer {
  try {
    return readFileSync(join(bundle, name));
  } catch (cause) {
    throw new VeneerError('oci/not-found', `Cannot use the bundle ${bundle}: it has no ${name}`, {
      cause,
      hint: 'unpack the image again',
    });
  }
}

const withoutDigest = ([keyword, value]: Keyword): Keyword =>
  keyword === 'sha256digest' ? [keyword, '0'.repeat(value.length)] : [keyword, value];

/**
 * Notes what is on the disk now as what the image `fresh` has. What was proven needs no second look. A crash leaves the
 * bundle one of the old image or of the new one, with the mtree file of that, and perhaps also of the other.
 */
async function refreshMtree(
  bundle: string,
  disk: DiskTree,
  mtree: MtreeFile,
  oldName: string,
  meta: BundleMeta,
  fresh: ReferencePath,
): Promise<void> {
  const known = mtree.entries();
  await disk.hash(disk.unproven());
  const describe = (node: DiskNode, path: string): DescribedInode => {
    const old = node.proven ? known.get(path) : undefined;
    if (old !== undefined) return { ...node.facts, keywords: [...old] };
    const keywords = disk.keywords(path, node, 'digest');
    // What was written behind the layer's reading is not in the image: it must count the next time.
    const isInImage = node.children !== null || disk.isStill(path, node);
    return { ...node.facts, keywords: isInImage ? keywords : keywords.map(withoutDigest) };
  };
  const name = mtreeName(fresh.manifest);
  await writeManifest(bundle, name, join(bundle, ROOTFS_NAME), disk.root, describe);
  if (isInMemory(join(bundle, ROOTFS_NAME))) removeProofs(bundle, name);
  await refreshMeta(bundle, meta, fresh);
  if (name !== oldName) removeManifest(bundle, oldName);
}

function readOptions({ meta, signal }: Repacking): Parameters<typeof readChangedNames>[2] {
  return { owners: meta.maps, keepXattr: isPortableXattr, ...(signal === undefined ? {} : { signal }) };
}
