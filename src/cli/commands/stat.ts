/** `veneer stat` */
import { displayByteString } from '../../bytes/byte-string.ts';
import { isoTime } from '../../progress/units.ts';
import { fileExtents } from '../../tree/file-data.ts';
import { S_IFLNK, S_IFREG, type TreeNode } from '../../tree/node.ts';
import { countLinks } from '../../tree/walk.ts';
import { defineCommand, manyOf } from '../command.ts';
import { findNode } from '../find-node.ts';
import { IMAGE_FLAGS, IMAGE_HELP, type ImageFlags } from '../image-flags.ts';
import { parseImagePath } from '../image-path.ts';
import { isDevice, isType, modeString, nodeJson, octalMode, typeName, xattrText } from '../node-facts.ts';
import { type OpenImage, withImages } from '../open-image.ts';
import { alignColumns } from '../table.ts';

type Flags = ImageFlags & {
  readonly dereference: boolean;
};

/** Data runs listed for people; --json has all. */
const RUNS = 16;

export default defineCommand<Flags, string[]>({
  name: 'stat',
  brief: 'Show all that is known of a file in an image',
  usage: ['stat [-L] IMAGE[:PATH]...'],
  description: `${IMAGE_HELP}
Shows type, mode, owner, links, size, time, extended attributes, and where the bytes of a file stand:
which layer (its diffID) or device, and at which offset in it.`,
  examples: [
    ['stat debian:12:/usr/bin/passwd', 'attributes and the place of the data'],
    ['stat -L debian:12:/bin/sh', 'what the symlink leads to'],
    ['stat --json debian:12:/', 'for programs'],
  ],
  parameters: {
    flags: {
      ...IMAGE_FLAGS,
      dereference: {
        kind: 'boolean',
        brief: 'Follow a symlink at the end of PATH',
        withNegated: false,
        default: false,
      },
    },
    aliases: { L: 'dereference' },
    positional: manyOf('IMAGE[:PATH]', 'What to look at'),
  },
  completes: ['image'],
  async run(context, flags, ...targets) {
    const paths = targets.map(parseImagePath);
    await withImages(context, flags, paths, async (images) => {
      const links = new Map<OpenImage, Map<TreeNode, number>>();
      for (const [index, target] of paths.entries()) {
        const image = images[index]!;
        const counted = links.get(image) ?? countLinks(image.tree);
        links.set(image, counted);
        const path = context.bytesOf(target.path);
        const node = findNode(image, path, flags.dereference);
        const nlink = counted.get(node) ?? 1;
        const data = isType(node, S_IFREG) ? dataJson(image, node) : {};
        context.out.result({ image: image.name, ...nodeJson(path, node, nlink), ...data }, () => [
          ...(index > 0 ? [''] : []),
          ...describe(image, path, node, nlink),
        ]);
      }
    });
    return undefined;
  },
});

function dataJson(image: OpenImage, node: TreeNode): object {
  const extents = fileExtents(node).map((extent) => {
    const { digest, kind } = image.tree.sources[extent.source]!;
    return {
      offset: extent.offset,
      length: extent.length,
      device: extent.source,
      at: extent.at,
      kind,
      digest,
    };
  });
  return { data: extents };
}

function describe(image: OpenImage, path: string, node: TreeNode, nlink: number): string[] {
  const rows: [string, string][] = [
    [
      'Name:',
      `${displayByteString(path)}${isType(node, S_IFLNK) ? ` -> ${displayByteString(node.target)}` : ''}`,
    ],
    ['Image:', image.name],
    ['Type:', typeName(node)],
    ['Mode:', `${octalMode(node)} ${modeString(node)}`],
    ['Owner:', `${node.uid}:${node.gid}`],
    ['Links:', String(nlink)],
    ['Size:', isType(node, S_IFREG) ? `${node.size} bytes` : String(node.size)],
    ['Modified:', isoTime(node.mtime, node.mtimeNsec)],
  ];
  if (isDevice(node)) rows.push(['Device:', `${node.devMajor},${node.devMinor}`]);
  for (const [name, value] of node.xattrs ?? [])
    rows.push(['Attribute:', `${displayByteString(name)}=${xattrText(value)}`]);
  if (isType(node, S_IFREG)) rows.push(...dataRows(image, node));
  return alignColumns(rows);
}

function dataRows(image: OpenImage, node: TreeNode): [string, string][] {
  const extents = fileExtents(node);
  if (extents.length === 0) return node.size === 0 ? [] : [['Data:', 'none, one hole']];
  const rows = extents.slice(0, RUNS).map(({ offset, length, source, at }): [string, string] => {
    const whole = offset === 0 && length === node.size;
    const { digest, kind } = image.tree.sources[source]!;
    const place =
      source === 0 && kind === 'erofs' ? 'the image itself' : `${kind} ${digest || `device ${source}`}`;
    return ['Data:', `${whole ? '' : `bytes ${offset} to ${offset + length} `}at offset ${at} of ${place}`];
  });
  if (extents.length > RUNS)
    rows.push(['Data:', `and ${extents.length - RUNS} more runs (--json lists all)`]);
  return rows;
}
