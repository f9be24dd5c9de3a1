/** Reads the extended attributes of inodes: shared ones through their ids, then those behind the inode. */
import { XATTR_ENTRY, XATTR_IBODY, XATTR_LONG_PREFIX } from './format.ts';
import { corruptInode, type ImageBytes, u16, u32 } from './image-bytes.ts';
import { joinXattrName } from './xattr.ts';

interface ReadEntry {
  /** Null for a namespace that no kernel shows. */
  readonly name: string | null;
  readonly value: string;
  /** Bytes on disk, padding included. */
  readonly size: number;
}

export class XattrReader {
  readonly #image: ImageBytes;
  /** Byte offset that shared ids count from. */
  readonly #sharedAt: number;
  /** By id: what many inodes share is read once. */
  readonly #shared = new Map<number, ReadEntry>();
  /** Bytes of names and values that were read; what inodes share counts once. */
  text = 0;

  constructor(image: ImageBytes, sharedAt: number) {
    this.#image = image;
    this.#sharedAt = sharedAt;
  }

  /** The attributes in the area of `size` bytes at `at`, in name order; null when there is no area. */
  read(nid: number, at: number, size: number): Map<string, string> | null {
    if (size === 0) return null;
    const image = this.#image;
    image.spend(size, 'xattrs', nid);
    const base = image.locate(at, size, 'xattrs', nid);
    const count = image.bytes[base + XATTR_IBODY.at.shared_count]!;
    const end = at + size;
    let entryAt = at + XATTR_IBODY.size + count * 4;
    if (entryAt > end) throw corruptInode(nid, `${count} shared xattrs do not fit its area`);
    const found: [string, string][] = [];
    const add = ({ name, value }: ReadEntry): void => {
      if (name !== null) found.push([name, value]);
    };
    for (let i = 0; i < count; i++) {
      const idAt = image.locate(at + XATTR_IBODY.size + i * 4, 4, 'a shared xattr id');
      add(this.#readShared(u32(image.bytes, idAt), nid));
    }
    while (entryAt < end) {
      const entry = this.#readEntry(entryAt, nid);
      entryAt += entry.size;
      if (entryAt > end) throw corruptInode(nid, `xattr ${entry.name} does not fit its area`);
      add(entry);
    }
    found.sort(([a], [b]) => (a < b ? -1 : 1));
    return new Map(found);
  }

  #readShared(id: number, nid: number): ReadEntry {
    let entry = this.#shared.get(id);
    if (entry === undefined) {
      entry = this.#readEntry(this.#sharedAt + id * 4, nid);
      this.#image.spend(entry.size, 'a shared xattr', nid);
      this.#shared.set(id, entry);
    }
    return entry;
  }

  #readEntry(at: number, nid: number): ReadEntry {
    const base = this.#image.locate(at, XATTR_ENTRY.size, 'an xattr', nid);
    const { bytes } = this.#image;
    const nameLength = bytes[base + XATTR_ENTRY.at.name_len]!;
    const index = bytes[base + XATTR_ENTRY.at.name_index]!;
    const valueLength = u16(bytes, base + XATTR_ENTRY.at.value_size);
    if ((index & XATTR_LONG_PREFIX) !== 0)
      throw corruptInode(nid, `an xattr has the long prefix ${index & ~XATTR_LONG_PREFIX}`);
    const text = this.#image.text(at + XATTR_ENTRY.size, nameLength + valueLength, 'an xattr', nid);
    this.text += text.length;
    return {
      name: joinXattrName(index, text.slice(0, nameLength)),
      value: text.slice(nameLength),
      size: Math.ceil((XATTR_ENTRY.size + nameLength + valueLength) / 4) * 4,
    };
  }
}
