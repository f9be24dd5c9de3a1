/** Putting a tar on an image as a layer, as it is: `umoci raw add-layer`. */
import { closeSync, constants, createReadStream, fstatSync, openSync, readSync } from 'node:fs';
import { DETECT_BYTES, detectCompression } from '../compress/detect.ts';
import { VeneerError } from '../errors.ts';
import { addLayer, type LayerHistory, type NewLayer } from './add-layer.ts';
import { type BlobFacts, changeLayout } from './change-layout.ts';
import { readImage } from './image-documents.ts';
import { putReference, resolveReference } from './references.ts';

/** Puts the tar in the file `archive` on the image `from` of the layout and names the result `to`. */
export function addArchive(
  layoutPath: string,
  from: string,
  to: string,
  archive: string,
  compression: NewLayer['compression'],
  history: LayerHistory['edit'],
): Promise<BlobFacts> {
  return changeLayout(layoutPath, async (layout) => {
    const image = await readImage(layout, await resolveReference(layout, from));
    const tar = createReadStream(archive, { fd: openArchive(archive) }) as AsyncIterable<Buffer>;
    const entry = await addLayer(
      layout,
      image,
      { tar, compression },
      { edit: history, createdBy: 'umoci raw add-layer' },
    );
    putReference(layout, to, entry);
    return { digest: entry.digest as string, size: entry.size as number };
  });
}

/** The stream closes it. */
function openArchive(path: string): number {
  let file: number;
  try {
    // A FIFO that nobody writes to does not hold it up.
    file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    throw new VeneerError('io/failed', `Cannot add ${path}: ${(cause as Error).message}`, { cause });
  }
  try {
    checkArchive(path, file);
    return file;
  } catch (error) {
    closeSync(file);
    throw error;
  }
}

function checkArchive(path: string, file: number): void {
  if (!fstatSync(file).isFile())
    throw new VeneerError('cli/not-a-file', `Cannot add ${path}: it is not a file`);
  const head = Buffer.alloc(DETECT_BYTES);
  const kind = detectCompression(head.subarray(0, readSync(file, head, 0, head.length, 0)));
  if (kind === 'none') return;
  throw new VeneerError('cli/compressed', `Cannot add ${path}: it is compressed with ${kind}`, {
    hint: `decompress it first: ${kind === 'gzip' ? 'gunzip' : 'unzstd'} -k ${path}`,
  });
}
