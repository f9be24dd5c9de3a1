/** `veneer export` */
import { VeneerError } from '../../errors.ts';
import { formatBytes } from '../../progress/units.ts';
import { shortDigest } from '../../store/layout.ts';
import { asText, defineCommand, oneOf } from '../command.ts';
import { FORCE_FLAG, withOutputs } from '../output-file.ts';
import { PROGRESS_FLAG, type ProgressFlags, withProgress } from '../progress.ts';
import { withStore } from '../with-store.ts';

type Flags = ProgressFlags & { readonly output: string; readonly force: boolean };

export default defineCommand<Flags, [what: string]>({
  name: 'export',
  brief: 'Write the exact tar of a layer, or an image as a docker archive',
  usage: ['export -o FILE LAYER', 'export -o FILE IMAGE'],
  description: `LAYER is a diffID or its beginning (veneer layers): its tar comes out byte for byte, also when the store keeps only
what is new in it. IMAGE comes out as "docker save" writes it: docker, podman and skopeo read it, its ID stays the same.
Everything is hashed on the way; FILE appears when all of it was right.`,
  examples: [
    ['export -o layer.tar 3f4a9c', 'the tar of a layer'],
    ['export -o app.tar app:2', 'an image, for "docker load -i app.tar"'],
  ],
  parameters: {
    flags: {
      output: { kind: 'parsed', parse: asText, placeholder: 'FILE', brief: 'Where to write' },
      ...FORCE_FLAG,
      ...PROGRESS_FLAG,
    },
    aliases: { o: 'output', f: 'force' },
    positional: { kind: 'tuple', parameters: [oneOf('IMAGE|LAYER', 'What to write')] },
  },
  completes: ['image'],
  async run(context, flags, what) {
    const { exportImage, exportLayer, findLayer } = await import('../../store/export.ts');
    const { resolveImage } = await import('../../store/images.ts');
    const { NO_NEEDS, takeLease } = await import('../../store/leases.ts');
    const { throwIfAborted } = await import('../../store/locks.ts');
    return withStore(context, flags, async (store) => {
      // Under the lock no sweep comes between the finding and the lease.
      const shared = store.share();
      const { image, diffIds, lease } = (() => {
        try {
          const image = findImageOr(
            () => resolveImage(store, what),
            () => findLayer(store, what) !== null,
          );
          const diffIds = image?.layers.map(({ diffId }) => diffId) ?? [findLayer(store, what)!];
          return {
            image,
            diffIds,
            lease: takeLease(store, `export ${what}`, { ...NO_NEEDS, layers: diffIds }),
          };
        } finally {
          shared.release();
        }
      })();
      try {
        const pieces = image === null ? exportLayer(store, diffIds[0]!) : exportImage(store, image);
        const name = image?.name ?? `layer ${shortDigest(diffIds[0]!)}`;
        const { force } = flags;
        const size = await withProgress(context, flags, ({ onProgress }) =>
          withOutputs([flags.output], { force, signal: context.signal }, async ([file]) => {
            onProgress({ type: 'start', id: what, what: `export ${name}`, total: 0 });
            let at = 0;
            for (const piece of pieces) {
              throwIfAborted(context.signal);
              file!.write(piece, at);
              at += piece.length;
              onProgress({ type: 'advance', id: what, done: at });
              await new Promise((resolve) => setImmediate(resolve));
            }
            onProgress({ type: 'end', id: what, outcome: 'done' });
            return at;
          }),
        );
        const facts =
          image === null ? { diffId: diffIds[0] } : { image: image.name, config: image.config.digest };
        context.out.result({ ...facts, file: flags.output, size }, () => [
          `${flags.output}: ${name}, ${formatBytes(size)}`,
        ]);
      } finally {
        lease.release();
      }
      return undefined;
    });
  },
});

/** The image; null when there is none of that name but a layer. */
function findImageOr<T>(find: () => T, isLayer: () => boolean): T | null {
  try {
    return find();
  } catch (error) {
    if (error instanceof VeneerError && error.code === 'store/no-image' && isLayer()) return null;
    throw error;
  }
}
