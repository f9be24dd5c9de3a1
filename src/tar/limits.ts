/** Bounds on what one archive may make the scanner hold in memory. */
export interface TarLimits {
  /** Bytes of one PAX extended header; also of all global records together. */
  readonly paxBytes: number;
  /** Bytes of a member's name, or of a hard link's target. */
  readonly pathBytes: number;
  /** Bytes of a symlink's target; the kernel's PATH_MAX leaves 4095. */
  readonly symlinkBytes: number;
  /** Extended attributes of one entry. */
  readonly xattrs: number;
  /** Bytes of the names and values of one entry's extended attributes. */
  readonly xattrBytes: number;
  /** Data runs of all sparse files of the archive. */
  readonly sparseSegments: number;
  /** Members of the archive. */
  readonly entries: number;
  /** Findings kept; what comes after is counted. */
  readonly findings: number;
}

export const DEFAULT_LIMITS: TarLimits = {
  paxBytes: 1 << 20,
  pathBytes: 32_768,
  symlinkBytes: 4095,
  xattrs: 1024,
  xattrBytes: 1 << 20,
  sparseSegments: 1_000_000,
  entries: 20_000_000,
  findings: 10_000,
};

/** Longest name and largest value of one attribute: XATTR_NAME_MAX and XATTR_SIZE_MAX of linux/limits.h. */
export const XATTR_NAME_MAX = 255;
export const XATTR_SIZE_MAX = 65_536;
