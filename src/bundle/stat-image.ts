/** What is to know of an image in a layout, in the form of `umoci stat --json`. */
import { VeneerError } from '../errors.ts';
import type { LayerDescriptor } from '../oci/descriptor.ts';
import { compactJson, DESCRIPTOR, encode, HISTORY, type Json, type JsonObject } from '../oci/encode-json.ts';
import type { HistoryEntry } from './config-document.ts';
import { type ImageDocuments, readImage } from './image-documents.ts';
import { type LayoutFolder, parseRaw } from './layout-folder.ts';
import { resolveReference } from './references.ts';

export interface ImageStat extends ImageDocuments {
  readonly history: readonly HistoryFacts[];
}

export interface HistoryFacts {
  readonly entry: HistoryEntry;
  /** Null when the step made no layer. */
  readonly layer: LayerDescriptor | null;
  readonly diffId: string;
}

/** Throws `oci/invalid` when the history tells of more layers than there are. */
export async function statImage(layout: LayoutFolder, name: string): Promise<ImageStat> {
  return statDocuments(
    await readImage(layout, await resolveReference(layout, name)),
    `${name} in ${layout.place}`,
  );
}

/** The same of documents that are read; `what` names the image in messages. */
export function statDocuments(image: ImageDocuments, what: string): ImageStat {
  let index = 0;
  const history = (image.document.history ?? []).map((entry): HistoryFacts => {
    if (entry.empty_layer) return { entry, layer: null, diffId: '' };
    const layer = image.manifest.layers[index];
    const diffId = image.config.diffIds[index++];
    if (layer === undefined || diffId === undefined)
      throw new VeneerError(
        'oci/invalid',
        `Cannot use the config of ${what}: its history tells of more layers than it has`,
      );
    return { entry, layer, diffId };
  });
  return { ...image, history };
}

/** The JSON text that umoci prints, both documents as they are. */
export function statJson(image: ImageStat): string {
  const manifest = parseRaw(image.manifestBytes);
  const layers = (manifest.layers ?? []) as readonly JsonObject[];
  const history = image.history.map(({ entry, layer, diffId }) => {
    const raw = layer === null ? null : layers[image.manifest.layers.indexOf(layer)]!;
    const facts = { layer: raw, diff_id: diffId, ...(entry as Record<string, Json>) };
    return encode(facts, { layer: { of: DESCRIPTOR }, diff_id: {}, ...HISTORY });
  });
  const part = (descriptor: JsonObject, bytes: Buffer): string =>
    `{"descriptor":${encode(descriptor, DESCRIPTOR)},"blob":${compactJson(bytes.toString('utf8'))}}`;
  const top = part(image.path.steps.at(-1)!.raw, image.manifestBytes);
  const config = part(manifest.config as JsonObject, image.configBytes);
  return `{"manifest":${top},"config":${config},"history":[${history.join(',')}]}`;
}
