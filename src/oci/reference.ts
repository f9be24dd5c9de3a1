/**
 * Image references (the distribution project's reference grammar) and what a user may name as the source of an image.
 */
import { VeneerError } from '../errors.ts';
import { isDigest } from './digest.ts';

/** A normalised reference; at least one of `tag` and `digest` is there, and a digest wins over a tag. */
export interface Reference {
  /** Registry host with optional port, e.g. `docker.io`, `localhost:5000`, `[::1]:5000`. */
  readonly domain: string;
  /** Path below the host, e.g. `library/debian`. */
  readonly repository: string;
  readonly tag?: string;
  /** `sha256:…` or `sha512:…`. */
  readonly digest?: string;
}

export type ImageSourceName =
  | { readonly kind: 'layout'; readonly dir: string; readonly tag?: string; readonly digest?: string }
  | { readonly kind: 'docker-archive'; readonly file: string; readonly name?: string }
  | { readonly kind: 'registry'; readonly reference: Reference };

const DEFAULT_DOMAIN = 'docker.io';
const LEGACY_DOMAIN = 'index.docker.io';
const DEFAULT_TAG = 'latest';
const MAX_NAME = 255;
const MAX_TEXT = 1024;

const DOMAIN_COMPONENT = '[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?';
const DOMAIN = new RegExp(
  `^(?:${DOMAIN_COMPONENT}(?:\\.${DOMAIN_COMPONENT})*|\\[[a-fA-F0-9:]+\\])(?::[0-9]{1,5})?$`,
);
const PATH_COMPONENT = '[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*';
const REPOSITORY = new RegExp(`^${PATH_COMPONENT}(?:/${PATH_COMPONENT})*$`);
const TAG = /^[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}$/;
const IDENTIFIER = /^[a-f0-9]{64}$/;

/** Whether `text` is a tag by the distribution grammar. */
export function isTag(text: string): boolean {
  return TAG.test(text);
}

/** Parses and normalises: `debian` becomes `docker.io/library/debian:latest`. Throws `oci/reference`. */
export function parseReference(text: string): Reference {
  if (text.length > MAX_TEXT) throw badReference(text, `longer than ${MAX_TEXT} characters`);
  if (text === '') throw badReference(text, 'it is empty');
  if (/^[./~]/.test(text)) {
    throw badReference(
      text,
      'it looks like a path',
      'Write oci:DIR[:TAG] for an OCI layout or docker-archive:FILE for a saved image.',
    );
  }
  if (IDENTIFIER.test(text)) throw badReference(text, '64 hex digits alone cannot be a name');

  const at = text.indexOf('@');
  const digest = at < 0 ? undefined : text.slice(at + 1);
  if (digest !== undefined && !isDigest(digest)) {
    throw badReference(text, 'what follows @ is not sha256:<64 hex> or sha512:<128 hex>');
  }
  const { domain, rest } = splitDomain(at < 0 ? text : text.slice(0, at));
  const colon = rest.indexOf(':');
  const tag = colon < 0 ? undefined : rest.slice(colon + 1);
  if (tag !== undefined && !TAG.test(tag))
    throw badReference(text, 'the tag is not 1 to 128 of letters, digits, "_", "." and "-"');

  const path = colon < 0 ? rest : rest.slice(0, colon);
  const repository = domain === DEFAULT_DOMAIN && !path.includes('/') ? `library/${path}` : path;
  if (!isDomain(domain)) throw badReference(text, `${JSON.stringify(domain)} is not a host[:port]`);
  if (path !== path.toLowerCase()) throw badReference(text, 'the repository must be lower case');
  if (!REPOSITORY.test(repository))
    throw badReference(text, `${JSON.stringify(path)} is not a repository path`);
  if (domain.length + 1 + repository.length > MAX_NAME)
    throw badReference(text, `the name is longer than ${MAX_NAME} characters`);

  if (digest !== undefined) return { domain, repository, ...(tag === undefined ? {} : { tag }), digest };
  return { domain, repository, tag: tag ?? DEFAULT_TAG };
}

/** The normalised text; `parseReference(formatReference(r))` gives `r` back. */
export function formatReference(reference: Reference): string {
  const tag = reference.tag === undefined ? '' : `:${reference.tag}`;
  const digest = reference.digest === undefined ? '' : `@${reference.digest}`;
  return `${reference.domain}/${reference.repository}${tag}${digest}`;
}

/** `text` as {@link formatReference} gives it, or unchanged when it is no reference. */
export function normalizeReference(text: string): string {
  try {
    return formatReference(parseReference(text));
  } catch (error) {
    if (error instanceof VeneerError) return text;
    throw error;
  }
}

/**
 * What the user named: `oci:DIR[:TAG]` or `oci:DIR@DIGEST` (an OCI layout), `docker-archive:FILE[:NAME]` and
 * `oci-archive:FILE[:NAME]` (a tar of either kind; the content decides), else a registry reference, with or without
 * `docker://`. As with skopeo the first colon after the prefix ends the path.
 */
export function parseImageSource(text: string): ImageSourceName {
  if (text.startsWith('oci:')) return parseLayout(text, text.slice('oci:'.length));
  const archive = /^(?:docker|oci)-archive:/.exec(text);
  if (archive !== null) {
    const [file, name] = splitPath(text, text.slice(archive[0].length));
    return { kind: 'docker-archive', file, ...(name === undefined ? {} : { name }) };
  }
  const reference = text.startsWith('docker://') ? text.slice('docker://'.length) : text;
  if (reference.includes('://')) {
    throw badReference(text, 'a reference has no URL scheme', 'Write HOST/REPOSITORY:TAG.');
  }
  return { kind: 'registry', reference: parseReference(reference) };
}

function parseLayout(text: string, rest: string): ImageSourceName {
  const at = rest.lastIndexOf('@');
  if (at >= 0 && isDigest(rest.slice(at + 1))) {
    if (at === 0) throw badReference(text, 'the path is empty');
    return { kind: 'layout', dir: rest.slice(0, at), digest: rest.slice(at + 1) };
  }
  const [dir, tag] = splitPath(text, rest);
  return { kind: 'layout', dir, ...(tag === undefined ? {} : { tag }) };
}

function splitPath(text: string, rest: string): [path: string, name: string | undefined] {
  const colon = rest.indexOf(':');
  const path = colon < 0 ? rest : rest.slice(0, colon);
  const name = colon < 0 ? undefined : rest.slice(colon + 1);
  if (path === '' || path.includes('\0')) throw badReference(text, 'the path is empty or has a NUL');
  if (name === '') throw badReference(text, 'nothing follows the colon');
  return [path, name];
}

/** The first component is a host when it has a dot, a colon or an upper-case letter, or is `localhost`. */
function splitDomain(name: string): { domain: string; rest: string } {
  const slash = name.indexOf('/');
  const first = slash < 0 ? '' : name.slice(0, slash);
  const isHost = first === 'localhost' || /[.:[\]]/.test(first) || first !== first.toLowerCase();
  if (!isHost) return { domain: DEFAULT_DOMAIN, rest: name };
  return { domain: first === LEGACY_DOMAIN ? DEFAULT_DOMAIN : first, rest: name.slice(slash + 1) };
}

function isDomain(domain: string): boolean {
  if (domain.length > MAX_NAME || !DOMAIN.test(domain)) return false;
  const port = /:([0-9]+)$/.exec(domain.replace(/^\[.*\]/, ''))?.[1];
  if (port !== undefined && (Number(port) === 0 || Number(port) > 65535)) return false;
  return URL.canParse(`https://${domain}/`);
}

function badReference(text: string, reason: string, hint?: string): VeneerError {
  const shown = JSON.stringify(text.slice(0, 200));
  return new VeneerError(
    'oci/reference',
    `Cannot read the image reference ${shown}: ${reason}`,
    hint === undefined ? {} : { hint },
  );
}
