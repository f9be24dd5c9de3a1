/** Unpacking an image of a layout into a bundle that runtimes start and `repack` takes. */
import { chmodSync, lstatSync, rmdirSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type Finding, VeneerError } from '../errors.ts';
import { isMounted } from '../mount/mountinfo.ts';
import { encodeIndented } from '../oci/encode-json.ts';
import type { OwnerMaps } from '../rootfs/owners.ts';
import type { WrittenTree } from '../rootfs/write-tree.ts';
import { makeDirectory } from '../sys/make-directory.ts';
import { countLinks, type FileTree, type TreeNode } from '../tree/index.ts';
import { type DescribedInode, manifestFiles, writeManifest } from './bundle-manifest.ts';
import { META_NAME, mtreeName, writeMeta } from './bundle-meta.ts';
import { OVERLAY_NAME, STATE_NAME } from './bundle-state.ts';
import { findUser } from './container-user.ts';
import { findImage } from './find-image.ts';
import { hookSubject } from './hook-subject.ts';
import { rememberHooks } from './hooked-bundle.ts';
import type { ImageDocuments } from './image-documents.ts';
import { keywordsOf } from './mtree/keywords.ts';
import { readRootfsFile } from './rootfs-file.ts';
import { rootlessHost } from './rootless-host.ts';
import { rootPathOf, runtimeSpec } from './runtime-spec.ts';
import { type HookedResult, unpackThroughHooks } from './unpack-hooked.ts';
import { findingOf, type UnpackOptions, writeOptions } from './unpack-options.ts';
import type { UnpackedRootfs } from './unpack-rootfs.ts';
import { putFile } from './whole-file.ts';

export const ROOTFS_NAME = 'rootfs';
const CONFIG_NAME = 'config.json';

export interface Unpacked {
  readonly image: ImageDocuments;
  readonly findings: readonly Finding[];
  /** The files came from veneer's store: how many bytes share blocks with it. Null: they did not. */
  readonly shared: number | null;
  /** What hooks did; null when they had no hand in it. */
  readonly hooked: HookedResult | null;
}

/**
 * Makes the bundle `path`, as umoci does: config.json, rootfs, umoci.json and the mtree file. A directory that is there
 * may hold other things. After an error what was made is gone again.
 */
export async function unpackBundle(
  layoutPath: string,
  tag: string,
  path: string,
  options: UnpackOptions,
): Promise<Unpacked> {
  const blobs = await findImage(layoutPath, tag);
  const { image } = blobs;
  const made = makeDirectory(resolve(path), 0o755);
  try {
    // Nobody else gets at setuid programs and devices of the image.
    chmodSync(path, 0o700);
    refuseExisting(join(path, CONFIG_NAME), `${CONFIG_NAME} already exists in ${path}`);
    const rootfs = join(path, ROOTFS_NAME);
    refuseExisting(rootfs, `${rootfs} already exists`);
    refuseExisting(join(path, STATE_NAME), `${STATE_NAME} of an earlier one is still in ${path}`);
    const subject = hookSubject(image, { bundle: path, rootfs, layout: layoutPath, tag }, options.maps);
    const session = options.openHooks?.(subject) ?? null;
    // What was written to another image would come up in this one.
    if (session !== null) {
      refuseExisting(join(path, OVERLAY_NAME), `${OVERLAY_NAME} of an earlier one is still in ${path}`);
    }
    /** Names of what stands in the bundle already. */
    const written: string[] = [];
    const writeDocuments = async (): Promise<void> => {
      await putFile(join(path, CONFIG_NAME), `${containerConfig(image, rootfs, options.maps)}\n`);
      written.push(CONFIG_NAME);
      await writeMeta(path, { steps: image.path.steps.map(({ raw }) => raw), maps: options.maps });
      written.push(META_NAME);
    };
    const plain = async (): Promise<UnpackedRootfs> => {
      const { unpackRootfs } = await import('./unpack-rootfs.ts');
      return unpackRootfs(blobs, rootfs, options, async (tree, made) => {
        const name = mtreeName(image.path.manifest);
        await writeManifest(path, name, rootfs, tree.root, describeWritten(tree, made));
        written.push(...manifestFiles(name));
        await writeDocuments();
        await session?.tell('unpack.ociv1.bundle.finish', {});
      });
    };
    try {
      const hooked =
        session === null
          ? null
          : await unpackThroughHooks({
              session,
              subject,
              blobs: blobs.layers,
              maps: options.maps,
              links: options.keepDirlinks ? 'keep' : 'follow',
              write: writeOptions(options),
              signal: options.signal,
            });
      if (!hooked?.filled) return { image, ...(await plain()), hooked: null };
      await writeDocuments();
      await rememberHooks(path, rootfs, hooked);
      written.push(STATE_NAME);
      await session?.tell('unpack.ociv1.bundle.finish', {});
      const findings = [...hooked.findings, ...hooked.problems.map(findingOf)];
      return { image, findings, shared: null, hooked };
    } catch (error) {
      await session?.abort(error);
      // What a hook could not take back is better left than emptied.
      if (!isMounted(rootfs)) (await import('./unpack-rootfs.ts')).removeRootfs(rootfs, false);
      for (const name of written) rmSync(join(path, name), { force: true });
      throw error;
    }
  } catch (error) {
    for (const directory of made.reverse()) removeEmpty(directory);
    throw error;
  }
}

/** What the disk has of a tree that was written there. */
function describeWritten(tree: FileTree, written: WrittenTree): (node: TreeNode) => DescribedInode {
  const links = countLinks(tree);
  return (node) => {
    const facts = written.facts.get(node)!;
    const isDir = node.children !== null;
    const { mode, uid, gid, mtime, mtimeNsec, target, xattrs } = node;
    const size = isDir ? facts.size : node.size;
    const nlink = isDir ? facts.nlink : links.get(node)!;
    const inode = { mode, uid, gid, mtime, mtimeNsec, target, xattrs, size, nlink, digest: facts.digest };
    return { ...facts, keywords: keywordsOf(inode) };
  };
}

function containerConfig(image: ImageDocuments, rootfs: string, maps: OwnerMaps): string {
  const user = findUser(
    image.document.config?.User ?? '',
    readRootfsFile(rootfs, '/etc/passwd'),
    readRootfsFile(rootfs, '/etc/group'),
  );
  const { uidMaps, gidMaps, rootless } = maps;
  const host = rootless ? rootlessHost() : null;
  return encodeIndented(
    runtimeSpec(image.document, { rootPath: rootPathOf(rootfs), user, uidMaps, gidMaps, rootless: host }),
  );
}

function refuseExisting(path: string, reason: string): void {
  if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return;
  throw new VeneerError('oci/exists', `Cannot make the bundle: ${reason}`);
}

function removeEmpty(directory: string): void {
  try {
    rmdirSync(directory);
  } catch {
    // Somebody has put something there meanwhile.
  }
}
