/** Where the members of a tar stand: what matching goes by. */
import type { ByteSource } from '../bytes/io.ts';
import type { TarEntry } from '../tar/entry.ts';
import { scanSource } from '../tar/scan-source.ts';

/** The bytes of one member: headers from `start`, payload, padding up to `end`. */
export interface Member {
  /** Byte string, as the archive has it. */
  readonly path: string;
  readonly start: number;
  readonly payload: number;
  size: number;
  end: number;
}

/** Adds the member of an entry; there are no gaps between members. `tarSize` ends the last. */
export function addMember(members: Member[], entry: TarEntry, tarSize: number): void {
  const { path, headerOffset, payloadOffset, payloadSize } = entry;
  const last = members.at(-1);
  if (last !== undefined) {
    last.end = headerOffset;
    // A size that a header states need not be that of its data.
    last.size = Math.min(last.size, headerOffset - last.payload);
  }
  const end = Math.min(tarSize, Math.ceil((payloadOffset + payloadSize) / 512) * 512);
  const size = Math.max(0, Math.min(payloadSize, tarSize - payloadOffset));
  members.push({ path, start: headerOffset, payload: payloadOffset, size, end });
}

/**
 * The members of `tar` in their order; what follows the last is not part of any. Bytes that are no tar give no
 * members: they can be matched all the same, as one run.
 */
export function listMembers(tar: ByteSource): Member[] {
  const members: Member[] = [];
  try {
    scanSource(tar, { onEntry: (entry) => addMember(members, entry, tar.size) });
  } catch {
    // Who reads the tar as a tree says what is wrong with it.
    return [];
  }
  return members;
}
