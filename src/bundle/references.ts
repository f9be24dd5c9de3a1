/** Names in a layout: the `org.opencontainers.image.ref.name` of the entries of its index.json. */
import { VeneerError } from '../errors.ts';
import { childDescriptors } from '../oci/children.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { JsonObject } from '../oci/encode-json.ts';
import { REF_NAME } from '../oci/layout.ts';
import { OCI_INDEX } from '../oci/media-type.ts';
import type { LayoutChange } from './change-layout.ts';
import { type LayoutEntry, type LayoutFolder, parseRaw, readManifestBlob } from './layout-folder.ts';

/** OCI image spec, annotations.md, the grammar of `org.opencontainers.image.ref.name`. */
const SEPARATED = /^(?:[-._:@+]|--)$/;

/**
 * Whether a layout may have this name. Taken apart by hand: the grammar as one regular expression runs away on long
 * names.
 */
export function isReferenceName(name: string): boolean {
  return name.split('/').every((component) => {
    const parts = component.split(/([A-Za-z0-9]+)/);
    // Separators at even places; nothing before the first word and behind the last.
    return (
      parts.length > 1 &&
      parts.every(
        (part, at) =>
          at % 2 === 1 || (at === 0 || at === parts.length - 1 ? part === '' : SEPARATED.test(part)),
      )
    );
  });
}

/** The names of a layout, in the order of its index.json; one that several entries have comes as often. */
export function listReferences(layout: LayoutFolder): string[] {
  return layout.entries.flatMap(({ descriptor }) => descriptor.annotations[REF_NAME] ?? []);
}

/** The way from an entry of index.json down to a manifest. */
export interface ReferencePath {
  /** The entry first, the manifest last; one and the same where no index is between. */
  readonly steps: readonly LayoutEntry[];
  readonly manifest: Descriptor;
}

/** Image indexes may nest; nobody needs more than this. */
const MAX_DEPTH = 8;

/** The one manifest that `name` leads to. Throws `oci/not-found`, or `oci/ambiguous` when there are several. */
export async function resolveReference(layout: LayoutFolder, name: string): Promise<ReferencePath> {
  const roots = layout.entries.filter(({ descriptor }) => descriptor.annotations[REF_NAME] === name);
  const found: LayoutEntry[][] = [];
  const barren = new Set<string>();
  for (const root of roots) await descend(layout, [root], found, barren);
  const [steps] = found;
  if (steps === undefined)
    throw new VeneerError('oci/not-found', `Cannot find ${name} in ${layout.place}: no such tag`, {
      hint: listReferences(layout).length === 0 ? 'it has no tags' : `it has ${someNames(layout)}`,
    });
  if (found.length > 1)
    throw new VeneerError(
      'oci/ambiguous',
      `Cannot choose the image ${name} in ${layout.place}: the tag leads to several`,
    );
  return { steps, manifest: steps.at(-1)!.descriptor };
}

function someNames(layout: LayoutFolder): string {
  const names = listReferences(layout);
  return names.slice(0, 20).join(', ') + (names.length > 20 ? ', …' : '');
}

/** `barren`: indexes that lead to nothing. On all the ways that several levels of them make they would be read for ever. */
async function descend(
  layout: LayoutFolder,
  steps: readonly LayoutEntry[],
  found: LayoutEntry[][],
  barren: Set<string>,
): Promise<void> {
  const { descriptor } = steps.at(-1)!;
  if (descriptor.mediaType !== OCI_INDEX) {
    found.push([...steps]);
    return;
  }
  if (steps.length > MAX_DEPTH)
    throw new VeneerError(
      'oci/limit',
      `Cannot use ${layout.place}: indexes nest more than ${MAX_DEPTH} deep`,
    );
  if (barren.has(descriptor.digest)) return;
  const before = found.length;
  const bytes = await readManifestBlob(layout, descriptor);
  const children = childDescriptors(bytes, `the index ${descriptor.digest}`);
  const raws = (parseRaw(bytes).manifests ?? []) as readonly JsonObject[];
  for (const raw of raws) {
    const child = children.find(({ digest }) => digest === raw.digest)!;
    await descend(layout, [...steps, { descriptor: child, raw }], found, barren);
    // One more is enough to know that there are several.
    if (found.length > 1) return;
  }
  if (found.length === before) barren.add(descriptor.digest);
}

/** Gives `name` to `raw`, a descriptor; what had the name loses it. */
export function putReference(layout: LayoutChange, name: string, raw: JsonObject): void {
  const annotations = { ...(raw.annotations as JsonObject | null | undefined), [REF_NAME]: name };
  layout.putIndex({ ...layout.index, manifests: [...others(layout, name), { ...raw, annotations }] });
}

/** Takes `name` away; returns how many entries had it. */
export function removeReference(layout: LayoutChange, name: string): number {
  const manifests = others(layout, name);
  layout.putIndex({ ...layout.index, manifests });
  return layout.entries.length - manifests.length;
}

function others(layout: LayoutFolder, name: string): JsonObject[] {
  return layout.entries
    .filter(({ descriptor }) => descriptor.annotations[REF_NAME] !== name)
    .map(({ raw }) => raw);
}
