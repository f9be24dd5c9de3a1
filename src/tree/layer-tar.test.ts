import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  anyEntry,
  buildLayer,
  dir,
  file,
  link,
  type Snapshot,
  snapshotTree,
  symlink,
} from '../../test/support/tree-cases.ts';
import { VeneerError } from '../errors.ts';
import { type TarEntry, TarScanner } from '../tar/index.ts';
import { type FileTree, fillPiece, layerTar, TreeBuilder, type TreeNode, walkTree } from './index.ts';

const RUNS = Number(process.env.VENEER_PROPERTY_RUNS ?? 2000);

/** Bytes that tell where they stand in their source. */
const patterned = (_source: number, at: number, length: number): Buffer =>
  Buffer.from(Uint8Array.from({ length }, (_, i) => ((at + i) * 7 + ((at + i) >> 8)) & 0xff));

const write = (tree: FileTree, whiteoutTime?: number): Buffer =>
  Buffer.concat([
    ...layerTar(tree, (node, from, piece) => fillPiece(node, from, piece, patterned), {
      ...(whiteoutTime === undefined ? {} : { whiteoutTime }),
    }),
  ]);

function entriesOf(tar: Buffer): TarEntry[] {
  const entries: TarEntry[] = [];
  const scanner = new TarScanner({ onEntry: (entry) => void entries.push(entry) });
  scanner.write(tar);
  scanner.end();
  return entries;
}

function readBack(tar: Buffer): FileTree {
  const builder = new TreeBuilder({ kind: 'tar', digest: 'sha256:0', size: 0, alignment: 512 });
  for (const entry of entriesOf(tar)) builder.add(entry);
  return builder.finish();
}

const listing = (tar: Buffer): string[] =>
  entriesOf(tar).map(
    ({ type, path, linkPath }) => `${type} ${path}${linkPath === '' ? '' : ` -> ${linkPath}`}`,
  );

/** Checks the content of every file against the original's and says where that one had it, so that trees compare. */
function compareContent(original: FileTree, again: FileTree, tar: Buffer): void {
  const nodes = new Map<string, TreeNode>();
  walkTree(original, (path, node) => nodes.set(path, node));
  const done = new Set<TreeNode>();
  walkTree(again, (path, node) => {
    const same = nodes.get(path);
    if (same === undefined || node.source < 0 || done.has(node)) return;
    done.add(node);
    const written = tar.subarray(node.at, node.at + node.size);
    assert.ok(written.equals(patterned(0, same.at, same.size)), path);
    node.at = same.at;
  });
}

/** Null for what is refused; the reason must be one that may be. */
function attempt<T>(work: () => T, reasons: RegExp): T | null {
  try {
    return work();
  } catch (error) {
    assert.ok(error instanceof VeneerError, String(error));
    assert.match(error.message, reasons);
    return null;
  }
}

/** A directory that no entry names and nothing is in cannot be said. */
function withoutEmptyImplied(snapshot: Snapshot): Snapshot {
  const kept = { ...snapshot };
  for (const path of Object.keys(kept).sort().reverse()) {
    const isEmpty = !Object.keys(kept).some((other) => other.startsWith(`${path}/`));
    if (path !== '/' && isEmpty && kept[path]!.endsWith(' implied')) delete kept[path];
  }
  return kept;
}

test('a layer written and read is the same layer', () => {
  let meaningful = 0;
  fc.assert(
    fc.property(fc.array(anyEntry, { maxLength: 14 }), (entries) => {
      const tree = attempt(() => buildLayer(entries), /^Cannot/);
      const tar = tree && attempt(() => write(tree), /of a lower layer, which this layer|means a deletion/);
      if (tree === null || tar === null) return;
      meaningful++;
      const again = readBack(tar);
      compareContent(tree, again, tar);
      assert.deepEqual(snapshotTree(again), withoutEmptyImplied(snapshotTree(tree)));
      assert.ok(write(buildLayer([...entries])).equals(tar), 'the same bytes again');
    }),
    { numRuns: RUNS },
  );
  assert.ok(meaningful > RUNS / 4, `${meaningful} of ${RUNS} layers can be written`);
});

test('sorted, parents first, whiteouts before children', () => {
  const tree = buildLayer([
    file('z'),
    dir('b'),
    file('b/two'),
    file('b/.wh.gone'),
    file('b/.wh..wh..opq'),
    file('c/.wh.away'),
    link('b/one', 'b/two'),
    symlink('a', 'b'),
    link('d', 'lower/file'),
    link('e', 'd'),
  ]);
  assert.deepEqual(listing(write(tree)), [
    'symlink a -> b',
    'dir b/',
    'file b/.wh..wh..opq',
    'file b/one',
    'link b/two -> b/one',
    'file c/.wh.away',
    'link d -> lower/file',
    'link e -> d',
    'file z',
  ]);
});

test('the root is written when something names it', () => {
  const named = listing(write(buildLayer([dir('./'), file('.wh..wh..opq'), file('f')])));
  assert.deepEqual(named, ['dir ./', 'file .wh..wh..opq', 'file f']);
});

test('whiteouts carry the time that is asked for', () => {
  const [entry] = entriesOf(write(buildLayer([file('.wh.gone')]), 1_500_000_000));
  assert.equal(entry!.mtime, 1_500_000_000);
});

test('holes are zeros, large files come in pieces', () => {
  const size = 700_000;
  const sparse = [{ offset: 300_000, length: 5000, source: 1024 }];
  const tree = buildLayer([file('f', { size, sparse })]);
  const pieces = [...layerTar(tree, (node, from, piece) => fillPiece(node, from, piece, patterned))];
  assert.ok(pieces.length > 2 && pieces.every((piece) => piece.length < 600_000));
  const tar = Buffer.concat(pieces);
  const expected = Buffer.alloc(size);
  patterned(0, 1024, 5000).copy(expected, 300_000);
  assert.ok(tar.subarray(512, 512 + size).equals(expected));
});

test('what a layer cannot say is refused', () => {
  const refused = (tree: FileTree, reason: RegExp): void =>
    assert.throws(
      () => write(tree),
      (error) => error instanceof VeneerError && error.code === 'tree/invalid' && reason.test(error.message),
    );
  const named = buildLayer([file('a')]);
  named.root.children!.set('.wh.b', named.root.children!.get('a')!);
  refused(named, /^Cannot write '\/\.wh\.b' to a layer: a name that begins with '\.wh\.' means a deletion/);
  const deletion = buildLayer([file('.wh.a')]);
  deletion.root.whiteouts!.add('.wh.b');
  refused(deletion, /means a deletion/);
  refused(buildLayer([link('b', 'a'), file('a')]), /which this layer replaces/);
  refused(buildLayer([link('b', 'a'), file('.wh.a')]), /which this layer removes/);
  refused(buildLayer([link('b', 'd/a'), dir('d'), file('d/.wh..wh..opq')]), /which this layer removes/);
  const socket = buildLayer([file('s')]);
  socket.root.children!.get('s')!.mode = 0o140755;
  refused(socket, /a socket is no part of an image/);
});
