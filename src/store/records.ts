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
  /** 2 of a layer that is deduped. */
  readonly version: 1 | 2;
  readonly diffId: string;
  /** Bytes of the tar. */
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
  readonly image: FileFacts;
  /** There is no layer.tar: what is new in it is kept, and a recipe. */
  readonly deduped?: DedupedTar;
}

/** A file by what it holds. */
export interface FileFacts {
  readonly digest: string;
  /** Bytes. */
  readonly size: number;
}

/** A tar that is kept as new data and a recipe. */
export interface DedupedTar {
  /** layer.data: the tar's blocks that no other layer had. */
  readonly data: FileFacts;
  /** layer.recipe: how to put the tar together. */
  readonly recipe: FileFacts;
  /** The files that the recipe points into besides layer.data, in its order. They are real files: no recipe leads to another one. */
  readonly sources: readonly DeviceRecord[];
  /** The devices of layer.erofs in the order of its device table. */
  readonly devices: readonly DeviceRecord[];
}

/** One data device of a metadata image, in the order of its device table. */
export interface DeviceRecord {
  /** The layer whose directory holds the file. */
  readonly diffId: string;
  readonly file: 'layer.tar' | 'layer.erofs' | 'layer.data';
  /** Bytes. */
  readonly size: number;
  /** Of layer.data: what it held when it was pointed into. */
  readonly digest?: string;
}

/** chains/HEX/chain.json and linked/HEX/chain.json: one metadata image over several layers. */
export interface ChainRecord {
  /** 2 when one of its devices is a layer.data. */
  readonly version: 1 | 2;
  readonly chainId: string;
  /** Bottom first. */
  readonly diffIds: readonly string[];
  readonly image: FileFacts;
  readonly devices: readonly DeviceRecord[];
}

export interface ImageLayer {
  readonly diffId: string;
  /** What the manifest calls this layer; verified only when layer.json of the layer names it too. */
  readonly blob: BlobRef;
}

/** images/HEX.json: one name. */
export interface ImageRecord {
  /** 2 when a layer of it was deduped: a veneer that does not know of that must not take away what it shares. */
  readonly version: 1 | 2;
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

/** store.json: what the store is set to. */
export interface StoreSettings {
  readonly version: 1;
  /** Keep of a pulled layer only what no other layer has. */
  readonly dedupe: boolean;
}

/** remnants/HEX/remnant.json: what is kept of a file whose layer is gone. */
export interface RemnantRecord {
  readonly version: 1;
  /** Of the whole file. */
  readonly digest: string;
  /** Bytes of the whole file, and of this one, which has holes. */
  readonly size: number;
  /** Where it has the bytes of the whole file, `[begin, end]`: sorted, apart from each other. */
  readonly ranges: readonly (readonly [begin: number, end: number])[];
  /** SHA-256 of the bytes of all ranges, one after the other. */
  readonly content: string;
}

/** No record is longer; 128 layers need some 60 kB. */
const MAX_RECORD = 16 << 20;

/** holds/NAME.json: what somebody outside of the store needs for as long as the file stands. */
export interface HoldRecord {
  readonly version: 1;
  /** diffIDs. */
  readonly layers: readonly string[];
  /** chainIDs. */
  readonly chains: readonly string[];
}

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

  /** Of records that name deduped layers. */
  versionToTwo(): 1 | 2 {
    return this.json.version === 2 ? 2 : this.version();
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

  digests(name: string): string[] {
    return this.list(name).map((value) => (isDigest(value) ? value : this.fail(`"${name}" holds no digest`)));
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

function fileFacts(fields: Fields): FileFacts {
  return { digest: fields.digest('digest'), size: fields.size('size') };
}

function deviceRecords(fields: Fields, name: string): DeviceRecord[] {
  return fields.list(name).map((value): DeviceRecord => {
    const device = new Fields(fields.path, value);
    const file = device.string('file');
    const plain = { diffId: device.digest('diffId'), size: device.size('size') };
    if (file === 'layer.data') return { ...plain, file, digest: device.digest('digest') };
    if (file !== 'layer.tar' && file !== 'layer.erofs')
      return device.fail(`device file "${file}" is not known`);
    return { ...plain, file };
  });
}

function dedupedTar(fields: Fields): DedupedTar {
  return {
    data: fileFacts(fields.object('data')),
    recipe: fileFacts(fields.object('recipe')),
    sources: deviceRecords(fields, 'sources'),
    devices: deviceRecords(fields, 'devices'),
  };
}

/** Throws `store/missing` or `store/corrupt`. */
export function readLayerRecord(path: string): LayerRecord {
  const fields = readFields(path);
  const version = fields.versionToTwo();
  return {
    version,
    diffId: fields.digest('diffId'),
    tarSize: fields.size('tarSize'),
    entries: fields.size('entries'),
    blob: blobRef(fields.object('blob')),
    needsChain: fields.boolean('needsChain'),
    namesRoot: fields.boolean('namesRoot'),
    opaqueRoot: fields.boolean('opaqueRoot'),
    usesTar: fields.boolean('usesTar'),
    image: fileFacts(fields.object('image')),
    ...(version === 2 ? { deduped: dedupedTar(fields.object('deduped')) } : {}),
  };
}

/** Throws `store/missing` or `store/corrupt`. */
export function readChainRecord(path: string): ChainRecord {
  const fields = readFields(path);
  return {
    version: fields.versionToTwo(),
    chainId: fields.digest('chainId'),
    diffIds: fields.digests('diffIds'),
    image: fileFacts(fields.object('image')),
    devices: deviceRecords(fields, 'devices'),
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
    version: fields.versionToTwo(),
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
    tree: fileFacts(fields.object('tree')),
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

/** Throws `store/missing` or `store/corrupt`. */
export function readHoldRecord(path: string): HoldRecord {
  const fields = readFields(path);
  return { version: fields.version(), layers: fields.digests('layers'), chains: fields.digests('chains') };
}

/** Null when there is none. Throws `store/corrupt`. */
export function readStoreSettings(path: string): StoreSettings | null {
  let fields: Fields;
  try {
    fields = readFields(path);
  } catch (error) {
    if (error instanceof VeneerError && error.code === 'store/missing') return null;
    throw error;
  }
  return { version: fields.version(), dedupe: fields.boolean('dedupe') };
}

/** Throws `store/missing` or `store/corrupt`. */
export function readRemnantRecord(path: string): RemnantRecord {
  const fields = readFields(path);
  const size = fields.size('size');
  let last = 0;
  const ranges = fields.list('ranges').map((value): readonly [number, number] => {
    const [begin, end] = Array.isArray(value) ? (value as unknown[]) : [];
    const fits =
      Number.isSafeInteger(begin) &&
      Number.isSafeInteger(end) &&
      (begin as number) >= last &&
      (end as number) > (begin as number) &&
      (end as number) <= size;
    if (!fits) return fields.fail(`"ranges" holds ${JSON.stringify(value)}`);
    last = end as number;
    return [begin as number, end as number];
  });
  return {
    version: fields.version(),
    digest: fields.digest('digest'),
    size,
    ranges,
    content: fields.digest('content'),
  };
}

/** The text of a record as it is stored. */
export function recordText(
  record:
    | LayerRecord
    | ChainRecord
    | ImageRecord
    | VerityRecord
    | FsVerityRecord
    | HoldRecord
    | RemnantRecord,
): string {
  return `${JSON.stringify(record, null, 2)}\n`;
}
