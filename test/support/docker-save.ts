/**
 * What `docker save` writes, old and new, from images in memory (moby's image/tarexport/save.go). Layers are
 * uncompressed there, so the images must be made that way.
 */
import { digestOf } from '../../src/oci/digest.ts';
import { describe, type TestBlob, type TestImage } from './images.ts';
import { archive, dir, file, symlink } from './tar-builder.ts';

export interface SavedImage {
  readonly image: TestImage;
  /** `app:1`, without a registry's name. */
  readonly tags: readonly string[];
}

const hexOf = (digest: string): string => digest.slice(digest.indexOf(':') + 1);
const json = (value: unknown): string => `${JSON.stringify(value)}\n`;

/** All members in the order of their paths, as Docker's archiver walks its directory. */
function pack(members: ReadonlyMap<string, Buffer>): Buffer {
  return archive(...[...members].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, member]) => member));
}

function repositories(images: readonly SavedImage[], top: (image: TestImage) => string): Buffer {
  const all: Record<string, Record<string, string>> = {};
  for (const { image, tags } of images) {
    for (const tag of tags) {
      const colon = tag.lastIndexOf(':');
      (all[tag.slice(0, colon)] ??= {})[tag.slice(colon + 1)] = top(image);
    }
  }
  return file('repositories', json(all));
}

/**
 * Docker up to 24: a directory a layer with its version 1 document. A layer that was written under another id before
 * (as the topmost of another image, say) is a symlink to it.
 */
export function savedByOldDocker(images: readonly SavedImage[]): Buffer {
  const members = new Map<string, Buffer>();
  const written = new Map<string, string>();
  const layerIds = (image: TestImage): string[] => {
    let parent = '';
    return image.diffIds.map((diffId, i) => {
      const own = i === image.diffIds.length - 1 ? image.config.digest : '';
      parent = hexOf(digestOf(Buffer.from(`${parent} ${diffId} ${own}`)));
      return parent;
    });
  };
  for (const { image } of images) {
    for (const [i, id] of layerIds(image).entries()) {
      if (members.has(id)) continue;
      members.set(id, dir(id));
      members.set(`${id}/VERSION`, file(`${id}/VERSION`, '1.0'));
      members.set(`${id}/json`, file(`${id}/json`, json({ id, os: 'linux' })));
      const { digest, bytes } = image.layers[i]!;
      const path = `${id}/layer.tar`;
      const before = written.get(digest);
      members.set(path, before === undefined ? file(path, bytes) : symlink(path, `../${before}/layer.tar`));
      if (before === undefined) written.set(digest, id);
    }
    const config = `${hexOf(image.config.digest)}.json`;
    members.set(config, file(config, image.config.bytes));
  }
  const list = images.map(({ image, tags }) => ({
    Config: `${hexOf(image.config.digest)}.json`,
    RepoTags: tags.length === 0 ? null : tags,
    Layers: layerIds(image).map((id) => `${id}/layer.tar`),
  }));
  members.set('manifest.json', file('manifest.json', json(list)));
  members.set(
    'repositories',
    repositories(images, (image) => layerIds(image).at(-1)!),
  );
  return pack(members);
}

export interface NewDockerFaults {
  /** Docker 25.0.0 put the layers of the manifest in any order, each once (moby#47150). */
  readonly layers?: (layers: readonly TestBlob[]) => readonly TestBlob[];
  /** Docker up to 25.0.2 left images without a tag out of index.json (moby#47210). */
  readonly indexWithoutUntagged?: boolean;
}

/** Docker since 25: an OCI layout that has manifest.json and repositories beside it. */
export function savedByDocker(images: readonly SavedImage[], faults: NewDockerFaults = {}): Buffer {
  const members = new Map<string, Buffer>();
  const add = (path: string, content: Buffer | string): void => {
    members.set(path, file(path, content));
  };
  members.set('blobs', dir('blobs'));
  members.set('blobs/sha256', dir('blobs/sha256'));
  const pathOf = (digest: string): string => `blobs/sha256/${hexOf(digest)}`;
  const entries: object[] = [];
  for (const { image, tags } of images) {
    const { mediaType, bytes } = image.manifest;
    const layers = (faults.layers?.(image.layers) ?? image.layers).map(describe);
    const text = Buffer.from(JSON.stringify({ ...JSON.parse(bytes.toString('utf8')), layers }));
    const manifest = { mediaType, digest: digestOf(text), size: text.length };
    add(pathOf(manifest.digest), text);
    add(pathOf(image.config.digest), image.config.bytes);
    for (const layer of image.layers) add(pathOf(layer.digest), layer.bytes);
    for (const tag of tags) {
      const annotations = {
        'io.containerd.image.name': `docker.io/library/${tag}`,
        'org.opencontainers.image.ref.name': tag.slice(tag.lastIndexOf(':') + 1),
      };
      entries.push({ ...manifest, annotations });
    }
    if (tags.length === 0 && !faults.indexWithoutUntagged) entries.push(manifest);
  }
  const list = images.map(({ image, tags }) => ({
    Config: pathOf(image.config.digest),
    RepoTags: tags.length === 0 ? null : tags,
    Layers: image.layers.map(({ digest }) => pathOf(digest)),
    LayerSources: Object.fromEntries(image.layers.map((layer) => [layer.digest, describe(layer)])),
  }));
  add('oci-layout', '{"imageLayoutVersion": "1.0.0"}');
  add(
    'index.json',
    JSON.stringify({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.index.v1+json',
      manifests: entries.length === 0 ? null : entries,
    }),
  );
  add('manifest.json', json(list));
  members.set(
    'repositories',
    repositories(images, (image) => hexOf(image.diffIds.at(-1)!)),
  );
  return pack(members);
}
