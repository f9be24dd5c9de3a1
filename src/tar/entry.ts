/** What the tar scan hands on, one object an entry. */

/** Entry types after all extensions are resolved (POSIX.1-2024 ustar typeflag). */
export type EntryType = 'file' | 'link' | 'symlink' | 'char' | 'block' | 'dir' | 'fifo';

/** A run of real data in a sparse file; what no segment covers reads as zeros. */
export interface SparseSegment {
  /** Offset in the file, bytes. */
  readonly offset: number;
  /** Length of the run, bytes, > 0. */
  readonly length: number;
  /** Where the run's bytes stand in the tar, absolute byte offset (not necessarily 512-aligned). */
  readonly source: number;
}

/** One archive member. Strings are byte strings: one char = one byte, never decoded. */
export interface TarEntry {
  /** Name as the archive says it: not yet cleaned, may start with `/` or `./`, may hold `..`. */
  path: string;
  type: EntryType;
  /** Permission bits and setuid/setgid/sticky only, 0..0o7777. */
  mode: number;
  uid: number;
  gid: number;
  /** Logical size of the file in bytes (for sparse files: the real size). 0 for all but `file` and `link`s with data. */
  size: number;
  /** Seconds since the epoch, a safe integer, may be negative. */
  mtime: number;
  /** 0..999_999_999, always counted forward from `mtime`. */
  mtimeNsec: number;
  /** Target of `link` and `symlink`, else ''. */
  linkPath: string;
  devMajor: number;
  devMinor: number;
  /** Byte offset of the entry's first header block (extension headers included). */
  headerOffset: number;
  /** Byte offset of the payload, a multiple of 512; of a sparse file that of its data, behind the map. */
  payloadOffset: number;
  /** Bytes of payload in the archive, padding not counted; of a sparse file the data, without the map. */
  payloadSize: number;
  /** Full attribute name (`user.note`, `security.capability`) to value, both byte strings; null when there are none. */
  xattrs: Map<string, string> | null;
  /** Sorted, non-overlapping data runs of a sparse file; null for an ordinary one. */
  sparse: SparseSegment[] | null;
}
