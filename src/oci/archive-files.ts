/** The members of an uncompressed tar file as named files: one pass over the headers, then random access. */
import { closeSync, fstatSync } from 'node:fs';
import { VeneerError } from '../errors.ts';
import type { TarEntry } from '../tar/entry.ts';
import { TarScanner } from '../tar/scan.ts';
import { type NamedFiles, openRegular, readPiece } from './named-files.ts';

/** Members an image archive may have: three a layer in docker's old form, with room to spare. */
const MAX_MEMBERS = 100_000;
/** Bytes of one read; members are mostly large and skipped, headers are small. */
const READ_BYTES = 64 << 10;
const MAX_LINKS = 16;
/** Bytes. Nobody asks for longer paths, so a million of them need not be kept. */
const MAX_PATH = 1024;

const COMPRESSED: readonly (readonly [magic: string, command: string])[] = [
  ['1f8b', 'gzip -d'],
  ['28b52ffd', 'zstd -d'],
  ['fd377a585a00', 'xz -d'],
  ['425a68', 'bzip2 -d'],
];

type Member =
  | { readonly offset: number; readonly length: number }
  /** A cleaned path inside the archive. */
  | { readonly target: string }
  /** Why the member cannot be read. */
  | { readonly problem: string };

/** Indexes the tar at `file`. Links are followed inside the archive; one that leads out of it leads nowhere. */
export async function archiveFiles(file: string): Promise<NamedFiles> {
  const members = await indexArchive(file);
  return {
    async locate(path) {
      let at = cleanPath(path) ?? '';
      for (let hops = 0; hops <= MAX_LINKS; hops++) {
        const member = members.get(at);
        if (member === undefined) return null;
        if ('problem' in member)
          throw new VeneerError('oci/unsupported', `Cannot read ${path} in ${file}: ${member.problem}`);
        if ('offset' in member) return { path: file, offset: member.offset, length: member.length };
        at = member.target;
      }
      throw new VeneerError('oci/invalid', `Cannot read ${path} in ${file}: its links go in a circle`);
    },
    async close() {},
  };
}

async function indexArchive(file: string): Promise<ReadonlyMap<string, Member>> {
  const members = new Map<string, Member>();
  const scanner = new TarScanner({ onEntry: (entry) => addMember(members, entry, file) });
  const fd = openRegular(file, 'the image archive');
  try {
    const { size } = fstatSync(fd);
    const buffer = Buffer.allocUnsafe(READ_BYTES);
    let at = 0;
    while (at < size && !scanner.ended) {
      const skippable = Math.min(scanner.skippable, size - at);
      if (skippable > 0) {
        scanner.skip(skippable);
        at += skippable;
        continue;
      }
      const { bytesRead } = await readPiece(fd, buffer, 0, READ_BYTES, at);
      if (bytesRead === 0) break;
      if (at === 0) refuseCompressed(buffer.subarray(0, bytesRead), file);
      scanner.write(buffer.subarray(0, bytesRead));
      at += bytesRead;
    }
    scanner.end();
  } catch (error) {
    // The scanner does not know what it reads.
    if (!(error instanceof VeneerError) || !error.code.startsWith('tar/')) throw error;
    const reason = error.message.replace(/^Cannot/, 'cannot');
    throw new VeneerError(error.code, `Cannot open the image archive ${file}: ${reason}`, {
      ...(error.hint === undefined ? {} : { hint: error.hint }),
      cause: error,
    });
  } finally {
    closeSync(fd);
  }
  return members;
}

function addMember(members: Map<string, Member>, entry: TarEntry, file: string): void {
  const path = cleanPath(entry.path);
  if (path === null || path === '' || path.length > MAX_PATH) return;
  if (members.size >= MAX_MEMBERS) {
    throw new VeneerError(
      'oci/limit',
      `Cannot read ${file}: more than ${MAX_MEMBERS} members, at offset ${entry.headerOffset}`,
    );
  }
  const member = memberOf(entry, path);
  if (member !== null) members.set(path, member);
}

function memberOf(entry: TarEntry, path: string): Member | null {
  if (entry.type === 'file') {
    if (entry.sparse !== null) return { problem: 'it is a sparse member' };
    return { offset: entry.payloadOffset, length: entry.payloadSize };
  }
  if (entry.type === 'link') return linkTo(cleanPath(entry.linkPath));
  if (entry.type === 'symlink') {
    const slash = path.lastIndexOf('/');
    const base = slash < 0 ? '' : path.slice(0, slash);
    return linkTo(cleanPath(entry.linkPath.startsWith('/') ? entry.linkPath : `${base}/${entry.linkPath}`));
  }
  return null;
}

function linkTo(target: string | null): Member {
  if (target === null) return { problem: 'its link leaves the archive' };
  return target.length > MAX_PATH ? { problem: 'its link is too long' } : { target };
}

/** Without `.`, `..` and double or outer slashes; null when it climbs out. */
function cleanPath(path: string): string | null {
  const parts: string[] = [];
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue;
    if (part !== '..') parts.push(part);
    else if (parts.pop() === undefined) return null;
  }
  return parts.join('/');
}

function refuseCompressed(head: Buffer, file: string): void {
  for (const [magic, command] of COMPRESSED) {
    if (head.subarray(0, magic.length / 2).toString('hex') !== magic) continue;
    throw new VeneerError('oci/unsupported', `Cannot read ${file}: the archive as a whole is compressed`, {
      hint: `Decompress it first: ${command} < ${file} > image.tar`,
    });
  }
}
