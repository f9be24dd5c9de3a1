/** What a layer's record says of its files: which it has, and which its data stands in. Pure. */
import { LAYER_DATA, LAYER_IMAGE, LAYER_RECIPE, LAYER_TAR } from './layout.ts';
import type { DeviceRecord, FileFacts, LayerRecord } from './records.ts';

/** The data devices of layer.erofs, in the order of its device table. */
export function layerDevices({ diffId, tarSize, usesTar, deduped }: LayerRecord): readonly DeviceRecord[] {
  if (deduped !== undefined) return deduped.devices;
  return usesTar ? [{ diffId, file: LAYER_TAR, size: tarSize }] : [];
}

/** The one file of the layer that other layers may point into. */
export function dataFile({ diffId, tarSize, deduped }: LayerRecord): DeviceRecord & { digest: string } {
  return deduped === undefined
    ? { diffId, file: LAYER_TAR, size: tarSize, digest: diffId }
    : { diffId, file: LAYER_DATA, ...deduped.data };
}

/** Every file that the layer's tar is put together from, in the order of its recipe; only layer.tar where there is none. */
export function tarFiles(record: LayerRecord): readonly DeviceRecord[] {
  return [dataFile(record), ...(record.deduped?.sources ?? [])];
}

/** The files that stand in the directory of the layer, apart from its record. */
export function ownFiles(record: LayerRecord): (FileFacts & { readonly file: string })[] {
  const { file, digest, size } = dataFile(record);
  const { image, deduped } = record;
  const recipe = deduped === undefined ? [] : [{ file: LAYER_RECIPE, ...deduped.recipe }];
  return [{ file, digest, size }, ...recipe, { file: LAYER_IMAGE, ...image }];
}

/** Bytes of the layer's own files: what it adds to the store. */
export function storedBytes(record: LayerRecord): number {
  return ownFiles(record).reduce((sum, { size }) => sum + size, 0);
}
