/** Compression of layer blobs: told by magic, undone as a stream. */
export { decompress } from './decompress.ts';
export { type Compression, DETECT_BYTES, detectCompression } from './detect.ts';
export { type Inflater, type MakeInflater, makeInflater, type SyncInflater } from './inflater.ts';
