/** Layers and images of the store as files that everybody reads: exact tars, and docker archives. */
import { createHash } from 'node:crypto';
import { VeneerError } from '../errors.ts';
import { digestOf } from '../oci/digest.ts';
import { parseReference } from '../oci/reference.ts';
import { END_OF_ARCHIVE_SIZE, encodeHeader, paddingOf } from '../tar/encode.ts';
import { listDirectory } from './catalog.ts';
import { readBlob } from './images.ts';
import { locateLayerTar, readTar } from './layer-tar.ts';
import { hasLayer } from './layers.ts';
import { digestHex, HEX64 } from './layout.ts';
import type { ImageRecord } from './records.ts';
import type { Store } from './store.ts';

const MIN_PREFIX = 6;

/** The stored layer with this diffID, or the only one that it is the beginning of; null for none. */
export function findLayer(store: Store, reference: string): string | null {
  const prefix = /^(?:sha256:)?([0-9a-f]{1,64})$/.exec(reference)?.[1] ?? '';
  if (prefix.length < MIN_PREFIX) return null;
  if (HEX64.test(prefix)) return hasLayer(store, `sha256:${prefix}`) ? `sha256:${prefix}` : null;
  const found = listDirectory(store.layout.layers).filter((hex) => HEX64.test(hex) && hex.startsWith(prefix));
  if (found.length > 1) {
    throw new VeneerError(
      'store/ambiguous',
      `Cannot tell which layer ${reference} is: it fits ${found.length}`,
      {
        hint: 'write more digits',
      },
    );
  }
  return found.length === 1 ? `sha256:${found[0]}` : null;
}

/**
 * The exact tar of a layer, in order. Hashed on the way: throws `store/mismatch` behind the last piece when it is not
 * what its name says. Hold a lease on the layer.
 */
export function* exportLayer(store: Store, diffId: string): Generator<Buffer> {
  const hash = createHash('sha256');
  for (const piece of readTar(locateLayerTar(store, diffId))) {
    hash.update(piece);
    yield piece;
  }
  const found = `sha256:${hash.digest('hex')}`;
  if (found === diffId) return;
  throw new VeneerError('store/mismatch', `Cannot export layer ${diffId}: its tar has the digest ${found}`, {
    hint: 'run `veneer verify` to see what is damaged',
  });
}

/** An image as `docker save` writes it: its layers' tars, its config, and what belongs together. Same image, same bytes. */
export function* exportImage(store: Store, image: ImageRecord): Generator<Buffer> {
  const config = readBlob(store, image.config.digest);
  if (digestOf(config) !== image.config.digest) {
    throw new VeneerError('store/mismatch', `Cannot export ${image.name}: its config is damaged`, {
      hint: 'run `veneer fsck --repair` and pull the image again',
    });
  }
  const layers = image.layers.map(({ diffId }) => diffId);
  const layerName = (diffId: string): string => `${digestHex(diffId)}.tar`;
  for (const diffId of new Set(layers)) {
    const { size } = locateLayerTar(store, diffId);
    yield memberHeader(layerName(diffId), size);
    yield* exportLayer(store, diffId);
    yield Buffer.alloc(paddingOf(size));
  }
  const configName = `${digestHex(image.config.digest)}.json`;
  const manifest = [{ Config: configName, RepoTags: repoTags(image.name), Layers: layers.map(layerName) }];
  yield* member(configName, config);
  yield* member('manifest.json', Buffer.from(JSON.stringify(manifest)));
  yield Buffer.alloc(END_OF_ARCHIVE_SIZE);
}

/** Names of images are free here; docker takes none that is not NAME:TAG, and refuses the archive for it. */
function repoTags(name: string): string[] | null {
  try {
    const { tag, digest } = parseReference(name);
    return digest === undefined && name.endsWith(`:${tag}`) ? [name] : null;
  } catch (error) {
    if (error instanceof VeneerError) return null;
    throw error;
  }
}

function* member(path: string, bytes: Buffer): Generator<Buffer> {
  yield memberHeader(path, bytes.length);
  yield bytes;
  yield Buffer.alloc(paddingOf(bytes.length));
}

function memberHeader(path: string, size: number): Buffer {
  return encodeHeader({
    path,
    type: 'file',
    mode: 0o644,
    uid: 0,
    gid: 0,
    size,
    mtime: 0,
    mtimeNsec: 0,
    linkPath: '',
    devMajor: 0,
    devMinor: 0,
    xattrs: null,
  });
}
