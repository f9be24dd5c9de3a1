/** A tree as a host can have it: owners of the container become owners of the host. */

import { type Finding, VeneerError } from '../errors.ts';
import { FindingList } from '../findings.ts';
import { type FileTree, S_IFBLK, S_IFCHR, S_IFDIR, S_IFMT, S_IFREG, type TreeNode } from '../tree/node.ts';
import { showPath } from '../tree/path.ts';
import { namesOf } from '../tree/walk.ts';
import { toHost } from './id-map.ts';
import { encodeRootlessOwner, type OwnerMaps, ROOTLESS_XATTR } from './owners.ts';

/** Attributes that say something about one host only. */
const OF_A_HOST = new Set(['security.selinux', 'system.nfs4_acl']);

/** Whether a layer may carry the attribute from one host to another. */
export function isPortableXattr(name: string): boolean {
  return !OF_A_HOST.has(name);
}

/**
 * Changes the nodes of `tree`: ids through the maps, and attributes of other hosts taken out. Rootless, owners go into
 * an attribute, for nothing can be given away, and devices become empty files, for nobody lets us make them. Returns
 * what was left out. Throws `rootfs/unmapped-id` for an owner that no map has.
 */
export function adaptToHost(tree: Pick<FileTree, 'root'>, maps: OwnerMaps): readonly Finding[] {
  const findings = new FindingList('rootfs');
  const done = new Set<TreeNode>();
  for (const [path, node] of namesOf(tree)) {
    if (done.has(node)) continue;
    done.add(node);
    dropXattrs(path, node, maps.rootless, findings);
    if (maps.rootless) makeRootless(path, node, findings);
    node.uid = mapOne(path, 'user', node.uid, maps.uidMaps);
    node.gid = mapOne(path, 'group', node.gid, maps.gidMaps);
  }
  return findings.list();
}

function dropXattrs(path: string, node: TreeNode, rootless: boolean, findings: FindingList): void {
  if (node.xattrs === null) return;
  const unwanted = [...node.xattrs.keys()].filter(
    (name) => !isPortableXattr(name) || (rootless && name === ROOTLESS_XATTR),
  );
  if (unwanted.length === 0) return;
  // The map may be shared by several nodes.
  node.xattrs = new Map(node.xattrs);
  for (const name of unwanted) {
    node.xattrs.delete(name);
    findings.add('rootfs/xattr-dropped', `ignoring forbidden xattr ${name}`, undefined, path);
  }
}

function makeRootless(path: string, node: TreeNode, findings: FindingList): void {
  const type = node.mode & S_IFMT;
  if (type === S_IFCHR || type === S_IFBLK) {
    const device = `${node.devMajor}:${node.devMinor}`;
    findings.add('rootfs/device', `an empty file stands for the device ${device}`, undefined, path);
    node.mode = S_IFREG | (node.mode & 0o7777);
  }
  const owner = encodeRootlessOwner(node);
  // The kernel takes user attributes of nothing else.
  if (owner !== null && ((node.mode & S_IFMT) === S_IFREG || type === S_IFDIR)) {
    node.xattrs = new Map(node.xattrs ?? []).set(ROOTLESS_XATTR, owner);
  }
  node.uid = 0;
  node.gid = 0;
}

function mapOne(path: string, what: 'user' | 'group', id: number, maps: OwnerMaps['uidMaps']): number {
  const mapped = toHost(id, maps);
  if (mapped !== null) return mapped;
  throw new VeneerError(
    'rootfs/unmapped-id',
    `Cannot give ${showPath(path)} its owner: ${what} id ${id} of the container is in no map`,
    { hint: `Give a map that has it with --${what === 'user' ? 'uid' : 'gid'}-map.` },
  );
}
