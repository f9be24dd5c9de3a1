/** Opens the delta that an argument names. */
import type { LocateDelta } from '../../delta-image/delta-blobs.ts';
import type { OpenDelta } from '../../delta-image/open-delta.ts';
import { VeneerError } from '../../errors.ts';
import type { Descriptor } from '../../oci/descriptor.ts';
import { parseLayoutArgument } from './layout-argument.ts';

export interface OpenedDelta {
  readonly delta: OpenDelta;
  /** Of its manifest. */
  readonly descriptor: Descriptor;
  readonly dir: string;
  readonly tag: string;
  readonly locate: LocateDelta;
}

/** Without a tag: `delta`, or the only artifact that is one. */
export async function openDelta(text: string): Promise<OpenedDelta> {
  const { dir, tag: given } = parseLayoutArgument(text, 'a delta');
  const { ARTIFACT_TYPE } = await import('../../delta-image/artifact.ts');
  const { layoutBlobs } = await import('../../delta-image/delta-blobs.ts');
  const { readDelta } = await import('../../delta-image/open-delta.ts');
  const { openLayoutFolder } = await import('../../bundle/layout-folder.ts');
  const { REF_NAME } = await import('../../oci/layout.ts');
  const { resolveReference } = await import('../../bundle/references.ts');
  const folder = await openLayoutFolder(dir);
  const deltas = folder.entries.filter(({ descriptor }) => descriptor.artifactType === ARTIFACT_TYPE);
  const only = deltas.length === 1 ? deltas[0]!.descriptor.annotations[REF_NAME] : undefined;
  const tag = given ?? only ?? 'delta';
  const { manifest } = await resolveReference(folder, tag);
  if (manifest.artifactType !== undefined && manifest.artifactType !== ARTIFACT_TYPE)
    throw new VeneerError('delta/unsupported', `Cannot use ${dir}:${tag}: it is no delta`);
  const delta = await readDelta(
    manifest,
    (descriptor, limit) => folder.read(descriptor, limit),
    `${dir}:${tag}`,
  );
  return { delta, descriptor: manifest, dir, tag, locate: await layoutBlobs(delta, dir) };
}
