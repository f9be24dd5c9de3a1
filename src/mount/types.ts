/** What the mount room takes and gives. All of it is plain data that `--json` can print. */

/** One EROFS file system: a primary image and the files its device table names, in that order. */
export interface ErofsImage {
  /** Path of the metadata image, fsmeta or self-contained image. */
  readonly primary: string;
  readonly devices: readonly ErofsDevice[];
  /** A small one that goes with a UDF volume: without EROFS in the kernel it is copied into memory. */
  readonly sidecar?: boolean;
  /** Mount it through dm-verity: all files as one disk that the kernel checks. */
  readonly verity?: VerityDisk;
}

/** The flat disk of an image with its hash tree. */
export interface VerityDisk {
  /** What stands on it, in order: runs of files (`at` in bytes), or bytes that stand in none. */
  readonly runs: readonly {
    readonly sectors: number;
    readonly file: { readonly path: string; readonly at: number } | Buffer;
  }[];
  readonly dataBlockSize: number;
  readonly dataBlocks: number;
  /** Byte on the disk where the superblock of the tree stands. */
  readonly hashOffset: number;
  /** Hex. */
  readonly rootHash: string;
  /** Hex. */
  readonly salt: string;
  /** A PKCS#7 signature of the root hash, for the kernel to check. */
  readonly signature?: Buffer;
}

/** A UDF volume: files one behind the other, of which the last ends in the trailer. */
export interface UdfImage {
  readonly parts: readonly UdfPart[];
  /** How its names are stored: a mount option says it to the kernel. */
  readonly names: 'bytes' | 'unicode';
  /** The volume's last block. */
  readonly anchorSector: number;
  /** `sha256:…` of its metadata, as it was planned. */
  readonly metadataDigest: string;
}

export interface UdfPart {
  readonly path: string;
  /** Exact size in bytes that the file must have: whole blocks of 512. */
  readonly size: number;
}

/** One lower mount. */
export type LowerImage = (ErofsImage | UdfImage) & {
  /** What messages call it; by default its number. */
  readonly label?: string;
};

export interface ErofsDevice {
  readonly path: string;
  /** Exact size in bytes that the file must have. */
  readonly size: number;
  /** Tag that the device slot must hold: at most 64 bytes as a byte string. */
  readonly tag?: string;
}

export interface MountRequest {
  /** Directory to mount on. */
  readonly target: string;
  /** `merged`: one image. `layers`: overlayfs over one image a layer, bottom first. */
  readonly mode: 'merged' | 'layers';
  readonly images: readonly LowerImage[];
  /** Lower layers may have inodes whose data is below them under the same name (overlayfs's `metacopy`). */
  readonly metacopy?: boolean;
  /**
   * Left out: read-only. With `upper`: changes are kept in `UPPER/upper` (and `UPPER/work` is overlayfs's own).
   * Without: they go to a directory below `runDir` that the unmount removes.
   */
  readonly rw?: { readonly upper?: string };
  /** `nosuid`, `nodev`, `noexec`, `noatime` and so on, see {@link parseOptions}. */
  readonly options: readonly string[];
  /** How the kernel reads the files; `auto` takes files where it can and loop devices where it cannot. */
  readonly backing: 'auto' | 'file' | 'loop';
  /** Private state directory below the store root; made when missing. */
  readonly runDir: string;
  /** What the user calls the image; only kept in the record. */
  readonly label?: string;
}

/** What planning needs to know of this kernel. */
export interface Capabilities {
  /** `uname -r` */
  readonly kernel: string;
  /** EROFS reads regular files without loop devices (6.12). */
  readonly fileBacked: boolean;
  /** overlayfs takes mounts that are attached nowhere as lower layers (6.15). */
  readonly detachedLowers: boolean;
}

export type Backing = 'file' | 'loop';

/** Mount numbers in steps count the plan's lower mounts from 0; they are not kernel ids. */
export type MountStep =
  | { readonly do: 'check-privilege' }
  | { readonly do: 'check-target'; readonly target: string }
  | { readonly do: 'check-image'; readonly image: number }
  | { readonly do: 'make-entry' }
  | { readonly do: 'make-anchor' }
  | {
      readonly do: 'mount-image';
      readonly image: number;
      readonly backing: Backing;
      readonly anchored: boolean;
    }
  | { readonly do: 'mount-empty'; readonly anchored: boolean }
  /** Lower mounts become one, which is read-only. */
  | { readonly do: 'join-lowers'; readonly anchored: boolean }
  | { readonly do: 'prepare-upper'; readonly upper: string | null }
  | { readonly do: 'mount-overlay'; readonly rw: boolean; readonly anchored: boolean }
  | { readonly do: 'write-record' }
  | { readonly do: 'attach'; readonly target: string }
  | { readonly do: 'drop-anchor' };

export interface MountPlan {
  readonly request: MountRequest;
  /** Flags that the visible mount gets, as in /proc/self/mountinfo. */
  readonly flags: readonly string[];
  readonly steps: readonly MountStep[];
  /** What to do when the kernel turns out to refuse regular files (`backing: auto` only). */
  readonly fallback: readonly MountStep[] | null;
}

/** One mount that veneer made, as kept in `runDir/ID/record.json`. */
export interface MountRecord {
  readonly id: string;
  readonly label: string | null;
  /** Absolute, symlinks resolved. */
  readonly target: string;
  readonly mode: 'merged' | 'layers';
  readonly backing: Backing | 'fuse';
  readonly flags: readonly string[];
  readonly images: readonly LowerImage[];
  /** Directory with `upper` and `work`; null when read-only. */
  readonly upper: string | null;
  /** The unmount removes `upper`. */
  readonly ephemeral: boolean;
  readonly type: 'erofs' | 'overlay' | 'fuse.erofs';
  /** Kernel mount id, unique while the mount lives. */
  readonly mountId: number;
  /** `major:minor` of the file system. */
  readonly device: string;
  /** Identity of the mount namespace, `mnt:[N]`. */
  readonly namespace: string;
  /** Identity of the boot. */
  readonly boot: string;
}

/** `elsewhere`: mounted, but only in mount namespaces of other processes. */
export type MountState = 'mounted' | 'elsewhere' | 'stale';

export interface ListedMount extends MountRecord {
  readonly state: MountState;
}

export interface UnmountReport {
  readonly target: string;
  readonly type: MountRecord['type'];
  /** Id of the record; null when it was lost. */
  readonly id: string | null;
  /** Where the changes of a writable mount are kept; null when there are none or they were thrown away. */
  readonly keptUpper: string | null;
  readonly removedUpper: string | null;
  /** Detached at once, released when the last user ends. */
  readonly lazy: boolean;
}

export interface SweepReport {
  /** Targets whose mount had gone without an unmount by us. */
  readonly stale: readonly string[];
  /** Entries of mounts that were never finished. */
  readonly unfinished: readonly string[];
  /** Mounts below `runDir` that a killed process left behind. */
  readonly detached: readonly string[];
}
