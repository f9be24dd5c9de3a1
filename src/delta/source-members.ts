/** The members of all sources, found by what a member of the target may have in common with them. */

import type { ByteSource } from '../bytes/io.ts';
import type { AddressSpace } from './address-space.ts';
import { listMembers, type Member } from './members.ts';
import type { Range } from './plan.ts';
import { SKETCH_BYTES, SketchIndex } from './sketches.ts';

/** A member of a source; its offsets are addresses. */
export type SourceMember = Readonly<Member>;

/** Members of one size that are compared, at most: many files may have the size of few. */
const MAX_OF_SIZE = 32;
/** Members that a new one is matched against, at most. */
const MAX_LIKE = 2;
/** Smaller files cost less than looking for others like them. */
const WORTH_A_SKETCH = 512;

export class SourceMembers {
  readonly #space: AddressSpace;
  readonly #byPath = new Map<string, SourceMember>();
  readonly #bySize = new Map<number, SourceMember[]>();
  readonly #byPattern = new Map<string, SourceMember[]>();
  readonly #ends: Range[] = [];
  /** Paths that the target has too. */
  readonly #kept: ReadonlySet<string>;
  #sketches: SketchIndex<SourceMember> | null = null;

  constructor(space: AddressSpace, targetPaths: ReadonlySet<string>) {
    this.#space = space;
    this.#kept = targetPaths;
    space.sources.forEach((source, index) => {
      const start = space.starts[index]!;
      const members = listMembers(source);
      for (const member of members) this.#add(moved(member, start));
      const end = members.at(-1)?.end ?? 0;
      if (end < source.size) this.#ends.push({ address: start + end, length: source.size - end });
    });
  }

  #add(member: SourceMember): void {
    // A later source is a higher layer: its file is the one that the image shows.
    const before = this.#byPath.get(member.path);
    if (member.size > 0 || before === undefined || before.size === 0) this.#byPath.set(member.path, member);
    if (member.size === 0) return;
    push(this.#bySize, member.size, member);
    for (const pattern of patterns(member.path)) push(this.#byPattern, pattern, member);
  }

  byPath(path: string): SourceMember | undefined {
    return this.#byPath.get(path);
  }

  /** Members whose payload is as long: the namesake first, then those with the same last name. */
  *ofSize(member: Member, namesake: SourceMember | undefined): Generator<SourceMember> {
    if (namesake?.size === member.size) yield namesake;
    const all = this.#bySize.get(member.size);
    if (all === undefined) return;
    const name = baseName(member.path);
    let count = 0;
    for (const one of all) {
      if (one !== namesake && baseName(one.path) === name && count++ < MAX_OF_SIZE) yield one;
    }
    for (const one of all) {
      if (one !== namesake && baseName(one.path) !== name && count++ < MAX_OF_SIZE) yield one;
    }
  }

  /** Members that may hold something like it, the likeliest first. `target` is the tar that it is in. */
  like(member: Member, namesake: SourceMember | undefined, target: ByteSource): SourceMember[] {
    if (namesake !== undefined && namesake.size > 0) return [namesake];
    for (const pattern of patterns(member.path)) {
      const found = this.#byPattern.get(pattern);
      if (found === undefined) continue;
      const distance = ({ size }: SourceMember): number => Math.abs(Math.log(size / member.size));
      return [...found].sort((a, b) => distance(a) - distance(b)).slice(0, MAX_LIKE);
    }
    if (member.size < WORTH_A_SKETCH) return [];
    const bytes = target.read(member.payload, Math.min(member.size, SKETCH_BYTES));
    return this.#removed().find(bytes, MAX_LIKE);
  }

  /** Sketches of what the target has no more under its name: it may be there under another. */
  #removed(): SketchIndex<SourceMember> {
    if (this.#sketches !== null) return this.#sketches;
    this.#sketches = new SketchIndex();
    for (const member of this.#byPath.values()) {
      if (member.size < WORTH_A_SKETCH || this.#kept.has(member.path)) continue;
      const bytes = this.#space.read(member.payload, Math.min(member.size, SKETCH_BYTES));
      this.#sketches.add(bytes, member);
    }
    return this.#sketches;
  }

  /** What follows the last member of a source, where it is at least so long; else the longest. */
  ends(length: number): Range[] {
    const end = this.#ends.find((range) => range.length >= length) ?? this.#ends[0];
    return end === undefined ? [] : [end];
  }

  /** Each source as one range. */
  all(): Range[] {
    return this.#space.sources.map(({ size }, index) => ({
      address: this.#space.starts[index]!,
      length: size,
    }));
  }
}

function moved(member: Member, by: number): SourceMember {
  return {
    ...member,
    start: member.start + by,
    payload: member.payload + by,
    end: member.end + by,
  };
}

function baseName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

/** The path and the last name without their numbers: `libz.so.1.2.3` and `libz.so.1.3` are of one pattern. */
function patterns(path: string): string[] {
  const whole = path.replace(/\d+(?:[._-]\d+)*/g, '0');
  return [whole, baseName(whole)];
}

function push<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [value]);
  else list.push(value);
}
