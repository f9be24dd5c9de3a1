/** A directory against an mtree file: `umoci raw mtree-validate`. */
import { readFileSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { VeneerError } from '../../errors.ts';
import { S_IFMT, S_IFREG } from '../../tree/node.ts';
import { type DiskNode, DiskTree } from '../disk-tree.ts';
import { compareKeywords, type Difference } from './compare.ts';
import { KEYWORDS, type Keyword } from './keywords.ts';
import { type Keywords, keywordSynonym, parseMtree } from './parse.ts';

export interface ValidateOptions {
  /** Instead of those that the file uses. */
  readonly use: readonly string[] | null;
  /** More of them. */
  readonly add: readonly string[];
  /** umoci's own instead of those that the file uses. */
  readonly umoci: boolean;
  readonly signal?: AbortSignal;
}

/** A name that is not as the file says it. */
export interface Mismatch {
  /** Byte string from the root. */
  readonly path: string;
  readonly what: 'missing' | 'unexpected' | 'differs';
  readonly differences: readonly Difference[];
}

/** The event loop gets a turn after so many names. */
const TURN_NAMES = 2000;
const DIGESTS = new Map([
  ['md5digest', 'md5'],
  ['sha1digest', 'sha1'],
  ['ripemd160digest', 'ripemd160'],
  ['sha384digest', 'sha384'],
  ['sha512digest', 'sha512'],
]);
/** What is looked at in one way or another; `flags` says nothing on Linux. */
const KNOWN = new Set<string>([...KEYWORDS, ...DIGESTS.keys(), 'time', 'flags']);

/** Every name that is not as `manifest` says, sorted. Throws `oci/not-found`, `cli/usage` for keywords that are none. */
export async function validateMtree(
  manifest: string,
  directory: string,
  options: ValidateOptions,
): Promise<Mismatch[]> {
  const expected = parseMtree(readManifest(manifest));
  const keywords = keywordsToCompare(expected, options);
  const disk = new DiskTree(directory, null);
  try {
    const mismatches: Mismatch[] = [];
    const counts = (keyword: string): boolean =>
      keywords.has(keyword.startsWith('xattr.') ? 'xattr' : keyword);
    const all = disk.unproven();
    if (keywords.has('sha256digest')) {
      await disk.hash(
        [...all].filter(([path]) => expected.get(path)?.has('sha256digest') === true),
        options.signal,
      );
    }
    const seen = new Set<string>();
    for (const [path, node] of all) {
      if (seen.size % TURN_NAMES === 0) await nextTurn();
      options.signal?.throwIfAborted();
      seen.add(path);
      const wanted = expected.get(path);
      if (wanted === undefined) {
        mismatches.push({ path, what: 'unexpected', differences: [] });
        continue;
      }
      const found = foundKeywords(disk, path, node, keywords);
      const differences = compareKeywords(inOneTime(wanted, keywords), found, counts);
      if (differences.length > 0) mismatches.push({ path, what: 'differs', differences });
    }
    for (const path of expected.keys()) {
      if (!seen.has(path)) mismatches.push({ path, what: 'missing', differences: [] });
    }
    return mismatches.sort((a, b) => (a.path < b.path ? -1 : 1));
  } finally {
    disk.close();
  }
}

function readManifest(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch (cause) {
    const isMissing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
    const reason = isMissing ? 'no such file or directory' : (cause as Error).message;
    throw new VeneerError('oci/not-found', `Cannot open ${path}: ${reason}`, {
      cause,
      ...(isMissing ? { hint: 'Bundles that are mounted, or made by hooks, have no mtree file.' } : {}),
    });
  }
}

function keywordsToCompare(expected: ReadonlyMap<string, Keywords>, options: ValidateOptions): Set<string> {
  const { use, add, umoci } = options;
  const chosen = use ?? (umoci ? KEYWORDS : usedKeywords(expected));
  const keywords = new Set(['type', ...[...chosen, ...add].map(keywordSynonym)]);
  for (const keyword of keywords) {
    if (!KNOWN.has(keyword)) {
      throw new VeneerError(
        'cli/usage',
        `Cannot compare the keyword ${JSON.stringify(keyword)}: it is not known here`,
      );
    }
  }
  return keywords;
}

function usedKeywords(expected: ReadonlyMap<string, Keywords>): Set<string> {
  const used = new Set<string>();
  for (const keywords of expected.values()) {
    for (const keyword of keywords.keys()) used.add(keyword.startsWith('xattr.') ? 'xattr' : keyword);
  }
  return used;
}

/** A file with whole seconds is compared in whole seconds, whichever keyword it uses. */
function inOneTime(keywords: Keywords, compared: ReadonlySet<string>): Keywords {
  const time = keywords.get('time');
  if (time === undefined || keywords.has('tar_time') || !compared.has('tar_time')) return keywords;
  return new Map([...keywords, ['tar_time', time.replace(/\..*/, '.000000000')]]);
}

function foundKeywords(
  disk: DiskTree,
  path: string,
  node: DiskNode,
  compared: ReadonlySet<string>,
): Keyword[] {
  const found = disk.keywords(path, node, compared.has('sha256digest') ? 'digest' : 'stat');
  const { mtime, mtimeNsec, mode } = node.facts;
  if (compared.has('time')) found.push(['time', `${mtime}.${String(mtimeNsec).padStart(9, '0')}`]);
  if ((mode & S_IFMT) !== S_IFREG) return found;
  for (const [keyword, algorithm] of DIGESTS) {
    if (compared.has(keyword)) found.push([keyword, disk.digest(path, algorithm)]);
  }
  return found;
}
