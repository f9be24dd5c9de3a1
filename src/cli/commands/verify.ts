/** `veneer verify` */
import { statSync } from 'node:fs';
import { formatBytes, formatCount } from '../../progress/units.ts';
import type { VerifyReport } from '../../store/verify.ts';
import { asText, defineCommand } from '../command.ts';
import type { CliContext, CommonFlags } from '../context.ts';
import { isPath } from '../image-path.ts';
import { usageError } from '../parse.ts';
import { PROGRESS_FLAG, type ProgressFlags, withProgress } from '../progress.ts';
import { withStore } from '../with-store.ts';

type Flags = ProgressFlags & {
  readonly rootHash?: string;
  readonly hashFile?: string;
  readonly signature?: string;
  readonly cert?: string;
};

const ROOT_HASH = /^[0-9a-f]{64}(,[0-9a-f]{64})*$/;

export default defineCommand<Flags, [image?: string]>({
  name: 'verify',
  brief: 'Re-hash everything in the store, an image, or a disk',
  usage: [
    'verify [IMAGE]',
    'verify --root-hash HASH [--signature FILE --cert FILE] IMAGE|DISK',
    'verify [--hash-file FILE] DISK',
  ],
  description: `Reads every layer, merged image, hash tree and document again and compares it with its digest. Changes nothing.
Exit code 1 when something is damaged.

DISK is a file that "veneer disk" made (.vmdk, .raw, or a path). Its descriptor, partition tables, metadata, layers
and hash trees are checked, and what is wrong is named with its file and place. --root-hash is the root hash that
whoever made the disk gave: with it nothing on the disk is trusted. With --signature the hash itself must be signed
by CERT first.`,
  examples: [
    ['verify', 'the whole store'],
    ['verify debian:12', 'only what one image needs'],
    ['verify app.vmdk', 'a disk and all the files that it points to'],
    [
      'verify --root-hash 5be1… --signature app.vmdk.p7s --cert cert.pem app.vmdk',
      'a disk that somebody signed',
    ],
  ],
  parameters: {
    flags: {
      rootHash: {
        kind: 'parsed',
        parse: asText,
        optional: true,
        placeholder: 'HASH',
        brief: 'dm-verity root hash that the data must have (one a partition, with commas)',
      },
      hashFile: {
        kind: 'parsed',
        parse: asText,
        optional: true,
        placeholder: 'FILE',
        brief: 'Hash tree of a disk that does not hold it ("veneer disk --hash-file")',
      },
      signature: {
        kind: 'parsed',
        parse: asText,
        optional: true,
        placeholder: 'FILE',
        brief: 'PKCS#7 signature of the root hash',
      },
      cert: {
        kind: 'parsed',
        parse: asText,
        optional: true,
        placeholder: 'FILE',
        brief: 'Certificate of who signed it',
      },
      ...PROGRESS_FLAG,
    },
    positional: {
      kind: 'tuple',
      parameters: [{ brief: 'An image or a disk', placeholder: 'IMAGE|DISK', parse: asText, optional: true }],
    },
  },
  completes: ['image', 'none'],
  async run(context, flags, what) {
    const { rootHash, hashFile, signature, cert } = flags;
    if (rootHash !== undefined && !ROOT_HASH.test(rootHash))
      throw usageError('verify', `"${rootHash}" is no root hash: 64 lower-case hex digits`);
    if (rootHash !== undefined && what === undefined)
      throw usageError('verify', '--root-hash needs an image or a disk');
    if (hashFile !== undefined && (what === undefined || !isDisk(what)))
      throw usageError('verify', '--hash-file needs a disk');
    if (
      (signature === undefined) !== (cert === undefined) ||
      (signature !== undefined && rootHash === undefined)
    )
      throw usageError('verify', '--signature, --cert and --root-hash go together');
    if (signature !== undefined) {
      const { checkSignature } = await import('../../disk/signature.ts');
      checkSignature(rootHash!, signature, cert!);
    }
    return what !== undefined && isDisk(what)
      ? verifyDiskFile(context, flags, what)
      : verifyStore(context, flags, what);
  },
});

/** What begins like a path is one; so is a file with a disk's name. */
function isDisk(what: string): boolean {
  if (isPath(what)) return true;
  return /\.(vmdk|raw|img)$/i.test(what) && statSync(what, { throwIfNoEntry: false }) !== undefined;
}

async function verifyStore(
  context: CliContext,
  flags: Flags & CommonFlags,
  image: string | undefined,
): Promise<number> {
  const { verify } = await import('../../store/verify.ts');
  const { resolveImage } = await import('../../store/images.ts');
  return withStore(context, flags, async (store) => {
    const only = image === undefined ? {} : { image: resolveImage(store, image) };
    const report = await withProgress(context, flags, async ({ onProgress }) => {
      const found = await verify(store, { ...only, onProgress, signal: context.signal });
      if (flags.rootHash === undefined || found.problems.length > 0) return found;
      const { rootHashOf } = await import('../disk/root-hash.ts');
      const computed = await rootHashOf(store, image!, { signal: context.signal, onProgress });
      if (computed !== flags.rootHash) {
        const message = `the disk of ${image} has the root hash ${computed}, not ${flags.rootHash}`;
        found.problems.push({ path: store.layout.root, message });
      }
      return found;
    });
    context.out.result(report, () => [
      ...report.problems.map(({ message }) => `damaged: ${message}`),
      ...describeSeals(report),
      `${formatCount(report.files, 'file')}, ${formatBytes(report.bytes)}: ${report.problems.length === 0 ? 'all as their digests say' : `${report.problems.length} damaged`}`,
    ]);
    return report.problems.length === 0 ? 0 : 1;
  });
}

function describeSeals({ fsVerity, immutable }: VerifyReport): string[] {
  const lines: string[] = [];
  if (fsVerity !== null)
    lines.push(`fs-verity: the kernel checks every read of ${formatCount(fsVerity, 'file')}`);
  if (immutable > 0) lines.push(`immutable: ${formatCount(immutable, 'file')}`);
  return lines;
}

async function verifyDiskFile(context: CliContext, flags: Flags, path: string): Promise<number> {
  const { openDisk, openTreeFile } = await import('../../disk/open-disk.ts');
  const { verifyDisk } = await import('../../disk/verify-disk.ts');
  const disk = openDisk(path);
  const treeDisk = flags.hashFile === undefined ? null : openTreeFile(flags.hashFile);
  try {
    const { rootHash } = flags;
    const report = await withProgress(context, flags, async ({ onProgress }) => {
      onProgress({ type: 'start', id: path, what: `verify ${path}`, total: disk.sectors * 512 });
      const found = await verifyDisk(disk, {
        ...(rootHash === undefined ? {} : { rootHash }),
        ...(treeDisk === null ? {} : { treeFile: { path: flags.hashFile!, source: treeDisk } }),
        signal: context.signal,
        onProgress: (done) =>
          onProgress({ type: 'advance', id: path, done: Math.min(done, disk.sectors * 512) }),
      });
      onProgress({ type: 'end', id: path, outcome: found.problems.length === 0 ? 'done' : 'failed' });
      return found;
    });
    context.out.result({ path, ...report }, () => [
      ...report.problems.map((problem) => `damaged: ${problem}`),
      ...report.unchecked.map((what) => `not checked: ${what}`),
      `${path}: ${report.problems.length === 0 ? 'sound' : `${report.problems.length} damaged`}`,
    ]);
    return report.problems.length === 0 ? 0 : 1;
  } finally {
    disk.source.close();
    treeDisk?.close();
  }
}
