/**
 * Does a plan: checks, makes EROFS mounts that are attached nowhere, puts overlayfs above them where asked,
 * and attaches one mount at the target. Whatever fails, everything done before is undone.
 *
 * Killed at any moment it leaves at most an entry below `runDir` and, on kernels before 6.15, layers attached
 * inside that entry: {@link sweepStale} removes both. Loop devices clear themselves.
 */
import { closeSync, fstatSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { bufferSource } from '../bytes/io.ts';
import { VeneerError } from '../errors.ts';
import { attachLoop } from '../sys/loop.ts';
import {
  attachMount,
  changeDirectory,
  createFs,
  detachMount,
  MAX_FS_STRING,
  MOUNT_ATTR,
  MS,
  mountFs,
  mountOld,
  openFs,
  setFsFd,
  setFsFlag,
  setFsString,
} from '../sys/mount-api.ts';
import { overlaySource, readBootId, readNamespace } from './alive.ts';
import { type CheckedImage, checkImage } from './check-image.ts';
import { anchorPath, deleteEntry, type Entry, makeEntry, retireEntry, writeRecord } from './entry.ts';
import { readMountInfo } from './mountinfo.ts';
import { attributeBits, oldFlagBits } from './options.ts';
import { checkPrivilege, explainMountError, wrapSystemError } from './privilege.ts';
import { sweepStale } from './sweep.ts';
import { resolveTarget } from './target.ts';
import type { Backing, LowerImage, MountPlan, MountRecord, MountStep, VerityDisk } from './types.ts';
import { copySidecar, hasErofs } from './udf-sidecar.ts';
import { checkUdf, isUdf, mountUdf } from './udf-volume.ts';
import { checkFileSystem, copyRootAttributes, prepareUpper, upperPath, workPath } from './upper.ts';
import { openVerityDisk } from './verity-disk.ts';

/** Names of mounts inside the anchor that are no layers. */
const EMPTY_NAME = 'e';
const MERGED_NAME = 'm';
const JOINED_NAME = 'j';
/** A path that overlayfs takes as it is, in every kernel's way of escaping. */
const PLAIN_PATH = /^[\w./@%=+-]+$/;

export interface ApplyHooks {
  /** Called before each step. What it throws ends the mount, and everything is undone. */
  readonly onStep?: (step: MountStep) => void;
}

/** Mounts. The record is what `listMounts` will list. */
export function applyMount(plan: MountPlan, hooks: ApplyHooks = {}): MountRecord {
  try {
    return runSteps(plan, plan.steps, hooks);
  } catch (error) {
    // No CONFIG_EROFS_FS_BACKED_BY_FILE, or a store on tmpfs or stacked too deep.
    if (!(error instanceof VeneerError) || error.code !== 'sys/ENOTBLK') throw error;
    if (plan.fallback !== null) return runSteps(plan, plan.fallback, hooks);
    throw new VeneerError(
      'mount/unsupported',
      `Cannot mount at ${plan.request.target}: the kernel does not mount regular files from there (ENOTBLK)`,
      { hint: 'Use loop devices, or leave the choice of backing out.', cause: error },
    );
  }
}

function runSteps(plan: MountPlan, steps: readonly MountStep[], hooks: ApplyHooks): MountRecord {
  const work = new MountWork(plan);
  try {
    for (const step of steps) {
      hooks.onStep?.(step);
      work.run(step);
    }
    return work.finish();
  } catch (error) {
    work.undo();
    throw wrapSystemError(error, `mount at ${plan.request.target}`);
  } finally {
    work.close();
  }
}

/** What has been taken so far. */
class MountWork {
  readonly #plan: MountPlan;
  #target = '';
  readonly #checked: CheckedImage[] = [];
  #entry: Entry | null = null;
  #anchored = false;
  /** Detached lower mounts, bottom first. */
  #lowers: number[] = [];
  /** What they are called inside the anchor, if there is one. */
  #names: string[] = [];
  #upper: { directory: string; ephemeral: boolean } | null = null;
  /** The mount that will be visible. */
  #top: number | null = null;
  #type: 'erofs' | 'overlay' = 'erofs';
  #backing: Backing = 'file';
  #record: MountRecord | null = null;
  /** Every descriptor but the entry's to close in the end, whatever happens. */
  readonly #open: number[] = [];

  constructor(plan: MountPlan) {
    this.#plan = plan;
  }

  run(step: MountStep): void {
    const { request } = this.#plan;
    switch (step.do) {
      case 'check-privilege':
        checkPrivilege(`mount at ${request.target}`);
        break;
      case 'check-target':
        this.#target = resolveTarget(step.target);
        break;
      case 'check-image':
        this.#checked[step.image] = checkLower(request.images[step.image]!, this.#nameImage(step.image));
        break;
      case 'make-entry':
        sweepStale(request.runDir);
        this.#entry = makeEntry(request.runDir);
        break;
      case 'make-anchor':
        this.#makeAnchor();
        break;
      case 'mount-empty':
        this.#addLower(this.#mountEmpty(), step.anchored ? EMPTY_NAME : null);
        break;
      case 'mount-image':
        this.#backing = step.backing;
        this.#addLower(this.#mountImage(step.image, step.backing), step.anchored ? String(step.image) : null);
        break;
      case 'join-lowers':
        this.#joinLowers(step.anchored);
        break;
      case 'prepare-upper':
        this.#prepareUpper(step.upper);
        break;
      case 'mount-overlay':
        this.#type = 'overlay';
        this.#top = step.anchored
          ? this.#overlayAnchored(step.rw, MERGED_NAME)
          : this.#overlayDetached(step.rw);
        this.#open.push(this.#top);
        break;
      case 'write-record':
        this.#writeRecord();
        break;
      case 'attach':
        explainMountError(() => attachMount(this.#visible(), this.#target));
        break;
      case 'drop-anchor':
        this.#dropAnchor();
        break;
    }
  }

  finish(): MountRecord {
    return this.#record!;
  }

  /** Gives back everything. What cannot be undone now is left for the next sweep: it must not hide the first error. */
  undo(): void {
    const attempt = (work: () => void): void => {
      try {
        work();
      } catch {}
    };
    attempt(() => this.#detachTarget());
    if (this.#anchored) attempt(() => this.#dropAnchor());
    this.#closeMounts();
    const entry = this.#entry;
    if (entry !== null) attempt(() => deleteEntry(retireEntry(entry)));
  }

  #detachTarget(): void {
    if (this.#record === null) return;
    const { mountId } = this.#record;
    const mine = readMountInfo().find((mount) => mount.mountId === mountId && mount.target === this.#target);
    if (mine !== undefined) detachMount(this.#target, { lazy: true });
  }

  close(): void {
    this.#closeMounts();
    if (this.#entry !== null) closeSync(this.#entry.fd);
    this.#entry = null;
  }

  #closeMounts(): void {
    for (const fd of this.#open.splice(0).reverse()) closeSync(fd);
  }

  #nameImage(image: number): string {
    const { mode, images, label } = this.#plan.request;
    const own = images[image]!.label;
    if (own !== undefined) return own;
    if (mode === 'layers') return `layer ${image + 1} of ${images.length}`;
    return label === undefined ? 'the image' : label;
  }

  #visible(): number {
    return this.#top ?? this.#lowers[0]!;
  }

  #makeAnchor(): void {
    const anchor = anchorPath(this.#entry!.path);
    mkdirSync(anchor, { mode: 0o700 });
    explainMountError(() => mountOld('veneer', anchor, 'tmpfs', MS.NODEV | MS.NOSUID, 'mode=0700'));
    this.#anchored = true;
    // Else every layer would be copied into the namespaces that share the mounts around it.
    mountOld('none', anchor, '', MS.PRIVATE, '');
  }

  #dropAnchor(): void {
    this.#anchored = false;
    detachMount(anchorPath(this.#entry!.path), { lazy: true });
  }

  #addLower(mount: number, name: string | null): void {
    this.#lowers.push(mount);
    this.#open.push(mount);
    if (name === null) return;
    this.#names.push(name);
    const directory = join(anchorPath(this.#entry!.path), name);
    mkdirSync(directory);
    attachMount(mount, directory);
  }

  #joinLowers(anchored: boolean): void {
    const joined = anchored ? this.#overlayAnchored(false, JOINED_NAME) : this.#overlayDetached(false);
    this.#open.push(joined);
    this.#lowers = [joined];
    this.#names = [JOINED_NAME];
  }

  #mountEmpty(): number {
    return this.#withContext('tmpfs', (fs) => {
      setFsString(fs, 'mode', '0755');
      createFs(fs);
      return mountFs(fs, MOUNT_ATTR.RDONLY);
    });
  }

  #mountImage(image: number, backing: Backing): number {
    const lower = this.#plan.request.images[image]!;
    if (isUdf(lower)) return mountUdf(lower, this.#nameImage(image));
    if (lower.sidecar && !hasErofs()) return copySidecarFile(lower.primary);
    if (lower.verity !== undefined) return this.#mountVerity(lower.verity, image);
    const { primary, devices } = lower;
    const attributes = this.#isOnlyMount() ? attributeBits(this.#plan.flags) : 0;
    // Block devices need no loop device around them.
    const wrap = backing === 'loop' && this.#checked[image]!.kind === 'file';
    const passed: number[] = [];
    try {
      const pass = (path: string): string => {
        if (wrap) {
          const loop = attachLoop(path, LOOP_BLOCK_SIZE);
          passed.push(loop.fd);
          return loop.path;
        }
        if (Buffer.byteLength(path) <= MAX_FS_STRING) return path;
        const fd = openSync(path, 'r');
        passed.push(fd);
        return `/proc/self/fd/${fd}`;
      };
      return this.#withContext('erofs', (fs) => {
        setFsFlag(fs, 'ro');
        setFsString(fs, 'source', pass(primary));
        for (const device of devices) setFsString(fs, 'device', pass(device.path));
        explainMountError(() => createFs(fs), this.#nameImage(image), this.#checked[image]!.blockSize);
        return mountFs(fs, attributes | MOUNT_ATTR.RDONLY);
      });
    } finally {
      for (const fd of passed) closeSync(fd);
    }
  }

  /** One flat device: the kernel finds everything by unified addresses, and reads nothing unchecked. */
  #mountVerity(disk: VerityDisk, image: number): number {
    const opened: number[] = [];
    try {
      const source = openVerityDisk(disk, this.#entry!.path, opened);
      const attributes = this.#isOnlyMount() ? attributeBits(this.#plan.flags) : 0;
      return this.#withContext('erofs', (fs) => {
        setFsFlag(fs, 'ro');
        setFsString(fs, 'source', source);
        explainMountError(() => createFs(fs), this.#nameImage(image), this.#checked[image]!.blockSize);
        return mountFs(fs, attributes | MOUNT_ATTR.RDONLY);
      });
    } finally {
      for (const fd of opened.reverse()) closeSync(fd);
    }
  }

  /** No overlay comes above: the one lower mount is what will be seen. */
  #isOnlyMount(): boolean {
    return this.#plan.request.mode === 'merged' && this.#plan.request.rw === undefined;
  }

  #prepareUpper(given: string | null): void {
    let fresh = true;
    if (given === null) {
      const directory = this.#entry!.path;
      checkFileSystem(directory);
      // The entry's own lock is held already, and nobody else knows its name.
      mkdirSync(workPath(directory), { mode: 0o700 });
      mkdirSync(upperPath(directory), { mode: 0o700 });
      this.#upper = { directory, ephemeral: true };
    } else {
      const prepared = prepareUpper(given, this.#plan.request.runDir);
      this.#open.push(prepared.fd);
      fresh = prepared.fresh;
      this.#upper = { directory: prepared.directory, ephemeral: false };
    }
    if (fresh) copyRootAttributes(this.#lowers.at(-1)!, upperPath(this.#upper.directory));
  }

  /**
   * Options besides the layers. Image layers are not trusted to redirect look-ups or to hold metadata-only files;
   * sidecars of UDF volumes, which have no attributes, are our own and hold some.
   */
  #overlayOptions(rw: boolean): [key: string, value: string | null][] {
    const metacopy = !rw && (this.#plan.request.metacopy ?? false);
    const options: [string, string | null][] = [
      ['redirect_dir', metacopy ? 'follow' : 'nofollow'],
      ['metacopy', metacopy ? 'on' : 'off'],
    ];
    if (!rw) return options;
    const { directory, ephemeral } = this.#upper!;
    options.push(
      ['upperdir', this.#plainPath(upperPath(directory))],
      ['workdir', this.#plainPath(workPath(directory))],
    );
    // What is thrown away with the mount need not reach the disk.
    if (ephemeral) options.push(['volatile', null]);
    return options;
  }

  #plainPath(path: string): string {
    if (PLAIN_PATH.test(path) && path.length <= MAX_FS_STRING) return path;
    const fd = openSync(path, 'r');
    this.#open.push(fd);
    return `/proc/self/fd/${fd}`;
  }

  #overlayDetached(rw: boolean): number {
    return this.#withContext('overlay', (fs) => {
      setFsString(fs, 'source', overlaySource(this.#entry!.id));
      if (!rw) setFsFlag(fs, 'ro');
      for (const lower of this.#lowers.toReversed()) setFsFd(fs, 'lowerdir+', lower);
      for (const [key, value] of this.#overlayOptions(rw)) {
        if (value === null) setFsFlag(fs, key);
        else setFsString(fs, key, value);
      }
      explainMountError(() => createFs(fs), 'the overlay');
      return mountFs(fs, attributeBits(this.#plan.flags));
    });
  }

  /** mount(2) has room for one page of options: layers go by short names relative to the anchor. */
  #overlayAnchored(rw: boolean, name: string): number {
    const options = [['lowerdir', this.#names.toReversed().join(':')] as const, ...this.#overlayOptions(rw)];
    const data = options.map(([key, value]) => (value === null ? key : `${key}=${value}`)).join(',');
    const anchor = anchorPath(this.#entry!.path);
    const source = overlaySource(this.#entry!.id);
    const merged = join(anchor, name);
    mkdirSync(merged);
    const here = openSync('.', 'r');
    try {
      changeDirectory(anchor);
      explainMountError(
        () => mountOld(source, merged, 'overlay', oldFlagBits(this.#plan.flags), data),
        'the overlay',
      );
    } finally {
      changeDirectory(`/proc/self/fd/${here}`);
      closeSync(here);
    }
    return openSync(merged, O_PATH);
  }

  #withContext<T>(type: string, work: (fs: number) => T): T {
    const fs = explainMountError(() => openFs(type));
    try {
      return work(fs);
    } finally {
      closeSync(fs);
    }
  }

  #writeRecord(): void {
    const { request, flags } = this.#plan;
    const mount = this.#visible();
    const { dev } = fstatSync(mount);
    this.#record = {
      id: this.#entry!.id,
      label: request.label ?? null,
      target: this.#target,
      mode: request.mode,
      backing: this.#backing,
      flags,
      images: request.images.map(plainImage),
      upper: this.#upper?.directory ?? null,
      ephemeral: this.#upper?.ephemeral ?? false,
      type: this.#type,
      mountId: readMountId(mount),
      device: `${(dev >>> 8) & 0xfff}:${(dev & 0xff) | ((dev >>> 12) & 0xfff00)}`,
      namespace: readNamespace(),
      boot: readBootId(),
    };
    writeRecord(this.#entry!, this.#record);
  }
}

/** Fits every EROFS block size. */
const LOOP_BLOCK_SIZE = 512;
// <asm-generic/fcntl.h>
const O_PATH = 0o10000000;

function checkLower(image: LowerImage, name: string): CheckedImage {
  return isUdf(image) ? checkUdf(image, name) : checkImage(image, name);
}

/** For the record: files and root hash; what else verity needed is of no use later. */
function plainImage(image: LowerImage): LowerImage & { readonly rootHash?: string } {
  if (isUdf(image) || image.verity === undefined) return image;
  const { verity, ...plain } = image;
  return { ...plain, rootHash: verity.rootHash };
}

function copySidecarFile(path: string): number {
  const image = readFileSync(path);
  return copySidecar(bufferSource(image));
}

/** The kernel's id of the mount behind a descriptor, proc_pid_fdinfo(5). */
function readMountId(fd: number): number {
  const match = /^mnt_id:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'));
  return Number(match?.[1]);
}
