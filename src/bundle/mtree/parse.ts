/** Reads mtree(5) files: umoci's, ours, and others that keep to relative names or full paths. */
import { cleanPath, joinPath } from '../../tree/path.ts';
import { decodeVis } from './vis.ts';

/** Keyword to value; `''` for one without a value. */
export type Keywords = Map<string, string>;

/** go-mtree's names of the same thing. */
const SYNONYMS = new Map([
  ['sha256', 'sha256digest'],
  ['sha1', 'sha1digest'],
  ['md5', 'md5digest'],
  ['sha384', 'sha384digest'],
  ['sha512', 'sha512digest'],
  ['xattrs', 'xattr'],
]);

export function keywordSynonym(keyword: string): string {
  return SYNONYMS.get(keyword) ?? keyword;
}

/**
 * All names of the file by path (byte strings from the root, '' for the root), in its order. With `wanted` only those
 * have their keywords; the others have none.
 */
export function parseMtree(text: string, wanted?: ReadonlySet<string>): Map<string, Keywords> {
  const all = new Map<string, Keywords>();
  const dirs: string[] = [];
  const nothing: Keywords = new Map();
  let set: readonly string[] = [];
  for (const line of logicalLines(text)) {
    const words = line.split(/[ \t]+/).filter((word) => word !== '');
    const [name] = words;
    if (name === undefined || name.startsWith('#')) continue;
    if (line.startsWith('/')) {
      if (name === '/set') set = words.slice(1);
      else if (name === '/unset') set = [];
      continue;
    }
    if (name === '..') {
      dirs.pop();
      continue;
    }
    const isFull = name.includes('/');
    const own = cleanPath(decodeVis(name)).join('/');
    const path = isFull ? own : joinPath(dirs.at(-1) ?? '', own);
    all.set(path, wanted === undefined || wanted.has(path) ? readKeywords(set, words) : nothing);
    if (!isFull && words.includes('type=dir')) dirs.push(path);
  }
  return all;
}

/** A line that ends in a backslash goes on in the next one. */
function* logicalLines(text: string): Generator<string> {
  let begun = '';
  for (let at = 0; at < text.length; ) {
    let end = text.indexOf('\n', at);
    if (end < 0) end = text.length;
    const line = text.slice(at, end);
    at = end + 1;
    if (line.endsWith('\\') && !line.startsWith('#')) begun += line.slice(0, -1);
    else {
      yield begun + line;
      begun = '';
    }
  }
  if (begun !== '') yield begun;
}

function readKeywords(set: readonly string[], words: readonly string[]): Keywords {
  const keywords: Keywords = new Map();
  for (const word of [...set, ...words.slice(1)]) {
    const equals = word.indexOf('=');
    if (equals < 0) keywords.set(keywordSynonym(word), '');
    else keywords.set(keywordSynonym(word.slice(0, equals)), word.slice(equals + 1));
  }
  return keywords;
}
