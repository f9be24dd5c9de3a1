/** containerd's filter language (pkg/filters): selectors joined by commas, all of which must match. */
import { VeneerError } from '../errors.ts';

/** The value of a field, or undefined when it is not there. */
export type FieldOf<T> = (item: T, path: readonly string[]) => string | undefined;

interface Selector {
  readonly path: readonly string[];
  readonly operator: 'present' | '==' | '!=' | '~=';
  readonly value: string;
  readonly pattern: RegExp | null;
}

/**
 * Whether any of the filters matches; none match everything.
 * Throws `snapshot/invalid` for what is no filter.
 */
export function compileFilters<T>(filters: readonly string[], fieldOf: FieldOf<T>): (item: T) => boolean {
  if (filters.length === 0) return () => true;
  const all = filters.map((text) => (text === '' ? [] : new FilterParser(text).parse()));
  return (item) =>
    all.some((selectors) => selectors.every((selector) => matches(selector, fieldOf(item, selector.path))));
}

function matches({ operator, value, pattern }: Selector, found: string | undefined): boolean {
  // As in Go, where a field that is not there reads as ''.
  const text = found ?? '';
  switch (operator) {
    case 'present':
      return found !== undefined;
    case '==':
      return found !== undefined && text === value;
    case '!=':
      return text !== value;
    case '~=':
      return pattern?.test(text) ?? false;
  }
}

/** What is no pattern matches nothing, as in containerd. */
function compilePattern(text: string): RegExp | null {
  try {
    return new RegExp(text, 'u');
  } catch {
    return null;
  }
}

const FIELD = /[A-Za-z0-9_]+/y;
const OPERATOR = /[=!~]=/y;
const VALUE = /[^\s,]+/y;
const QUOTED = /"(?:[^"\\\n]|\\.)*"/y;
/** A pattern may also stand between slashes or bars, to be spared of escapes. */
const ALTERNATE_QUOTED = /\/(?:[^/\\\n]|\\.)*\/|\|(?:[^|\\\n]|\\.)*\|/y;

class FilterParser {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  parse(): Selector[] {
    const selectors = [this.#selector()];
    while (this.#at < this.#text.length) {
      if (this.#text[this.#at] !== ',') this.#fail('unexpected input');
      this.#at++;
      selectors.push(this.#selector());
    }
    return selectors;
  }

  #selector(): Selector {
    const path = [this.#field()];
    while (this.#text[this.#at] === '.') {
      this.#at++;
      path.push(this.#field());
    }
    const next = this.#text[this.#at];
    if (next === undefined || next === ',') return { path, operator: 'present', value: '', pattern: null };
    const operator = this.#take(OPERATOR) as '==' | '!=' | '~=' | null;
    if (operator === null) return this.#fail('an operator (==, != or ~=) is expected');
    const value = this.#value(operator === '~=');
    return { path, operator, value, pattern: operator === '~=' ? compilePattern(value) : null };
  }

  #field(): string {
    const quoted = this.#take(QUOTED);
    return quoted === null ? (this.#take(FIELD) ?? this.#fail('a field is expected')) : this.#unquote(quoted);
  }

  #value(pattern: boolean): string {
    if (this.#text[this.#at] === '"' && !this.#isQuoted()) this.#fail('the quote has no end');
    const quoted = this.#take(QUOTED) ?? (pattern ? this.#take(ALTERNATE_QUOTED) : null);
    return quoted === null ? (this.#take(VALUE) ?? this.#fail('a value is expected')) : this.#unquote(quoted);
  }

  #isQuoted(): boolean {
    QUOTED.lastIndex = this.#at;
    return QUOTED.test(this.#text);
  }

  #take(expression: RegExp): string | null {
    expression.lastIndex = this.#at;
    const found = expression.exec(this.#text)?.[0] ?? null;
    if (found !== null) this.#at += found.length;
    return found;
  }

  /** Between slashes or bars only the delimiter can be escaped; else Go's escapes count. */
  #unquote(quoted: string): string {
    const delimiter = quoted[0]!;
    const inner = quoted.slice(1, -1);
    if (delimiter === '/' || delimiter === '|') return inner.replaceAll(`\\${delimiter}`, delimiter);
    return inner.replace(
      /\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))/g,
      (whole, x?: string, u?: string, long?: string, octal?: string, simple?: string) => {
        const hex = x ?? u ?? long;
        if (hex !== undefined) {
          const code = Number.parseInt(hex, 16);
          return code <= 0x10ffff ? String.fromCodePoint(code) : this.#fail(`${whole} is no character`);
        }
        if (octal !== undefined) return String.fromCodePoint(Number.parseInt(octal, 8));
        return ESCAPES[simple!] ?? this.#fail(`the escape ${whole} is not known`);
      },
    );
  }

  #fail(reason: string): never {
    throw new VeneerError(
      'snapshot/invalid',
      `Cannot use the filter ${JSON.stringify(this.#text)} at character ${this.#at + 1}: ${reason}`,
    );
  }
}

const ESCAPES: Readonly<Record<string, string>> = {
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
  '\\': '\\',
  "'": "'",
  '"': '"',
};
