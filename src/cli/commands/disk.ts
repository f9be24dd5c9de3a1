/** `veneer disk` */
import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { formatBytes, formatCount } from '../../progress/units.ts';
import { asText, defineCommand } from '../command.ts';
import type { CliContext, CommonFlags } from '../context.ts';
import type { DiskInput } from '../disk/input.ts';
import type { UdfDisk } from '../disk/udf.ts';
import type { DiskFormat, WrittenDisk } from '../disk/write.ts';
import { IMAGE_FLAGS, type ImageFlags } from '../image-flags.ts';
import { FORCE_FLAG, OutputFile } from '../output-file.ts';
import { usageError } from '../parse.ts';
import { PROGRESS_FLAG, type ProgressFlags, withProgress } from '../progress.ts';
import { withStore } from '../with-store.ts';

type Flags = ImageFlags &
  ProgressFlags & {
    readonly output?: string;
    readonly dmTable: boolean;
    readonly gpt: boolean;
    readonly relative: boolean;
    readonly format: 'erofs' | 'udf';
    readonly verity: boolean;
    readonly hashFile?: string;
    readonly superblock: boolean;
    readonly sign?: string;
    readonly cert?: string;
    readonly annotate?: string;
    readonly force: boolean;
    readonly fsync: boolean;
  };

const switchedOn = (brief: string) =>
  ({ kind: 'boolean', brief, withNegated: false, default: false }) as const;
const text = (placeholder: string, brief: string) =>
  ({ kind: 'parsed', parse: asText, optional: true, placeholder, brief }) as const;

export default defineCommand<Flags, [image?: string, file?: string]>({
  name: 'disk',
  brief: 'Make one virtual disk of an image, or look into one',
  usage: [
    'disk [--verity] [--gpt] [--relative] [-f] -o FILE.vmdk|FILE.raw IMAGE',
    'disk --dm-table -o SCRIPT IMAGE',
    'disk inspect FILE',
  ],
  description: `A disk shows all layers of an image as one read-only EROFS file system: "mount -t erofs /dev/vda /mnt" in the
guest (Linux 6.12; see docs/vm.md for others).

A .vmdk is a text that points to the files of the store: nothing is copied, and the disk works as long as the image
stays in the store. A .raw file stands for itself; it shares blocks with the store where the file system can
(Btrfs, XFS), and is a copy elsewhere. --dm-table writes a script that makes a device-mapper device of the files.

--format udf makes the disk for kernels without EROFS: a standard UDF volume over all tars, which a plain "mount"
recognises. What UDF cannot hold is told.

--verity puts a dm-verity hash tree behind the data and prints its root hash: whoever opens the disk with that
hash can trust every byte of it. --gpt gives every layer a partition of its own (with --verity: each with a tree and
a root hash of its own) for guests that put layers together themselves.

IMAGE is a name in the store, or an EROFS image file with --device for each file of its device table.
FILE.vmdk.extra is written beside a VMDK when it needs bytes that stand in no file of the image.`,
  examples: [
    ['disk -o app.vmdk app:latest', 'no data is copied'],
    ['disk -o app.raw app:latest', 'one file, for cloud-hypervisor and Firecracker'],
    ['disk --verity -o app.vmdk app:latest', 'with a hash tree; prints the root hash'],
    [
      'disk --verity --sign key.pem --cert cert.pem -o app.vmdk app:latest',
      'and app.vmdk.p7s, the signed root hash',
    ],
    [
      'disk --verity --hash-file app.hash -o app.raw app:latest',
      'the hash tree in a file beside, as veritysetup has it',
    ],
    ['disk --format udf -o app.vmdk app:latest', 'for a guest without EROFS'],
    ['disk inspect app.vmdk', 'what it is made of'],
    ['verify app.vmdk', 'read all of it and compare with its digests'],
  ],
  parameters: {
    flags: {
      output: text('FILE', 'Name of the disk; it ends in .vmdk or .raw (or .img)'),
      dmTable: switchedOn('Write a script that sets up a device-mapper device instead'),
      gpt: switchedOn('One partition a layer'),
      format: {
        kind: 'enum',
        values: ['erofs', 'udf'],
        default: 'erofs',
        brief: 'File system of the disk',
      },
      relative: switchedOn('VMDK: name the files of the store relative to FILE'),
      verity: switchedOn('Put a dm-verity hash tree behind the data'),
      hashFile: text('FILE', 'With --verity: put the tree into FILE instead'),
      superblock: {
        kind: 'boolean',
        brief: "Begin the tree with cryptsetup's superblock",
        default: true,
        withNegated: true,
      },
      sign: text('KEY', 'With --verity: sign the root hash into FILE.p7s (PEM key)'),
      cert: text('CERT', 'Certificate of the key'),
      annotate: text(
        'DIR',
        'With --verity: OCI layout to write, an artifact with the root hash as annotation',
      ),
      fsync: {
        kind: 'boolean',
        brief: 'Make hash trees in the store durable at once',
        default: true,
        withNegated: true,
      },
      ...FORCE_FLAG,
      ...IMAGE_FLAGS,
      ...PROGRESS_FLAG,
    },
    aliases: { o: 'output', f: 'force' },
    positional: {
      kind: 'tuple',
      parameters: [
        {
          brief: 'What to make a disk of, or "inspect"',
          placeholder: 'IMAGE',
          parse: asText,
          optional: true,
        },
        { brief: 'With "inspect": the disk', placeholder: 'FILE', parse: asText, optional: true },
      ],
    },
  },
  completes: ['image', 'file'],
  async run(context, flags, image, file) {
    if (image === undefined) throw usageError('disk', 'IMAGE is missing');
    if (file !== undefined) {
      if (image !== 'inspect') throw usageError('disk', `one argument too many: "${file}"`);
      const { inspectDisk } = await import('../disk/inspect.ts');
      return inspectDisk(context, file);
    }
    const { output } = flags;
    if (output === undefined) throw usageError('disk', '-o FILE is missing');
    const format = chooseFormat(flags, output);
    if ((flags.sign === undefined) !== (flags.cert === undefined))
      throw usageError('disk', '--sign and --cert go together');
    if ((flags.sign ?? flags.annotate) !== undefined && (!flags.verity || flags.gpt))
      throw usageError('disk', '--sign and --annotate need --verity without --gpt: one root hash');
    if (flags.hashFile !== undefined && (flags.gpt || !flags.verity))
      throw usageError('disk', '--hash-file needs --verity without --gpt: one tree');
    if (flags.hashFile !== undefined && resolve(flags.hashFile) === resolve(output))
      throw usageError('disk', '--hash-file and -o are the same file');
    if (!flags.superblock && !flags.verity) throw usageError('disk', '--no-superblock needs --verity');
    if (flags.format === 'udf' && (flags.verity || flags.gpt))
      throw usageError('disk', '--format udf goes without --verity and --gpt');
    if (flags.relative && format !== 'vmdk') throw usageError('disk', '--relative is for VMDKs');
    const make = async (input: DiskInput): Promise<undefined> => {
      try {
        await makeDisk(context, flags, input, { output, format });
      } finally {
        input.release();
      }
      return undefined;
    };
    const keep = flags.verity || format === 'raw' || flags.format === 'udf';
    const { openFileInput, openStoredInput } = await import('../disk/input.ts');
    const devices = flags.device ?? [];
    if (isImageFile(image, devices)) return make(await openFileInput(image, devices, context.signal));
    return withStore(context, flags, async (store) =>
      make(await openStoredInput(store, image, { signal: context.signal, keep })),
    );
  },
});

/** What begins like a path is one, as with all commands. */
function isImageFile(image: string, devices: readonly string[]): boolean {
  return /^\.{0,2}\//.test(image) || devices.length > 0 || image.endsWith('.erofs');
}

function chooseFormat({ dmTable }: Flags, output: string): DiskFormat {
  if (dmTable) return 'dm-table';
  if (/\.vmdk$/i.test(output)) return 'vmdk';
  if (/\.(raw|img)$/i.test(output)) return 'raw';
  throw usageError('disk', `the name of the disk says its form: .vmdk or .raw, not ${output}`);
}

async function makeDisk(
  context: CliContext,
  flags: Flags & CommonFlags,
  input: DiskInput,
  { output, format }: { output: string; format: DiskFormat },
): Promise<void> {
  const { writeDisk } = await import('../disk/write.ts');
  const { gpt, verity, superblock, relative, force } = flags;
  const hashFile = flags.hashFile ?? null;
  const udf = flags.format === 'udf' ? await udfVolume(context, input) : null;
  const disk = await withProgress(context, flags, ({ onProgress }) =>
    writeDisk(input, {
      output,
      format,
      gpt,
      verity,
      superblock,
      hashFile,
      udf,
      relative,
      force,
      signal: context.signal,
      onProgress,
    }),
  );
  const signature = flags.sign === undefined ? null : await sign(disk, flags.sign, flags.cert!, force);
  let annotation: string | null = null;
  if (flags.annotate !== undefined) {
    const { writeAnnotation } = await import('../disk/annotation.ts');
    annotation = writeAnnotation(flags.annotate, input, disk.trees[0]!, signature?.bytes ?? null);
  }
  const mountOptions = udf?.mountOptions ?? null;
  const facts = {
    ...summary(disk),
    superblock: verity ? superblock : null,
    hashFile,
    mountOptions,
    signature: signature?.path ?? null,
    annotation,
  };
  context.out.result(facts, () => describe(input, disk, facts));
}

async function udfVolume({ out }: CliContext, input: DiskInput): Promise<UdfDisk> {
  const { stored } = input;
  if (stored === null) throw usageError('disk', '--format udf is for images of the store');
  const { makeUdfDisk } = await import('../disk/udf.ts');
  const udf = makeUdfDisk({ ...input, stored });
  out.findings(udf.findings);
  return udf;
}

async function sign(
  disk: WrittenDisk,
  key: string,
  cert: string,
  force: boolean,
): Promise<{ path: string; bytes: Buffer }> {
  const { signRootHash } = await import('../../disk/signature.ts');
  const bytes = signRootHash(disk.trees[0]!.rootHash, key, cert);
  const file = new OutputFile(`${disk.output}.p7s`, force);
  try {
    file.write(bytes, 0);
    file.commit();
  } finally {
    file.discard();
  }
  return { path: file.path, bytes };
}

function summary(disk: WrittenDisk) {
  const { output, format, size, extra, trees, partitions, raw } = disk;
  const hashes = trees.map(({ rootHash, salt, dataBlockSize, dataBlocks }) => ({
    rootHash,
    salt,
    dataBlockSize,
    dataBlocks,
  }));
  return {
    output,
    format,
    size,
    extra,
    verity: partitions.length === 0 ? (hashes[0] ?? null) : null,
    partitions: partitions.map((partition, i) => ({ ...partition, verity: hashes[i] ?? null })),
    raw,
  };
}

interface DiskFacts {
  /** Null without a tree. */
  readonly superblock: boolean | null;
  readonly hashFile: string | null;
  readonly mountOptions: readonly string[] | null;
  readonly signature: string | null;
  readonly annotation: string | null;
}

function describe(
  input: DiskInput,
  disk: WrittenDisk,
  { superblock, hashFile, mountOptions, signature, annotation }: DiskFacts,
): string[] {
  const { output, size, extra, trees, partitions, raw } = disk;
  const layers = formatCount(input.image.devices.length, 'layer');
  const lines = [`${output}: ${formatBytes(size)}, ${layers} with data of ${input.name}`];
  if (raw !== null) {
    const taken = statSync(output).blocks * 512;
    lines.push(
      `  ${formatBytes(raw.cloned)} shared with the image's files, ${formatBytes(raw.copied)} copied; takes ${formatBytes(taken)}`,
    );
  }
  if (extra !== null) lines.push(`  needs ${extra}`);
  for (const { number, name, start, sectors, hashOffset } of partitions) {
    const tree = trees[number - 1];
    const hash = tree === undefined ? '' : `, root hash ${tree.rootHash}, hash offset ${hashOffset}`;
    lines.push(`  partition ${number} "${name}": sectors ${start} to ${start + sectors - 1}${hash}`);
  }
  if (partitions.length === 0 && trees[0] !== undefined) {
    const { rootHash, dataBlocks, dataBlockSize } = trees[0];
    lines.push(`  root hash ${rootHash}`);
    const place =
      hashFile === null
        ? `hash offset ${hashOffset(dataBlocks * dataBlockSize)}`
        : `hash tree in ${hashFile}`;
    lines.push(`  ${place}, data blocks of ${dataBlockSize} bytes`);
  }
  if (superblock === false) {
    for (const { dataBlocks, salt } of trees)
      lines.push(`  no superblock: ${dataBlocks} data blocks, hash blocks of 4096 bytes, salt ${salt}`);
  }
  if (mountOptions !== null) lines.push(`  mount -t udf -o ${mountOptions.join(',')} DEVICE DIR`);
  if (signature !== null) lines.push(`  signature ${signature}`);
  if (annotation !== null) lines.push(`  annotation in ${annotation}`);
  return lines;
}

const hashOffset = (dataSize: number): number => Math.ceil(dataSize / 4096) * 4096;
