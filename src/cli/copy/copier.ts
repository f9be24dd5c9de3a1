/** Copies files and trees out of an image onto the host. */

import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  renameSync,
  symlinkSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { setImmediate as nextTick } from 'node:timers/promises';
import { displayByteString } from '../../bytes/byte-string.ts';
import { VeneerError } from '../../errors.ts';
import type { Attributes } from '../../rootfs/attributes.ts';
import { type Folder, removeTree } from '../../sys/folder.ts';
import { S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK, type TreeNode } from '../../tree/node.ts';
import { dataChunks } from '../file-data.ts';
import { isType } from '../node-facts.ts';
import type { OpenImage } from '../open-image.ts';

const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;

/** The event loop gets a turn after this much work, so that Ctrl-C is heard. */
const TURN_BYTES = 16 << 20;
const TURN_ENTRIES = 64;

export interface CopyCounts {
  files: number;
  directories: number;
  symlinks: number;
  /** Names beyond the first of an inode that was copied before. */
  hardLinks: number;
  /** Devices, FIFOs and sockets. */
  special: number;
  /** Of file data written, holes not counted. */
  bytes: number;
}

/** A directory being filled. */
interface Frame {
  readonly folder: Folder;
  readonly node: TreeNode;
  readonly name: string;
  /** In the image, byte string. */
  readonly path: string;
  /** Still to do, the next one last. */
  readonly names: string[];
}

/** A name that a later hard link can be made to: component names from the copy's top. */
type Place = readonly string[];

export class Copier {
  readonly counts: CopyCounts = { files: 0, directories: 0, symlinks: 0, hardLinks: 0, special: 0, bytes: 0 };
  readonly #image: OpenImage;
  readonly #attributes: Attributes;
  readonly #makeNode: typeof import('../../sys/inode.ts').makeNode;
  readonly #signal: AbortSignal;
  /** Regular and special files that have more names, to the first name made. */
  readonly #made = new Map<TreeNode, Place>();
  readonly #links: ReadonlyMap<TreeNode, number>;
  #top: Folder | null = null;
  #sinceTurn = 0;

  constructor(options: {
    image: OpenImage;
    links: ReadonlyMap<TreeNode, number>;
    attributes: Attributes;
    makeNode: typeof import('../../sys/inode.ts').makeNode;
    signal: AbortSignal;
  }) {
    this.#image = options.image;
    this.#links = options.links;
    this.#attributes = options.attributes;
    this.#makeNode = options.makeNode;
    this.#signal = options.signal;
  }

  /** Makes `name` in `top`, which must not have it. What a failure leaves behind is the caller's to remove. */
  async create(top: Folder, name: string, node: TreeNode, path: string): Promise<void> {
    await this.#copy(top, name, node, path, false);
  }

  /** Makes or replaces `name` in `top`; directories that are there are kept and get what the image has. */
  async replace(top: Folder, name: string, node: TreeNode, path: string): Promise<void> {
    await this.#copy(top, name, node, path, true);
  }

  async #copy(top: Folder, name: string, node: TreeNode, path: string, replace: boolean): Promise<void> {
    this.#top = top;
    this.#made.clear();
    if (!isType(node, S_IFDIR)) {
      await this.#put(top, name, node, path, [], replace);
      return;
    }
    const stack: Frame[] = [this.#enter(top, name, node, path, replace)];
    try {
      for (let frame = stack.at(-1); frame !== undefined; frame = stack.at(-1)) {
        const childName = frame.names.pop();
        if (childName === undefined) {
          this.#leave(stack);
          continue;
        }
        const child = frame.node.children!.get(childName)!;
        const childPath = frame.path === '/' ? `/${childName}` : `${frame.path}/${childName}`;
        if (isType(child, S_IFDIR))
          stack.push(this.#enter(frame.folder, childName, child, childPath, replace));
        else
          await this.#put(
            frame.folder,
            childName,
            child,
            childPath,
            stack.map((one) => one.name),
            replace,
          );
        await this.#turn(TURN_BYTES / TURN_ENTRIES);
      }
    } finally {
      for (const frame of stack) frame.folder.close();
    }
  }

  #enter(parent: Folder, name: string, node: TreeNode, path: string, replace: boolean): Frame {
    this.#signal.throwIfAborted();
    try {
      const old = replace ? parent.look(name) : null;
      if (old !== null && !old.isDirectory()) {
        throw new VeneerError(
          'cli/exists',
          `Cannot copy ${displayByteString(path)}: something that is no directory is in its place`,
        );
      }
      // Nobody else gets in before owner and mode are set.
      if (old === null) mkdirSync(parent.at(name), { mode: 0o700 });
      const folder = parent.enter(name);
      this.counts.directories++;
      return { folder, node, name, path, names: [...node.children!.keys()].sort().reverse() };
    } catch (error) {
      throw copyError(path, error);
    }
  }

  /** The top frame is done: only now, for every file made in a directory changes its time. */
  #leave(stack: Frame[]): void {
    const frame = stack.pop()!;
    frame.folder.close();
    const parent = stack.at(-1)?.folder ?? this.#top!;
    this.#attributes.apply(parent.at(frame.name), frame.path, frame.node);
  }

  async #put(
    folder: Folder,
    name: string,
    node: TreeNode,
    path: string,
    place: Place,
    replace: boolean,
  ): Promise<void> {
    this.#signal.throwIfAborted();
    const old = replace ? folder.look(name) : null;
    if (old?.isDirectory()) {
      throw new VeneerError(
        'cli/exists',
        `Cannot copy ${displayByteString(path)}: a directory is in its place`,
      );
    }
    // Over an old file: made beside it and renamed, so that the name never leads to half a file.
    const target = old === null ? name : `.veneer-${randomBytes(6).toString('hex')}`;
    try {
      if (!(await this.#make(folder, target, node, path))) return;
      if (target !== name) {
        renameSync(folder.at(target), folder.at(name));
        // rename(2) does nothing when both names are one inode already.
        if (folder.look(target) !== null) unlinkSync(folder.at(target));
      }
    } catch (error) {
      removeTree(folder, target);
      throw copyError(path, error);
    }
    if ((this.#links.get(node) ?? 1) > 1 && !this.#made.has(node)) this.#made.set(node, [...place, name]);
  }

  /** False when it cannot be made here and that is reported. */
  async #make(folder: Folder, name: string, node: TreeNode, path: string): Promise<boolean> {
    const target = folder.at(name);
    const first = this.#made.get(node);
    if (first !== undefined) {
      this.#link(first, target);
      this.counts.hardLinks++;
      return true;
    }
    switch (node.mode & S_IFMT) {
      case S_IFREG:
        await this.#writeFile(target, node);
        this.counts.files++;
        break;
      case S_IFLNK:
        symlinkSync(Buffer.from(node.target, 'latin1'), target);
        this.counts.symlinks++;
        break;
      default:
        try {
          this.#makeNode(target, (node.mode & S_IFMT) | 0o600, node.devMajor, node.devMinor);
        } catch (error) {
          if (isType(node, S_IFIFO) || isType(node, S_IFSOCK)) throw error;
          this.#attributes.missing(path, error);
          return false;
        }
        this.counts.special++;
    }
    this.#attributes.apply(target, path, node);
    return true;
  }

  /** A further name of an inode: its first name is looked up anew from the top, one directory at a time. */
  #link(first: Place, target: Buffer): void {
    const opened: Folder[] = [];
    try {
      let folder = this.#top!;
      for (const part of first.slice(0, -1)) {
        folder = folder.enter(part);
        opened.push(folder);
      }
      linkSync(folder.at(first.at(-1)!), target);
    } finally {
      for (const folder of opened) folder.close();
    }
  }

  async #writeFile(target: Buffer, node: TreeNode): Promise<void> {
    const fd = openSync(target, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    try {
      for await (const { offset, bytes } of dataChunks(this.#image, node)) {
        for (let done = 0; done < bytes.length; ) {
          done += writeSync(fd, bytes, done, bytes.length - done, offset + done);
        }
        this.counts.bytes += bytes.length;
        await this.#turn(bytes.length);
      }
      // Holes stay holes, at the end too.
      ftruncateSync(fd, node.size);
    } finally {
      closeSync(fd);
    }
  }

  async #turn(amount: number): Promise<void> {
    this.#sinceTurn += amount;
    if (this.#sinceTurn < TURN_BYTES) return;
    this.#sinceTurn = 0;
    await nextTick();
    this.#signal.throwIfAborted();
  }
}

/** System errors name a path under /proc/self/fd that says nothing to anybody. */
function copyError(path: string, error: unknown): unknown {
  if (!(error instanceof Error) || !('syscall' in error) || !('code' in error)) return error;
  const code = error.code === 'ENOSPC' || error.code === 'EDQUOT' ? 'io/no-space' : 'io/failed';
  const reason = error.message.replace(/^\w+: /, '').replace(/, \w+ '.*$/s, '');
  return new VeneerError(code, `Cannot copy ${displayByteString(path)}: ${reason}`, { cause: error });
}
