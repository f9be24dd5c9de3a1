/** Writes an mtree(5) file of a tree, in the form of go-mtree's, so that umoci reads it as its own. */
import { hostname, userInfo } from 'node:os';
import { joinPath } from '../../tree/path.ts';
import { KEYWORDS, type Keyword } from './keywords.ts';
import { encodeVis } from './vis.ts';

const PIECE = 64 << 10;

/** What a tree must have to be written: of directories the children, null for all else. */
export interface Branch<N> {
  readonly children: ReadonlyMap<string, N> | null;
}

/** One name, and how many directories are above it; a directory comes before what is in it, and its files first. */
export interface Visited<N> {
  readonly depth: number;
  readonly path: string;
  readonly name: string;
  readonly node: N;
}

/** All names in the order of an mtree file: `.`, then of each directory the files, then the directories, sorted. */
export function* mtreeOrder<N extends Branch<N>>(root: N): Generator<Visited<N>> {
  const open: { path: string; node: N; names: string[] }[] = [
    { path: '', node: root, names: orderedNames(root) },
  ];
  yield { depth: 0, path: '', name: '.', node: root };
  for (let top = open.at(-1); top !== undefined; top = open.at(-1)) {
    const name = top.names.pop();
    if (name === undefined) {
      open.pop();
      continue;
    }
    const node = top.node.children!.get(name)!;
    const path = joinPath(top.path, name);
    yield { depth: open.length, path, name, node };
    if (node.children !== null) open.push({ path, node, names: orderedNames(node) });
  }
}

/** Reversed, so that they can be taken off the end. */
function orderedNames<N extends Branch<N>>(dir: N): string[] {
  const files: string[] = [];
  const dirs: string[] = [];
  for (const [name, node] of dir.children!) (node.children === null ? files : dirs).push(name);
  return [...files.sort(), ...dirs.sort()].reverse();
}

/** Yields the file in pieces (latin1). `keywordsOf` says what stands on the disk, `place` where, for the comment. */
export function* mtreeText<N extends Branch<N>>(
  root: N,
  keywordsOf: (node: N, path: string) => readonly Keyword[],
  place: string,
): Generator<string> {
  const writer = new MtreeWriter();
  writer.header(place);
  let open = 0;
  for (const { depth, path, name, node } of mtreeOrder(root)) {
    for (; open > depth; open--) writer.line('..');
    const words = keywordsOf(node, path).map(([keyword, value]) => `${keyword}=${value}`);
    if (node.children === null) writer.file(name, words);
    else {
      writer.directory(path, name, words);
      open++;
    }
    if (writer.length >= PIECE) yield writer.take();
  }
  for (; open > 0; open--) writer.line('..');
  yield writer.take();
}

class MtreeWriter {
  #text: string[] = [];
  /** What the last `/set` line says. */
  #set = new Set<string>();
  length = 0;

  line(text: string): void {
    this.#text.push(text, '\n');
    this.length += text.length + 1;
  }

  take(): string {
    const text = this.#text.join('');
    this.#text = [];
    this.length = 0;
    return text;
  }

  header(root: string): void {
    const comment = (name: string, value: string): void => {
      this.line(`#${`${name}: `.padStart(16)}${Buffer.from(value).toString('latin1').replace(/\n/g, ' ')}`);
    };
    comment('user', userName());
    comment('machine', hostname());
    comment('tree', root);
    comment('date', formatDate(new Date()));
    comment('keywords', KEYWORDS.join(','));
  }

  directory(path: string, name: string, words: readonly string[]): void {
    this.line('');
    // Go's writer puts the bare path here; a line feed in it would end the comment.
    this.line(`# ${path === '' ? '.' : path.replace(/\n/g, '\\012')}`);
    const owner = words.filter((word) => /^[ug]id=/.test(word));
    if (owner.some((word) => !this.#set.has(word))) {
      const set = ['type=file', 'nlink=1', 'mode=0664', ...owner];
      this.#set = new Set(set);
      this.line(`/set ${set.join(' ')}`);
    }
    this.line(`${encodeVis(name)} ${this.#unset(words)}`);
  }

  file(name: string, words: readonly string[]): void {
    this.line(`    ${encodeVis(name)} ${this.#unset(words)}`);
  }

  #unset(words: readonly string[]): string {
    return words.filter((word) => !this.#set.has(word)).join(' ');
  }
}

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    // An id that stands in no passwd file.
    return String(process.getuid!());
  }
}

/** As Go's layout "Mon Jan 2 15:04:05 2006" has it. */
function formatDate(date: Date): string {
  const [day, month, number, year] = date.toDateString().split(' ');
  return `${day} ${month} ${Number(number)} ${date.toTimeString().slice(0, 8)} ${year}`;
}
