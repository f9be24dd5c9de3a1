/** Taking names away. Layers and the rest go with the next `gc`. */
import { VeneerError } from '../errors.ts';
import { unpublishFile } from './atomic.ts';
import { syncCatalog } from './catalog.ts';
import { storePart } from './gc.ts';
import { listImages, matchesByName, resolveImage } from './images.ts';
import { storeError } from './io-errors.ts';
import { digestHex } from './layout.ts';
import type { ImageRecord } from './records.ts';
import type { Store } from './store.ts';

export interface RemoveOptions {
  /** Also when the image is mounted, and all names when a digest has several. Mounts go on working. */
  readonly force?: boolean;
  /** Files of the store that mounts use, as the mount records say. */
  readonly mountedFiles?: readonly string[];
}

/**
 * Removes an image's name, or by digest all its names (several only with `force`). Returns the records removed.
 *
 * A mounted image is refused (`store/in-use`) unless another name leads to the same layers: with `force` the mount
 * goes on, because `gc` keeps what is mounted. Throws `store/no-image` and `store/ambiguous` too.
 */
export function removeImage(store: Store, reference: string, options: RemoveOptions = {}): ImageRecord[] {
  const found = resolveImage(store, reference);
  const all = listImages(store);
  const victims = matchesByName(found, reference)
    ? [found]
    : all.filter((image) => image.manifest.digest === found.manifest.digest);
  const force = options.force ?? false;
  if (victims.length > 1 && !force) {
    throw new VeneerError(
      'store/ambiguous',
      `Cannot remove ${reference}: it has several names: ${victims.map((image) => image.name).join(', ')}`,
      { hint: 'name one of them, or use --force to remove all' },
    );
  }
  const names = new Set(victims.map((image) => image.name));
  const staying = new Set(all.filter((image) => !names.has(image.name)).map((image) => image.chainId));
  for (const image of victims) {
    if (force || staying.has(image.chainId) || !isMounted(image, options.mountedFiles ?? [])) continue;
    throw new VeneerError('store/in-use', `Cannot remove ${image.name}: it is mounted`, {
      hint: 'unmount it first, or use --force: the mount goes on working and its layers stay until it is gone',
    });
  }
  for (const image of victims) {
    const path = store.layout.image(image.name);
    try {
      unpublishFile(path, { fsync: store.fsync });
    } catch (error) {
      throw storeError(`remove ${path}`, error);
    }
  }
  syncCatalog(store);
  return victims;
}

/** Merged mounts use the image of the chain, layered ones that of the topmost layer or its linked form. */
function isMounted(image: ImageRecord, mountedFiles: readonly string[]): boolean {
  const chain = digestHex(image.chainId);
  const top = image.layers.at(-1)?.diffId;
  return mountedFiles.some((path) => {
    const [kind, hex] = storePart(path);
    if (kind === 'chains' || kind === 'linked') return hex === chain;
    return kind === 'layers' && path.endsWith('.erofs') && top !== undefined && hex === digestHex(top);
  });
}
