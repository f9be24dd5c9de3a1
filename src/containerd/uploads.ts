/**
 * Blobs on their way into containerd's content store: each is a file that grows, in a folder of its own beside notes of
 * its name and size (containerd, plugins/content/local). Pulls and imports name them by the digest that they will have.
 *
 * What such a name claims is worth nothing until the digest is checked, as always.
 */
import { existsSync, type FSWatcher, readdirSync, readFileSync, watch } from 'node:fs';
import { dirname, join } from 'node:path';
import { DETECT_BYTES, detectCompression } from '../compress/index.ts';
import { OCI_LAYER } from '../oci/media-type.ts';
import type { BlobRef } from '../store/records.ts';
import { readHead } from './content-root.ts';

/** A blob that is being written. */
export interface Upload {
  /** The file, until it is whole and goes to its place. */
  readonly path: string;
  /** What it will be, as the uploader says. */
  readonly blob: BlobRef;
}

const INGEST = 'ingest';
/** Smaller ones are whole before anybody has looked. */
const MIN_BYTES = 1 << 20;
/** New ones are looked at every so many milliseconds, */
const LOOK = 25;
/** then half as often each time, every so many looks in the end, until they are begun with or over. */
const SELDOM = 32;
/** So many are looked at at a time. */
const LOOKED_AT = 256;
/** Namespace and number, which containerd's metadata store puts before the name, and what its clients call a layer. */
const LAYER_REF = /^[^/]+\/\d+\/(?:layer-(?:.*@)?sha256:|tar-(?:.*\/)?blobs\/sha256\/)([0-9a-f]{64})$/;

export class Uploads {
  readonly #onUpload: (upload: Upload) => boolean;
  /** In how many looks it is their turn, and how many there were from the last to that. */
  readonly #new = new Map<string, { left: number; pause: number }>();
  #watcher: FSWatcher | null = null;
  #timer: NodeJS.Timeout | null = null;

  /** `onUpload` is asked again and again until it takes the upload, or that is over. */
  constructor(onUpload: (upload: Upload) => boolean) {
    this.#onUpload = onUpload;
  }

  /** Watches the content store in the folder `root` from now on, or for it to be made: that is with the first upload. */
  open(root: string): void {
    this.close();
    const ingest = join(root, INGEST);
    const there = nearest(ingest);
    this.#watcher = watch(there, { persistent: false }, (_, name) => {
      if (there === ingest && name !== null) this.#add(ingest, name);
      else if (nearest(ingest) !== there) this.open(root);
    });
    this.#watcher.on('error', () => this.close());
    // It may have been made before it was watched.
    if (there === ingest) for (const name of readdirSync(ingest)) this.#add(ingest, name);
    else if (nearest(ingest) !== there) this.open(root);
  }

  close(): void {
    this.#watcher?.close();
    this.#watcher = null;
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    this.#new.clear();
  }

  #add(ingest: string, name: string): void {
    const path = join(ingest, name);
    if (this.#new.size < LOOKED_AT && !this.#new.has(path)) this.#new.set(path, { left: 1, pause: 1 });
    this.#timer ??= setInterval(() => this.#look(), LOOK).unref();
  }

  #look(): void {
    for (const [directory, turn] of this.#new) {
      if (--turn.left > 0) continue;
      turn.left = turn.pause = Math.min(turn.pause * 2, SELDOM);
      const found = readUpload(directory);
      if (found === 'later' || (found !== null && !this.#onUpload(found))) continue;
      this.#new.delete(directory);
    }
    if (this.#new.size > 0 || this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
  }
}

/** The lowest folder on the way to `path` that is there. */
function nearest(path: string): string {
  return existsSync(path) ? path : nearest(dirname(path));
}

/** Null for what is over, or no layer to begin with while it comes. */
function readUpload(directory: string): Upload | 'later' | null {
  const path = join(directory, 'data');
  try {
    const head = readHead(path);
    const digest = LAYER_REF.exec(readFileSync(join(directory, 'ref'), 'utf8'))?.[1];
    const size = Number(readFileSync(join(directory, 'total'), 'utf8'));
    if (digest === undefined || !Number.isSafeInteger(size) || size < MIN_BYTES) return null;
    if (head.length < DETECT_BYTES) return 'later';
    const compression = detectCompression(head);
    if (compression === 'none') return null;
    return { path, blob: { digest: `sha256:${digest}`, size, mediaType: `${OCI_LAYER}+${compression}` } };
  } catch {
    // The file comes behind the notes, and goes before its folder.
    return existsSync(directory) && !existsSync(path) ? 'later' : null;
  }
}
