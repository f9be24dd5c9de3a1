/** `veneer disk inspect` */
import type { DiskContent, FoundArea } from '../../disk/content.ts';
import type { OpenDisk } from '../../disk/open-disk.ts';
import { formatBytes, formatCount } from '../../progress/units.ts';
import { type Trailer, UDF_BLOCK } from '../../udf/index.ts';
import type { CliContext } from '../context.ts';
import { alignColumns } from '../table.ts';

/** Prints what a disk is made of; exit code 1 when it cannot be read as a whole. */
export async function inspectDisk({ out }: CliContext, path: string): Promise<number> {
  const { openDisk } = await import('../../disk/open-disk.ts');
  const { findContent } = await import('../../disk/content.ts');
  const disk = openDisk(path);
  try {
    const content: DiskContent =
      disk.problems.length > 0
        ? { whole: null, partitions: [], udf: null, problems: [] }
        : findContent(disk.source);
    const problems = [...disk.problems, ...content.problems];
    if (disk.vmdk?.intact === false) problems.push('the descriptor was changed after it was written');
    const facts = {
      path,
      format: disk.format,
      size: disk.sectors * 512,
      vmdk: disk.vmdk,
      content: { whole: content.whole, partitions: content.partitions, udf: content.udf },
      problems,
    };
    out.result(facts, () => describe(disk, content, problems));
    return problems.length === 0 ? 0 : 1;
  } finally {
    disk.source.close();
  }
}

const WHOLE = 'the disk';

function describe(disk: OpenDisk, content: DiskContent, problems: readonly string[]): string[] {
  const { path, format, sectors, vmdk } = disk;
  const lines = [`${path}: ${format}, ${formatBytes(sectors * 512)}, ${formatCount(sectors, 'sector')}`];
  if (vmdk !== null) {
    lines.push(`  type ${vmdk.createType}, CID ${vmdk.cid}, ${formatCount(vmdk.extents.length, 'extent')}`);
    for (const [key, value] of Object.entries(vmdk.database)) {
      if (key.startsWith('veneer.')) lines.push(`  ${key} = ${value}`);
    }
    let start = 0;
    const rows = vmdk.extents.map(({ type, sectors: length, file, offset }) => {
      const row = [`  ${start}`, String(length), type, file === null ? '' : `${file} at ${offset}`];
      start += length;
      return row;
    });
    lines.push(...alignColumns([['  SECTOR', 'LENGTH', 'TYPE', 'FILE'], ...rows]));
  }
  if (content.udf !== null) lines.push(describeUdf(content.udf));
  else if (content.whole !== null) lines.push(...describeArea(content.whole, WHOLE));
  for (const partition of content.partitions) {
    const { number, name, at, size } = partition;
    lines.push(`partition ${number} "${name}": ${formatBytes(size)} at sector ${at / 512}`);
    lines.push(...describeArea(partition, 'it'));
  }
  for (const problem of problems) lines.push(`problem: ${problem}`);
  return lines;
}

function describeUdf({ tarLength, metadataBlocks, names }: Trailer): string {
  const metadata = formatBytes(metadataBlocks * UDF_BLOCK);
  return `  ${WHOLE} holds UDF: ${formatBytes(tarLength)} of tars, ${metadata} of metadata, names as ${names}`;
}

function describeArea({ erofs, tree }: FoundArea, what: string): string[] {
  const lines: string[] = [];
  if (erofs === null && what === WHOLE) lines.push('  no EROFS image and no partition table');
  if (erofs !== null) {
    const { blockSize, blocks, uuid, devices } = erofs;
    lines.push(
      `  ${what} holds EROFS: ${formatBytes(blocks * blockSize)} in blocks of ${blockSize}, UUID ${uuid}`,
    );
    const rows = devices.map(({ tag, at, size }, i) => [
      `    device ${i + 1}`,
      formatBytes(size),
      `at sector ${at / 512}`,
      tag === '' ? '(no tag)' : tag.slice(0, 12),
    ]);
    lines.push(...alignColumns(rows));
  }
  if (tree !== null) {
    const { dataBlocks, dataBlockSize, at, salt } = tree;
    lines.push(
      `  hash tree over ${dataBlocks} blocks of ${dataBlockSize} bytes, superblock at byte ${at}, salt ${salt || '-'}`,
    );
  }
  return lines;
}
