/** Tar bytes to entries: see {@link TarScanner} for streams, {@link scanSource} for files. */
export { END_OF_ARCHIVE_SIZE, encodeHeader, paddingOf, type TarMember } from './encode.ts';
export type { EntryType, SparseSegment, TarEntry } from './entry.ts';
export { DEFAULT_LIMITS, type TarLimits } from './limits.ts';
export { TarScanner, type TarScanOptions } from './scan.ts';
export { type ScanSourceOptions, scanSource } from './scan-source.ts';
