/** What refers to a manifest in a registry: the referrers API, or the tag that stands in for it. */
import { VeneerError } from '../errors.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { MAX_INDEX_ENTRIES, MAX_MANIFEST_BYTES } from '../oci/json.ts';
import { OCI_INDEX } from '../oci/media-type.ts';
import { fallbackTag, ofType, parseReferrers } from '../oci/referrers.ts';
import { readBody } from './body.ts';
import type { RegistryClient } from './client.ts';
import { withRetries } from './retry.ts';
import { discardBody, type Reply } from './transport.ts';

/** Pages that are asked for at most. */
const MAX_PAGES = 100;
/** How registries without the API answer; proxies before some do not know the path either. */
const NO_API: ReadonlySet<number> = new Set([400, 404, 405, 501]);

/**
 * Descriptors of `artifactType` that the registry lists for the manifest `digest`.
 * The filter is a wish that a registry may leave alone, so it is applied here again.
 */
export async function listReferrers(
  client: RegistryClient,
  digest: string,
  artifactType: string,
): Promise<Descriptor[]> {
  const what = `the referrers of ${digest}`;
  const entries: Descriptor[] = [];
  let query: string | null = `?artifactType=${encodeURIComponent(artifactType)}`;
  for (let page = 1; query !== null; page++) {
    const answer = await fetchPage(client, `referrers/${digest}${query}`, what);
    if (answer === null)
      return page === 1 ? ofType(await readFallback(client, digest), artifactType) : entries;
    entries.push(...answer.entries);
    if (page === MAX_PAGES || entries.length > MAX_INDEX_ENTRIES)
      throw new VeneerError(
        'oci/limit',
        `Cannot list ${what}: more than ${MAX_INDEX_ENTRIES} or ${MAX_PAGES} pages`,
      );
    query = answer.next;
  }
  return ofType(entries, artifactType);
}

/** What stands under the fallback tag; nothing when there is no such tag. */
export async function readFallback(client: RegistryClient, digest: string): Promise<Descriptor[]> {
  const what = `the referrers of ${digest}`;
  try {
    const path = `manifests/${fallbackTag(digest)}`;
    const { bytes } = await client.fetchDocument(path, { accept: OCI_INDEX }, MAX_MANIFEST_BYTES, what);
    return parseReferrers(bytes, what);
  } catch (error) {
    if (error instanceof VeneerError && error.code === 'registry/not-found') return [];
    throw error;
  }
}

/** One page and where the next one is; null when the registry has no such API. */
async function fetchPage(
  client: RegistryClient,
  path: string,
  what: string,
): Promise<{ entries: Descriptor[]; next: string | null } | null> {
  return withRetries(client.retries, async () => {
    const reply = await client.fetch(path, { accept: OCI_INDEX }, what);
    if (NO_API.has(reply.status)) {
      discardBody(reply.message);
      return null;
    }
    if (reply.status !== 200) throw await client.failure(reply, what);
    const bytes = await readBody(reply, MAX_MANIFEST_BYTES, client.limits, what);
    return { entries: parseReferrers(bytes, what), next: nextPage(reply) };
  });
}

/** The query of the next page (RFC 8288); only within what was asked for, whatever the server says. */
function nextPage({ message, url }: Reply): string | null {
  const header = [message.headers.link ?? []].flat().join(',');
  for (const [, target, attributes] of header.matchAll(/<([^>]{1,4096})>([^<]*)/g)) {
    if (!/;\s*rel="?next"?/i.test(attributes!) || !URL.canParse(target!, url.href)) continue;
    const next = new URL(target!, url.href);
    if (next.pathname === url.pathname && next.search !== '' && next.search !== url.search)
      return next.search;
  }
  return null;
}
