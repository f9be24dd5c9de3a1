/**
 * The JSON records that stand beside the data, and their careful readers.
 *
 * They are the store's truth (the database is an index of them), so a damaged one is an error that names the
 * file, never a guess. Parsed by hand: a mount reads one image and one chain record and has milliseconds.
 */
import { readFileSync, statSync } from 'node:fs';
import { VeneerError } from '../errors.ts';
import { isMissing, storeError } from './io-errors.ts';
import { isDigest } from './layout.ts';

/** A blob as a manifest names it. */
export interface BlobRef {
  readonly digest: string;
  /** Bytes. */
  readonly size: number;
  readonly mediaType: string;
}

/** layers/HEX/layer.json: what the ingest verified. */
export interface LayerRecord {
  readonly version: 1;
  readonly diffId: string;
  /** Bytes of layer.tar. */
  readonly tarSize: number;
  /** Tar entries. */
  readonly entries: number;
  /** The blob that was hashed and inflated to this tar. */
  readonly blob: BlobRef;
  /** What it shows depends on the layers below (see `needsChain` of the tree room): alone it cannot be stacked. */
  readonly needsChain: boolean;
  /** Whether an entry describes the root; if none does, it depends on the layers below for that too. */
  readonly namesRoot: boolean;
  /** Nothing of the layers below shows through. */
  readonly opaqueRoot: boolean;
  /** layer.erofs has layer.tar as its one data device; false when it maps no data of it. */
  readonly usesTar: boolean;
  /** layer.erofs. */
  readonly image: { readonly digest: string; readonly size: number };
}

/** One data device of a metadata image, in the order of its device table. */
export interface DeviceRecord {
  /** The layer whose directory holds the file. */
  readonly diffId: string;
  readonly file: 'layer.tar' | 'layer.erofs';
  /** Bytes. */
  readonly size: number;
}

/** chains/HEX/chain.json and linked/HEX/chain.json: one metadata image over several layers. */
export interface ChainRecord {
  readonly version: 1;
  readonly chainId: string;
  /** Bottom first. */
  readonly diffIds: readonly string[];
  readonly image: { readonly digest: string; readonly size: number };
  readonly devices: readonly DeviceRecord[];
}

export interface ImageLayer {
  readonly diffId: string;
  /** What the manifest calls this layer; verified only when layer.json of the layer names it too. */
  readonly blob: BlobRef;
}

/** images/HEX.json: one name. */
export interface ImageRecord {
  readonly version: 1;
  readonly name: string;
  readonly manifest: BlobRef;
  readonly config: BlobRef;
  /** The index that the manifest was chosen from; null when the source had none. */
  readonly index: BlobRef | null;
  /** `os/architecture[/variant]` as the config says. */
  readonly platform: string;
  /** Bottom first. */
  readonly layers: readonly ImageLayer[];
  readonly chainId: string;
  /** When it was pulled, ISO 8601 in UTC. */
  readonly pulledAt: string;
}

/** verity/disk/HEX/verity.json and verity/file/HEX/verity.json: a dm-verity tree. */
export interface VerityRecord {
  readonly version: 1;
  readonly scope: 'disk' | 'file';
  /** Of the file, or of the metadata image that the disk begins with. */
  readonly digest: string;
  /** Bytes. */
  readonly dataBlockSize: number;
  readonly dataBlocks: number;
  /** Hex. */
  readonly salt: string;
  /** Hex. */
  readonly rootHash: string;
  /** The tree with its superblock. */
  readonly tree: { readonly digest: string; readonly size: number };
}

/** verity/fs/HEX.json: the kernel checks reads of this file. */
export interface FsVerityRecord {
  readonly version: 1;
  /** SHA-256 of the file. */
  readonly digest: string;
  /** What `fsverity digest` says. */
  readonly fsVerity: string;
}

/** No record is longer; 128 layers need some 60 kB. */
const MAX_RECORD = 16 << 20;

type Json = Record<string, unknown>;

/** Reads fields out of parsed JSON; any wrong one is `store/corrupt` with the file's name. */
class Fields {
  readonly path: string;
  readonly json: Json;

  constructor(path: string, value: unknown) {
    this.path = path;
    if (typeof value !== 'object' || value === null || Array.isArray(value)) this.fail('not an object');
    this.json = value as Json;
  }

  fail(reason: string): never {
    throw new VeneerError('store/corrupt', `Cannot read ${this.path}: ${reason}`, {
      hint: 'run `veneer fsck --repair`',
    });
  }

  version(): 1 {
    if (this.json.version !== 1) this.fail(`record version ${String(this.json.version)} is not known`);
    return 1;
  }

  string(name: string): string {
    const value = this.json[name];
    return typeof value === 'string' ? value : this.fail(`"${name}" is not a string`);
  }

  digest(name: string): string {
    const value = this.json[name];
    return isDigest(value) ? value : this.fail(`"${name}" is not a sha256 digest`);
  }

  size(name: string): number {
    const value = this.json[name];
    if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
    return this.fail(`"${name}" is not a size`);
  }

  boolean(name: string): boolean {
    const value = this.json[name];
    return typeof value === 'boolean' ? value : this.fail(`"${name}" is neither true nor false`);
  }

  object(name: string): Fields {
    return new Fields(this.path, this.json[name]);
  }

  list(name: string): unknown[] {
    const value = this.json[name];
    return Array.isArray(value) ? value : this.fail(`"${name}" is not a list`);
  }
}

function readFields(path: string): Fields {
  let text: string;
  try {
    if (statSync(path).size > MAX_RECORD) {
      throw new VeneerError('store/corrupt', `Cannot read ${path}: longer than ${MAX_RECORD} bytes`);
    }
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (isMissing(error))
      throw new VeneerError('store/missing', `Cannot read ${path}: it is missing`, { cause: error });
    throw storeError(`read ${path}`, error);
  }
  try {
    return new Fields(path, JSON.parse(text));
  } catch (error) {
    if (error instanceof VeneerError) throw error;
    throw new VeneerError('store/corrupt', `Cannot read ${path}: it is not JSON`, {
      hint: 'run `veneer fsck --repair`',
      cause: error,
    });
  }
}

function blobRef(fields: Fields): BlobRef {
  return {
    digest: fields.digest('digest'),
    size: fields.size('size'),
    mediaType: fields.string('mediaType'),
  };
}

function imageFacts(fields: Fields): { digest: string; size: number } {
  return { digest: fields.digest('digest'), size: fields.size('size') };
}

/** Throws `store/missing` or `store/corrupt`. */
export function readLayerRecord(path: string): LayerRecord {
  const fields = readFields(path);
  return {
    version: fields.version(),
    diffId: fields.digest('diffId'),
    tarSize: fields.size('tarSize'),
    entries: fields.size('entries'),
    blob: blobRef(fields.object('blob')),
    needsChain: fields.boolean('needsChain'),
    namesRoot: fields.boolean('namesRoot'),
    opaqueRoot: fields.boolean('opaqueRoot'),
    usesTar: fields.boolean('usesTar'),
    image: imageFacts(fields.object('image')),
  };
}

/** Throws `store/missing` or `store/corrupt`. */
export function readChainRecord(path: string): ChainRecord {
  const fields = readFields(path);
  const devices = fields.list('devices').map((value): DeviceRecord => {
    const device = new Fields(path, value);
    const file = device.string('file');
    if (file !== 'layer.tar' && file !== 'layer.erofs') {
      return device.fail(`device file "${file}" is not known`);
    }
    return { diffId: device.digest('diffId'), file, size: device.size('size') };
  });
  return {
    version: fields.version(),
    chainId: fields.digest('chainId'),
    diffIds: fields
      .list('diffIds')
      .map((value) => (isDigest(value) ? value : fields.fail('"diffIds" holds no digest'))),
    image: imageFacts(fields.object('image')),
    devices,
  };
}

/** Throws `store/missing` or `store/corrupt`. */
export function readImageRecord(path: string): ImageRecord {
  const fields = readFields(path);
  const layers = fields.list('layers').map((value): ImageLayer => {
    const layer = new Fields(path, value);
    return { diffId: layer.digest('diffId'), blob: blobRef(layer.object('blob')) };
  });
  return {
    version: fields.version(),
    name: fields.string('name'),
    manifest: blobRef(fields.object('manifest')),
    config: blobRef(fields.object('config')),
    index: fields.json.index === null ? null : blobRef(fields.object('index')),
    platform: fields.string('platform'),
    layers,
    chainId: fields.digest('chainId'),
    pulledAt: fields.string('pulledAt'),
  };
}

/** Throws `store/missing` or `store/corrupt`. */
export function readVerityRecord(path: string): VerityRecord {
  const fields = readFields(path);
  const scope = fields.string('scope');
  const hex = (name: string, pattern: RegExp): string => {
    const value = fields.string(name);
    return pattern.test(value) ? value : fields.fail(`"${name}" is not hex`);
  };
  return {
    version: fields.version(),
    scope: scope === 'disk' || scope === 'file' ? scope : fields.fail(`scope "${scope}" is not known`),
    digest: fields.digest('digest'),
    dataBlockSize: fields.size('dataBlockSize'),
    dataBlocks: fields.size('dataBlocks'),
    salt: hex('salt', /^(?:[0-9a-f]{2}){0,256}$/),
    rootHash: hex('rootHash', /^[0-9a-f]{64}$/),
    tree: imageFacts(fields.object('tree')),
  };
}

/** Throws `store/missing` or `store/corrupt`. */
export function readFsVerityRecord(path: string): FsVerityRecord {
  const fields = readFields(path);
  return {
    version: fields.version(),
    digest: fields.digest('digest'),
    fsVerity: fields.digest('fsVerity'),
  };
}

/** The text of a record as it is stored. */
export function recordText(
  record: LayerRecord | ChainRecord | ImageRecord | VerityRecord | FsVerityRecord,
): string {
  return `${JSON.stringify(record, null, 2)}\n`;
}
