/** Opens what --from and --to name: an image of the store, a layout or an archive. */
import type { ImageTars, SourceTarsOptions } from '../../delta-image/image-tars.ts';
import { VeneerError } from '../../errors.ts';
import type { CliContext, CommonFlags } from '../context.ts';
import { storeRoot } from '../root.ts';

const FILES = /^(?:oci|oci-archive|docker-archive):/;

export async function openTars(
  context: CliContext,
  flags: CommonFlags,
  image: string,
  options: SourceTarsOptions,
): Promise<ImageTars> {
  const { sourceTars, storedTars } = await import('../../delta-image/image-tars.ts');
  if (FILES.test(image)) {
    const { openDockerArchive, openLayout, parseImageSource } = await import('../../oci/index.ts');
    const named = parseImageSource(image);
    if (named.kind === 'registry') throw new VeneerError('cli/usage', `Cannot open ${image}: not a file`);
    const source =
      named.kind === 'layout'
        ? await openLayout(named.dir, named)
        : await openDockerArchive(named.file, named.name);
    return sourceTars(source, options);
  }
  const { resolveImage } = await import('../../store/images.ts');
  const { Store } = await import('../../store/store.ts');
  const store = Store.open(storeRoot(flags, context.env));
  try {
    const tars = storedTars(store, resolveImage(store, image));
    return {
      ...tars,
      async close() {
        await tars.close();
        store.close();
      },
    };
  } catch (error) {
    store.close();
    throw error;
  }
}
