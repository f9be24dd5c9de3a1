/** A scratch folder with small layered images made by our own writer, and a look at what mounting left behind. */
import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { deviceTag, planImage, writeImage } from '../../src/erofs/index.ts';
import {
  type Backing,
  type ErofsImage,
  type MountRequest,
  probeCapabilities,
  sweepStale,
  unmount,
} from '../../src/mount/index.ts';
import { readMountInfo } from '../../src/mount/mountinfo.ts';
import { tryErofs, withScratch } from '../../src/mount/probe.ts';
import { readLoopBacking } from '../../src/sys/loop.ts';
import { type DataSource, type FileTree, S_IFDIR, S_IFREG, TreeNode } from '../../src/tree/node.ts';

/** Why mounts cannot be tested here; false when they can. In CI that is a failure, not a skip. */
export const skipReason: string | false =
  process.getuid?.() === 0 || process.env.CI !== undefined ? false : 'mounting needs root';

const BLOCK = 512;

export class MountLab {
  readonly directory: string;
  readonly runDir: string;
  readonly target: string;

  constructor(t: TestContext, parent = tmpdir()) {
    this.directory = mkdtempSync(join(parent, 'veneer-mount-'));
    this.runDir = join(this.directory, 'run');
    this.target = join(this.directory, 'target');
    mkdirSync(this.target);
    t.after(() => this.close());
  }

  /** Releases whatever a failed test left. */
  close(): void {
    for (;;) {
      const mount = readMountInfo().findLast(({ target }) => target.startsWith(`${this.directory}/`));
      if (mount === undefined) break;
      unmount(mount.target, this.runDir, { lazy: true });
    }
    sweepStale(this.runDir);
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** Layer `number`: `own-N` and `shared` (which every layer overwrites), both saying `layer N`. */
  makeLayer(number: number): ErofsImage {
    return this.#write(`layer-${number}`, [number]);
  }

  makeLayers(count: number): ErofsImage[] {
    return Array.from({ length: count }, (_, number) => this.makeLayer(number));
  }

  /** All of {@link makeLayers} as one image, `shared` from the top. */
  makeMerged(count: number): ErofsImage {
    return this.#write(
      'merged',
      Array.from({ length: count }, (_, number) => number),
    );
  }

  #write(name: string, numbers: readonly number[]): ErofsImage {
    const root = new TreeNode(S_IFDIR | 0o751);
    root.uid = 7;
    root.gid = 8;
    root.mtime = 1_600_000_000;
    root.mtimeNsec = 123;
    root.xattrs = new Map([['user.root', 'yes']]);
    const sources: DataSource[] = [];
    const devices = numbers.map((number, source) => {
      const text = `layer ${number}\n`;
      const file = new TreeNode(S_IFREG | 0o644);
      file.size = text.length;
      file.source = source;
      root.children!.set(`own-${number}`, file);
      root.children!.set('shared', file);
      const bytes = Buffer.alloc(2 * BLOCK);
      bytes.write(text);
      const path = join(this.directory, `data-${number}.tar`);
      writeFileSync(path, bytes);
      const digest = `sha256:${String(number).padStart(64, '0')}`;
      sources.push({ kind: 'tar', digest, size: bytes.length, alignment: BLOCK });
      return { path, size: bytes.length, tag: deviceTag(digest) };
    });
    const tree: FileTree = { root, sources, findings: [] };
    const plan = planImage(tree, { blockSize: BLOCK });
    const image = Buffer.alloc(plan.size);
    writeImage(plan, { write: (chunk, at) => chunk.copy(image, at) }, () => assert.fail('nothing to copy'));
    const primary = join(this.directory, `${name}.erofs`);
    writeFileSync(primary, image);
    return { primary, devices };
  }

  request(images: readonly ErofsImage[], more: Partial<MountRequest> = {}): MountRequest {
    return {
      target: this.target,
      mode: 'layers',
      images,
      options: [],
      backing: 'auto',
      runDir: this.runDir,
      ...more,
    };
  }

  /** Mount points below the folder, with the type of each. */
  mounts(): string[] {
    return readMountInfo()
      .filter(({ target }) => target.startsWith(`${this.directory}/`))
      .map(({ target, type }) => `${target.slice(this.directory.length + 1)} ${type}`);
  }

  /** Names of loop devices that read our files. */
  loops(): string[] {
    return readdirSync('/sys/block')
      .filter((name) => name.startsWith('loop'))
      .filter((name) => readLoopBacking(name)?.startsWith(`${this.directory}/`) === true);
  }

  entries(): string[] {
    return existsSync(this.runDir) ? readdirSync(this.runDir) : [];
  }

  read(name: string): string {
    return readFileSync(join(this.target, name), 'utf8');
  }

  /** Fails when any trace of a mount is left. */
  async assertClean(): Promise<void> {
    assert.deepEqual(this.mounts(), []);
    assert.deepEqual(this.entries(), []);
    // The kernel clears a loop device a moment after its last user.
    for (let i = 0; i < 100 && this.loops().length > 0; i++)
      await new Promise((done) => setTimeout(done, 20));
    assert.deepEqual(this.loops(), []);
    const open = readdirSync('/proc/self/fd').length;
    assert.ok(open < 64, `${open} descriptors are open`);
  }
}

const own = probeCapabilities();

/** What this kernel can, and the same without overlays over detached mounts, as before 6.15. */
export const kernels = [
  { name: 'this kernel', capabilities: own },
  ...(own.detachedLowers
    ? [{ name: 'attached lowers', capabilities: { ...own, detachedLowers: false } }]
    : []),
];

/** Each backing, and why it cannot be tested here: old kernels and tmpfs have no file-backed mounts. */
export const backings: readonly { readonly backing: Backing; readonly skip: string | false }[] = [
  { backing: 'file', skip: skipReason || whyNoFiles() },
  { backing: 'loop', skip: skipReason },
];

function whyNoFiles(): string | false {
  if (process.env.CI !== undefined) return false;
  const attempt = withScratch(tmpdir(), (scratch) => tryErofs(scratch, 4096, 'file'));
  return attempt.ok ? false : `no file-backed mounts in ${tmpdir()}: ${attempt.reason}`;
}
