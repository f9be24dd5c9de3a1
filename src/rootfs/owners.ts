/**
 * Whose a file is: ids of the host against ids of the container, and owners that stand in an attribute because the
 * one who unpacked the file could not give it away (https://rootlesscontaine.rs, "user.rootlesscontainers").
 */
import { VeneerError } from '../errors.ts';
import { showPath } from '../tree/path.ts';
import { type IdMap, toContainer } from './id-map.ts';

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

export interface OwnerMaps {
  readonly uidMaps: readonly IdMap[];
  readonly gidMaps: readonly IdMap[];
  /** Every file is ours, and stands for root's unless an attribute says whose. */
  readonly rootless: boolean;
}

export const ROOTLESS_XATTR = 'user.rootlesscontainers';

/** "As the file system says", for us root. */
const NO_ID = 0xffff_ffff;

/** The attribute's value for a file of `owner`; null for root's, which needs none. A protobuf message, two varints. */
export function encodeRootlessOwner({ uid, gid }: Owner): string | null {
  if (uid === 0 && gid === 0) return null;
  return `\x08${varint(uid === 0 ? NO_ID : uid)}\x10${varint(gid === 0 ? NO_ID : gid)}`;
}

function varint(value: number): string {
  let text = '';
  for (; value >= 0x80; value = Math.floor(value / 0x80)) text += String.fromCharCode((value % 0x80) | 0x80);
  return text + String.fromCharCode(value);
}

/** The owner that the attribute names; null when it is no such message. */
export function decodeRootlessOwner(value: string): Owner | null {
  const ids = [0, 0];
  for (let at = 0; at < value.length; ) {
    const field = [0x08, 0x10].indexOf(value.charCodeAt(at++));
    if (field < 0) return null;
    let id = 0;
    for (let scale = 1; ; scale *= 0x80) {
      const byte = value.charCodeAt(at++);
      if (Number.isNaN(byte) || scale > 0x80 ** 4) return null;
      id += (byte & 0x7f) * scale;
      if (byte < 0x80) break;
    }
    if (id > NO_ID) return null;
    ids[field] = id === NO_ID ? 0 : id;
  }
  return { uid: ids[0]!, gid: ids[1]! };
}

/** In the container, the owner of the file at `path`; takes the rootless attribute out of `xattrs`. */
export function ownerInContainer(
  path: string,
  host: Owner,
  xattrs: Map<string, string> | null,
  maps: OwnerMaps,
): Owner {
  if (!maps.rootless) {
    return {
      uid: mapOne(path, 'user', host.uid, maps.uidMaps),
      gid: mapOne(path, 'group', host.gid, maps.gidMaps),
    };
  }
  const value = xattrs?.get(ROOTLESS_XATTR);
  if (value === undefined) return { uid: 0, gid: 0 };
  xattrs!.delete(ROOTLESS_XATTR);
  const owner = decodeRootlessOwner(value);
  if (owner !== null) return owner;
  throw new VeneerError(
    'rootfs/unmapped-id',
    `Cannot tell the owner of ${showPath(path)}: its attribute ${ROOTLESS_XATTR} is damaged`,
    { hint: `Remove it: setfattr -x ${ROOTLESS_XATTR}; the file will be root's.` },
  );
}

function mapOne(path: string, what: 'user' | 'group', id: number, maps: readonly IdMap[]): number {
  const mapped = toContainer(id, maps);
  if (mapped !== null) return mapped;
  throw new VeneerError(
    'rootfs/unmapped-id',
    `Cannot tell the owner of ${showPath(path)} in the container: ${what} id ${id} of the host is in no map`,
    { hint: `Give a map that has it, or chown the file.` },
  );
}
