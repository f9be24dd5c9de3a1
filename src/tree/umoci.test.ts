/** Random well-formed layers, unpacked by umoci, against our merge. One image holds many cases, each in a directory of its own. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { applyLayers } from '../../test/support/reference-apply.ts';
import { missing, requireNewerTool } from '../../test/support/require-tool.ts';
import { anyLayers, dir, groupNames, mergeEntries, type Snapshot } from '../../test/support/tree-cases.ts';
import type { EntryType, TarEntry } from '../tar/entry.ts';
import { type TreeNode, walkTree } from './index.ts';
import { S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from './node.ts';
import { cleanPath } from './path.ts';

const LAYERS = 4;
const CASES = 250;

test('umoci unpacks the same tree', (t) => {
  if (process.getuid?.() !== 0) return missing(t, 'root is needed to unpack owners and devices');
  const umoci = requireNewerTool(t, 'umoci');
  if (umoci === null) return;
  const layers = makeCases();
  assert.ok(layers.flat().length > CASES * 10, 'the cases have hardly any entries');
  for (const type of ['link', 'symlink', 'char', 'fifo']) {
    assert.ok(
      layers
        .slice(1)
        .flat()
        .some((entry) => entry.type === type),
      `no ${type} in upper layers`,
    );
  }
  const scratch = mkdtempSync(join(tmpdir(), 'veneer-umoci-'));
  try {
    writeLayout(join(scratch, 'oci'), layers.map(writeTar));
    const result = spawnSync(
      umoci,
      ['raw', 'unpack', '--image', `${join(scratch, 'oci')}:x`, join(scratch, 'rootfs')],
      { encoding: 'utf8' },
    );
    assert.equal(result.status, 0, String(result.stderr));
    assert.deepEqual(snapshotMerge(layers), snapshotDisk(join(scratch, 'rootfs')));
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
});

/** Layers of all cases together. The seed is fixed, so that a failure stays one. */
function makeCases(): TarEntry[][] {
  const all: TarEntry[][] = Array.from({ length: LAYERS }, () => [dir('./')]);
  for (const [number, layers] of fc.sample(anyLayers, { seed: 20, numRuns: CASES }).entries()) {
    const accepted: TarEntry[][] = [];
    for (const entries of layers) {
      let layer: TarEntry[] = [];
      for (const entry of entries) {
        const tried = addWellFormed(layer, `case${number}`, entry);
        if (tried !== null && hasMeaning([...accepted, tried])) layer = tried;
      }
      accepted.push(layer);
    }
    for (const [level, layer] of accepted.entries()) all[level]!.push(...layer);
  }
  return all;
}

function hasMeaning(layers: TarEntry[][]): boolean {
  try {
    applyLayers(layers);
    return true;
  } catch {
    return false;
  }
}

/**
 * The layer with `entry` and its parents in it, as a tool that follows the spec
 * makes one: no name twice, every parent named. Null when the entry does not fit.
 */
function addWellFormed(layer: TarEntry[], root: string, entry: TarEntry): TarEntry[] | null {
  const parts = [root, ...cleanPath(entry.path)];
  const types = new Map<string, EntryType>(layer.map(({ path, type }) => [path, type]));
  const out = [...layer];
  const last = parts.at(-1)!;
  if (parts.length === 1 || parts.slice(0, -1).some((part) => part.startsWith('.wh.'))) return null;
  if (/^\.wh\.(\.{0,2}$|\.wh\.(?!\.opq$))/.test(last)) return null;
  for (let i = 1; i < parts.length; i++) {
    const parent = parts.slice(0, i).join('/');
    const type = types.get(parent);
    if (type !== undefined && type !== 'dir') return null;
    if (type === undefined) out.push(dir(parent, { uid: i }));
  }
  const path = parts.join('/');
  if (types.has(path)) return null;
  const isWhiteout = last.startsWith('.wh.');
  const content = String(entry.payloadOffset);
  const type = isWhiteout ? 'file' : entry.type;
  const size = type === 'file' && !isWhiteout ? content.length : 0;
  let { linkPath } = entry;
  if (type === 'link') {
    const target = [root, ...cleanPath(linkPath)];
    linkPath = target.join('/');
    // No symlinks on the way: what they mean changes while a layer is applied.
    if (target.length > 2 || path === linkPath || isRemoved(layer, target)) return null;
  }
  out.push({ ...entry, path, type, size, linkPath, xattrs: null });
  return out;
}

/** umoci applies in archive order: a whiteout before the link takes its target away. */
function isRemoved(layer: TarEntry[], target: string[]): boolean {
  const parent = target.slice(0, -1).join('/');
  const removers = [
    `${parent}/.wh.${target.at(-1)}`,
    `${parent}/.wh..wh..opq`,
    `.wh.${parent}`,
    '.wh..wh..opq',
  ];
  return layer.some(({ path }) => removers.includes(path));
}

function snapshotMerge(layers: TarEntry[][]): Snapshot {
  const named: [string, TreeNode][] = [];
  walkTree(mergeEntries(layers), (path, node) => named.push([path, node]));
  return groupNames(named, (node) => {
    const type = node.mode & S_IFMT;
    const data = type === S_IFREG ? String(node.at) : type === S_IFLNK ? node.target : '';
    const dev = type === S_IFCHR ? node.devMajor * 256 + node.devMinor : 0;
    const mtime = type === S_IFDIR ? '' : node.mtime;
    return [node.mode.toString(8), node.uid, node.gid, mtime, dev, data].join(' ');
  });
}

function snapshotDisk(root: string): Snapshot {
  const described = new Map<string, string>();
  const named: [string, string][] = [];
  const visit = (path: string): void => {
    const full = Buffer.from(join(root, path), 'latin1');
    const stat = lstatSync(full);
    const data = stat.isFile()
      ? readFileSync(full, 'latin1')
      : stat.isSymbolicLink()
        ? readlinkSync(full, 'latin1')
        : '';
    const dev = stat.isCharacterDevice() ? stat.rdev : 0;
    // umoci touches some of the directories in which an opaque marker removes something.
    const mtime = stat.isDirectory() ? '' : Math.floor(stat.mtimeMs / 1000);
    described.set(String(stat.ino), [stat.mode.toString(8), stat.uid, stat.gid, mtime, dev, data].join(' '));
    named.push([path, String(stat.ino)]);
    if (!stat.isDirectory()) return;
    for (const name of readdirSync(full, 'latin1')) visit(path === '' ? name : `${path}/${name}`);
  };
  visit('');
  return groupNames(named, (ino) => described.get(ino)!);
}

const TYPEFLAGS: Record<EntryType, string> = {
  file: '0',
  link: '1',
  symlink: '2',
  char: '3',
  block: '4',
  dir: '5',
  fifo: '6',
};

/** ustar (POSIX.1-2024, pax). */
function writeTar(entries: TarEntry[]): Buffer {
  const blocks: Buffer[] = [];
  for (const entry of entries) {
    const header = Buffer.alloc(512);
    const octal = (value: number, at: number, width: number): number =>
      header.write(value.toString(8).padStart(width - 1, '0'), at, 'latin1');
    header.write(entry.path, 0, 100, 'latin1');
    octal(entry.mode, 100, 8);
    octal(entry.uid, 108, 8);
    octal(entry.gid, 116, 8);
    octal(entry.size, 124, 12);
    octal(entry.mtime, 136, 12);
    header.write('        ', 148, 'latin1');
    header.write(TYPEFLAGS[entry.type], 156, 'latin1');
    header.write(entry.linkPath, 157, 100, 'latin1');
    header.write('ustar\x0000', 257, 'latin1');
    octal(entry.devMajor, 329, 8);
    octal(entry.devMinor, 337, 8);
    octal(
      header.reduce((sum, byte) => sum + byte, 0),
      148,
      7,
    );
    blocks.push(header);
    if (entry.size > 0) {
      const data = Buffer.alloc(512);
      data.write(String(entry.payloadOffset), 'latin1');
      blocks.push(data);
    }
  }
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}

function writeLayout(path: string, tars: Buffer[]): void {
  mkdirSync(join(path, 'blobs/sha256'), { recursive: true });
  const put = (mediaType: string, bytes: Buffer): { mediaType: string; digest: string; size: number } => {
    const hex = createHash('sha256').update(bytes).digest('hex');
    writeFileSync(join(path, 'blobs/sha256', hex), bytes);
    return {
      mediaType: `application/vnd.oci.image.${mediaType}`,
      digest: `sha256:${hex}`,
      size: bytes.length,
    };
  };
  const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
  const layers = tars.map((tar) => put('layer.v1.tar', tar));
  const rootfs = { type: 'layers', diff_ids: layers.map(({ digest }) => digest) };
  const config = put('config.v1+json', json({ architecture: 'amd64', os: 'linux', config: {}, rootfs }));
  const manifest = put('manifest.v1+json', json({ schemaVersion: 2, config, layers }));
  const named = { ...manifest, annotations: { 'org.opencontainers.image.ref.name': 'x' } };
  writeFileSync(join(path, 'index.json'), json({ schemaVersion: 2, manifests: [named] }));
  writeFileSync(join(path, 'oci-layout'), json({ imageLayoutVersion: '1.0.0' }));
}
