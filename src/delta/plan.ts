/**
 * Which parts of a target tar stand in its sources: whole members first, by path, size and bytes; for what is left
 * the members that may be like it. What is found here has been compared byte by byte.
 */
import type { ByteSource } from '../bytes/io.ts';
import type { AddressSpace } from './address-space.ts';
import { equalBytes } from './equal-bytes.ts';
import { listMembers, type Member } from './members.ts';
import { type SourceMember, SourceMembers } from './source-members.ts';

/** A stretch of the target; together, in order, they are all of it. */
export type Step =
  /** Equal to what stands at `address`. */
  | { readonly kind: 'copy'; readonly start: number; readonly length: number; readonly address: number }
  /** Of the same length as something that is nearly the same: a header. */
  | { readonly kind: 'near'; readonly start: number; readonly length: number; readonly address: number }
  /** To be looked for in `like`, of which there is some. */
  | {
      readonly kind: 'match';
      readonly start: number;
      readonly length: number;
      readonly like: readonly Range[];
    }
  /** Nothing is known that is like it. */
  | { readonly kind: 'literal'; readonly start: number; readonly length: number };

export interface Range {
  readonly address: number;
  readonly length: number;
}

/** A header is so long, or longer. */
const HEADER = 512;
/** Longest literal step. */
const LITERAL = 1 << 20;

export function* planSteps(target: ByteSource, space: AddressSpace): Generator<Step> {
  const members = listMembers(target);
  const sources = new SourceMembers(space, new Set(members.map(({ path }) => path)));
  const planner = new Planner(target, space, sources);
  let at = 0;
  for (const member of members) {
    yield* planner.member(member);
    at = member.end;
  }
  if (at < target.size) yield* planner.rest(at, members.length === 0);
}

class Planner {
  readonly #target: ByteSource;
  readonly #space: AddressSpace;
  readonly #sources: SourceMembers;

  constructor(target: ByteSource, space: AddressSpace, sources: SourceMembers) {
    this.#target = target;
    this.#space = space;
    this.#sources = sources;
  }

  *member(member: Member): Generator<Step> {
    const namesake = this.#sources.byPath(member.path);
    if (member.size === 0) {
      yield* this.#header(member, namesake);
      yield* this.#padding(member, namesake);
      return;
    }
    const same = this.#same(member, namesake);
    if (same !== undefined) {
      yield* this.#header(member, same);
      yield { kind: 'copy', start: member.payload, length: member.size, address: same.payload };
      yield* this.#padding(member, same);
      return;
    }
    const like = this.#sources.like(member, namesake, this.#target);
    yield* this.#header(member, like[0]);
    const ranges = like.map(({ payload, size }) => ({ address: payload, length: size }));
    yield* matched(member.payload, member.size, ranges);
    yield* this.#padding(member, like[0]);
  }

  /** What follows the last member: zeros as a rule; or all, where there are no members. */
  *rest(start: number, whole: boolean): Generator<Step> {
    const length = this.#target.size - start;
    const like = whole ? this.#sources.all() : this.#sources.ends(length);
    yield* matched(start, length, like);
  }

  #same(member: Member, namesake: SourceMember | undefined): SourceMember | undefined {
    for (const source of this.#sources.ofSize(member, namesake)) {
      if (equalBytes(this.#target, member.payload, this.#space, source.payload, member.size)) return source;
    }
    return undefined;
  }

  *#header(member: Member, source: SourceMember | undefined): Generator<Step> {
    const start = member.start;
    const length = member.payload - start;
    if (length === 0) return;
    const there = source === undefined ? 0 : source.payload - source.start;
    if (source === undefined || there < HEADER) {
      yield { kind: 'literal', start, length };
      return;
    }
    // Extensions stand first and may be there on one side only; the header itself is always last.
    const shared = there === length ? length : HEADER;
    if (shared < length) yield { kind: 'literal', start, length: length - shared };
    yield { kind: 'near', start: member.payload - shared, length: shared, address: source.payload - shared };
  }

  /** Zeros. The last of the source's, so that the run goes on into what follows. */
  *#padding(member: Member, source: SourceMember | undefined): Generator<Step> {
    const start = member.payload + member.size;
    const length = member.end - start;
    if (length === 0) return;
    const there = source === undefined ? 0 : source.end - source.payload - source.size;
    const shared = Math.min(length, there);
    if (shared < length) yield { kind: 'literal', start, length: length - shared };
    if (shared > 0)
      yield { kind: 'near', start: member.end - shared, length: shared, address: source!.end - shared };
  }
}

/** In pieces, so that what each step holds in memory is bounded. */
function* matched(start: number, length: number, like: readonly Range[]): Generator<Step> {
  if (like.length > 0) yield { kind: 'match', start, length, like };
  else {
    for (let done = 0; done < length; done += LITERAL) {
      yield { kind: 'literal', start: start + done, length: Math.min(LITERAL, length - done) };
    }
  }
}
