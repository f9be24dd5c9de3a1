/** Where everything in a store stands. Pure: no file is touched here. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';

/** The 64 hex digits of a `sha256:…` digest that was checked before. */
export function digestHex(digest: string): string {
  return digest.slice(digest.indexOf(':') + 1);
}

/** The first 12 digits, for people. */
export function shortDigest(digest: string): string {
  return digestHex(digest).slice(0, 12);
}

export const HEX64 = /^[0-9a-f]{64}$/;

/** True for `sha256:` and 64 lower-case hex digits, the only form that becomes a file name here. */
export function isDigest(text: unknown): text is string {
  return typeof text === 'string' && text.startsWith('sha256:') && HEX64.test(text.slice(7));
}

/** What a chain of no layers is called: the digest of no bytes (the OCI spec leaves it undefined). */
export const EMPTY_CHAIN = `sha256:${createHash('sha256').digest('hex')}`;

export const LAYER_TAR = 'layer.tar';
/** Instead of layer.tar, of a layer that shares data with others: what is new, and how the tar is put together. */
export const LAYER_DATA = 'layer.data';
export const LAYER_RECIPE = 'layer.recipe';
/** Index of what layer.tar or layer.data holds; may go at any time. */
export const LAYER_UNITS = 'layer.units';
export const REMNANT_DATA = 'data';
export const REMNANT_FACTS = 'remnant.json';
export const LAYER_IMAGE = 'layer.erofs';
export const LAYER_FACTS = 'layer.json';
export const CHAIN_IMAGE = 'fsmeta.erofs';
export const CHAIN_FACTS = 'chain.json';

/** Paths of a store, see "The store on disk" in docs/architecture.md. */
export class StoreLayout {
  readonly root: string;
  readonly database: string;
  readonly blobs: string;
  readonly images: string;
  readonly layers: string;
  readonly chains: string;
  readonly linked: string;
  readonly remnants: string;
  readonly verity: string;
  readonly tmp: string;
  readonly downloads: string;
  readonly locks: string;
  readonly leases: string;
  readonly holds: string;
  readonly lock: string;
  readonly run: string;
  readonly checkouts: string;
  readonly objects: string;

  constructor(root: string) {
    this.root = root;
    this.database = join(root, 'store.db');
    this.blobs = join(root, 'blobs', 'sha256');
    this.images = join(root, 'images');
    this.layers = join(root, 'layers');
    this.chains = join(root, 'chains');
    this.linked = join(root, 'linked');
    this.remnants = join(root, 'remnants');
    this.verity = join(root, 'verity');
    this.tmp = join(root, 'tmp');
    this.downloads = join(root, 'tmp', 'downloads');
    this.locks = join(root, 'tmp', 'locks');
    this.leases = join(root, 'leases');
    this.holds = join(root, 'holds');
    this.lock = join(root, 'lock');
    this.run = join(root, 'run');
    this.checkouts = join(root, 'checkouts');
    this.objects = join(root, 'objects');
  }

  /** Every directory of a store, parents first. `run` belongs to the mount room, `checkouts` and `objects` to the checkout room. */
  directories(): string[] {
    const blobs = join(this.root, 'blobs');
    return [
      this.root,
      blobs,
      this.blobs,
      this.images,
      this.layers,
      this.chains,
      this.linked,
      this.remnants,
      this.verity,
      ...['disk', 'file', 'fs'].map((scope) => join(this.verity, scope)),
      this.tmp,
      this.downloads,
      this.locks,
      this.leases,
      this.holds,
    ];
  }

  blob(digest: string): string {
    return join(this.blobs, digestHex(digest));
  }

  /** One file a name; names hold slashes and colons, so their hash names the file. */
  image(name: string): string {
    return join(this.images, `${createHash('sha256').update(name).digest('hex')}.json`);
  }

  layer(diffId: string): string {
    return join(this.layers, digestHex(diffId));
  }

  chain(chainId: string): string {
    return join(this.chains, digestHex(chainId));
  }

  /** The topmost layer of a chain with its hard links into the layers below resolved. */
  linkedLayer(chainId: string): string {
    return join(this.linked, digestHex(chainId));
  }

  /** What is left of the file with this digest, whose layer is gone: the parts that other layers point into. */
  remnant(digest: string): string {
    return join(this.remnants, digestHex(digest));
  }

  remnantData(digest: string): string {
    return join(this.remnant(digest), REMNANT_DATA);
  }

  /** Hash tree of the file with this digest, or of the flat disk that begins with it. */
  verityTree(scope: 'disk' | 'file', digest: string): string {
    return join(this.verity, scope, digestHex(digest));
  }

  /** What fs-verity says of the file with this digest. */
  fsVerity(digest: string): string {
    return join(this.verity, 'fs', `${digestHex(digest)}.json`);
  }

  hold(name: string): string {
    return join(this.holds, `${name}.json`);
  }

  /** What is known of the checkout in a directory, by its path. */
  checkout(path: string): string {
    return join(this.checkouts, createHash('sha256').update(path).digest('hex'));
  }

  /** The file that checkouts of hard links share, by its digest in hex. */
  object(hex: string): string {
    return join(this.objects, hex.slice(0, 2), hex);
  }

  download(blobDigest: string): string {
    return join(this.downloads, `${digestHex(blobDigest)}.part`);
  }
}
