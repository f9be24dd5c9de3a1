/** `WWW-Authenticate` headers (RFC 9110, section 11.6.1): what a registry asks for. */

export interface Challenge {
  /** Lower case: `bearer`, `basic`, … */
  readonly scheme: string;
  /** Names in lower case. */
  readonly params: ReadonlyMap<string, string>;
}

const MAX_HEADER = 16 << 10;
const TOKEN = /[!#$%&'*+.^_`|~0-9A-Za-z-]+/y;
/** A parameter: token = token or quoted-string, with the optional whitespace RFC 9110 allows. */
const PARAM =
  /[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([!#$%&'*+.^_`|~0-9A-Za-z:/-]+))/y;
const SEPARATOR = /[ \t]*(?:,[ \t]*)+/y;
const SPACE = /[ \t]+/y;

/** All challenges of a header, in order. What does not parse ends the list: better fewer challenges than wrong ones. */
export function parseChallenges(header: string): Challenge[] {
  const challenges: Challenge[] = [];
  if (header.length > MAX_HEADER) return challenges;
  let at = 0;
  const take = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at;
    const match = pattern.exec(header);
    if (match !== null) at = pattern.lastIndex;
    return match;
  };
  take(SEPARATOR);
  take(SPACE);
  while (at < header.length) {
    const scheme = take(TOKEN)?.[0];
    if (scheme === undefined) break;
    const params = new Map<string, string>();
    challenges.push({ scheme: scheme.toLowerCase(), params });
    take(SPACE);
    for (;;) {
      const param = take(PARAM);
      if (param === null) break;
      const value = param[2] === undefined ? param[3]! : param[2].replace(/\\(.)/gs, '$1');
      params.set(param[1]!.toLowerCase(), value);
      const before = at;
      if (take(SEPARATOR) === null) break;
      PARAM.lastIndex = at;
      if (PARAM.test(header)) continue;
      at = before;
      break;
    }
    if (at < header.length && take(SEPARATOR) === null) break;
  }
  return challenges;
}
