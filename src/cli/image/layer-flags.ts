/** Flags of the commands that put a layer on an image. */
import { LAYER_COMPRESSIONS, type NewLayer } from '../../bundle/add-layer.ts';
import { usageError } from '../parse.ts';
import type { ImageFlag } from './define.ts';

export interface LayerFlags {
  readonly compress?: string;
}

export const LAYER_FLAGS = {
  compress: { brief: 'auto (as the image has it), gzip, zstd or none', placeholder: 'HOW' },
} as const satisfies Record<string, ImageFlag>;

export function compressionOf(command: string, { compress = 'auto' }: LayerFlags): NewLayer['compression'] {
  const known = (['auto', ...LAYER_COMPRESSIONS] as const).find((kind) => kind === compress);
  if (known !== undefined) return known;
  throw usageError(command, `--compress is auto, gzip, zstd or none, not ${JSON.stringify(compress)}`);
}

/** The latest time that a new layer may have: SOURCE_DATE_EPOCH, seconds; null when it is not set. */
export async function latestTime(env: Readonly<Record<string, string | undefined>>): Promise<number | null> {
  if (!env.SOURCE_DATE_EPOCH) return null;
  const { sourceDate } = await import('../../bundle/source-date.ts');
  return Date.parse(sourceDate(env)) / 1000;
}
