/** Images by name: what `pull` named, found again by name, digest or prefix. */
import { readFileSync } from 'node:fs';
import { type Finding, VeneerError } from '../errors.ts';
import { formatReference, parseReference } from '../oci/reference.ts';
import { syncPath, writeFileAtomic } from './atomic.ts';
import { syncCatalog } from './catalog.ts';
import { isMissing, storeError } from './io-errors.ts';
import { type ImageRecord, readImageRecord, recordText } from './records.ts';
import type { Store } from './store.ts';

const MAX_NAME = 1024;

/**
 * Throws `store/bad-name` for names that no command line or terminal could handle, and for those that would read as
 * something else there: a digest, a flag, the path of a file, an image with a path in it (`IMAGE:/PATH`).
 */
export function checkImageName(name: string): void {
  const shown = JSON.stringify(name.slice(0, 100));
  const fail = (reason: string): never => {
    throw new VeneerError('store/bad-name', `Cannot name an image ${shown}: ${reason}`, {
      hint: 'choose another name with --name',
    });
  };
  if (name === '') fail('it is empty');
  if (name.length > MAX_NAME) fail(`longer than ${MAX_NAME} characters`);
  if (!/^[\p{L}\p{M}\p{N}\p{P}\p{S}]+$/u.test(name))
    fail('it holds spaces, control or unassigned characters');
  if (/^(?:sha256:|sha512:)/.test(name) || /^[0-9a-f]{64}$/.test(name)) fail('it reads as a digest');
  if (name.startsWith('-')) fail('it reads as a flag');
  if (/^\.{0,2}\//.test(name)) fail('it reads as the path of a file');
  if (name.includes(':/')) fail('":/" begins a path in an image');
}

/** The record of an exact name, or null. Reads one file, no database. */
export function findImage(store: Store, name: string): ImageRecord | null {
  let record: ImageRecord;
  try {
    record = readImageRecord(store.layout.image(name));
  } catch (error) {
    if (error instanceof VeneerError && error.code === 'store/missing') return null;
    throw error;
  }
  if (record.name === name) return record;
  throw new VeneerError(
    'store/corrupt',
    `Cannot read ${store.layout.image(name)}: it holds another image's record`,
    {
      hint: 'run `veneer fsck --repair`',
    },
  );
}

/**
 * Publishes the record: the last step of a pull. The name leads to the old image or to the new one, at any moment;
 * all that the record names is complete and durable before. The database follows when it is next asked.
 */
export async function putImage(store: Store, record: ImageRecord): Promise<void> {
  const path = store.layout.image(record.name);
  try {
    await writeFileAtomic(path, recordText(record), { work: store.work(), fsync: store.fsync, mode: 0o600 });
    if (store.fsync) await syncPath(store.layout.images);
  } catch (error) {
    throw storeError(`write ${path}`, error);
  }
}

/** Names that a reference may mean, most literal first. */
function candidateNames(reference: string): string[] {
  const names = [reference];
  if (!reference.includes('@') && !/:[^/]*$/.test(reference)) names.push(`${reference}:latest`);
  try {
    names.push(formatReference(parseReference(reference)));
  } catch {
    // Names of layouts and archives need not be references.
  }
  return [...new Set(names)];
}

/** Whether `reference` means the image by its name, not by a digest. */
export function matchesByName(image: ImageRecord, reference: string): boolean {
  return candidateNames(reference).includes(image.name);
}

/** All images, by name. Records that cannot be read go to `onFinding` and are left out. */
export function listImages(
  store: Store,
  options: { onFinding?: (finding: Finding) => void } = {},
): ImageRecord[] {
  if (!store.exists()) return [];
  for (const finding of syncCatalog(store)) options.onFinding?.(finding);
  const rows = store.database().rows<{ record: string }>('SELECT record FROM images ORDER BY name');
  return rows.map((row) => JSON.parse(row.record) as ImageRecord);
}

const MIN_PREFIX = 3;

/**
 * Finds an image: its exact name, the name without `:latest`, a reference in short form (`debian` for
 * `docker.io/library/debian:latest`), the digest of its manifest or config, or an unambiguous prefix of one.
 *
 * Exact names touch one file and no database. Throws `store/no-image` (the hint names near ones) and
 * `store/ambiguous` (it names all that fit).
 */
export function resolveImage(store: Store, reference: string): ImageRecord {
  for (const name of candidateNames(reference)) {
    const record = findImage(store, name);
    if (record !== null) return record;
  }
  const images = listImages(store);
  const prefix = /^(?:sha256:)?([0-9a-f]+)$/.exec(reference)?.[1] ?? '';
  if (prefix.length >= MIN_PREFIX && prefix.length <= 64) {
    const found = images.filter(
      (image) =>
        image.manifest.digest.startsWith(`sha256:${prefix}`) ||
        image.config.digest.startsWith(`sha256:${prefix}`),
    );
    const manifests = new Set(found.map((image) => image.manifest.digest));
    if (manifests.size > 1) {
      const list = found.map((image) => `${image.name} (${image.manifest.digest.slice(0, 19)})`).join(', ');
      throw new VeneerError('store/ambiguous', `Cannot tell which image ${reference} is: it fits ${list}`, {
        hint: 'write more digits, or a name',
      });
    }
    if (found[0] !== undefined) return found[0];
  }
  const near = nearNames(
    reference,
    images.map((image) => image.name),
  );
  throw new VeneerError(
    'store/no-image',
    `Cannot find image ${JSON.stringify(reference)}: the store has none of that name`,
    {
      hint:
        near.length > 0
          ? `did you mean ${near.join(', ')}?`
          : images.length > 0
            ? 'run `veneer images` to see what is there'
            : 'the store is empty; run `veneer pull` first',
    },
  );
}

/** Up to three names that share a part with what was asked or are a few keystrokes away. */
function nearNames(wanted: string, names: readonly string[]): string[] {
  const short = wanted.slice(0, 200).toLowerCase();
  const scored: { name: string; score: number }[] = [];
  for (const name of names) {
    const lower = name.toLowerCase();
    const last = lower.slice(lower.lastIndexOf('/') + 1).replace(/[:@].*$/, '');
    const score =
      short.length >= 2 && (lower.includes(short) || (last.length >= 2 && short.includes(last)))
        ? 0
        : Math.min(editDistance(short, lower.slice(0, 200)), editDistance(short.replace(/:.*$/, ''), last));
    if (score <= Math.max(1, Math.floor(short.length / 3))) scored.push({ name, score });
  }
  scored.sort((a, b) => a.score - b.score || (a.name < b.name ? -1 : 1));
  return scored.slice(0, 3).map((one) => one.name);
}

/** Levenshtein distance with one row; both sides are short. */
function editDistance(a: string, b: string): number {
  const row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    let diagonal = row[0]!;
    row[0] = i;
    for (let j = 1; j <= b.length; j++) {
      const above = row[j]!;
      const change = diagonal + (a.charCodeAt(i - 1) === b.charCodeAt(j - 1) ? 0 : 1);
      row[j] = Math.min(above + 1, row[j - 1]! + 1, change);
      diagonal = above;
    }
  }
  return row[b.length]!;
}

/** The bytes of a stored blob (manifest, index or config). Throws `store/missing`. */
export function readBlob(store: Store, digest: string): Buffer {
  const path = store.layout.blob(digest);
  try {
    return readFileSync(path);
  } catch (error) {
    if (isMissing(error))
      throw new VeneerError('store/missing', `Cannot read ${path}: it is missing`, { cause: error });
    throw storeError(`read ${path}`, error);
  }
}
