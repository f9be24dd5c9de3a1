/** `veneer cp` */
import { VeneerError } from '../../errors.ts';
import { formatBytes, formatCount } from '../../progress/units.ts';
import { Attributes, type Problem } from '../../rootfs/attributes.ts';
import { checkProc } from '../../sys/folder.ts';
import { countLinks } from '../../tree/walk.ts';
import { asText, defineCommand } from '../command.ts';
import type { CliContext } from '../context.ts';
import { Copier, type CopyCounts } from '../copy/copier.ts';
import { Destination } from '../copy/destination.ts';
import { problemsJson, tellProblems } from '../copy/problems.ts';
import { findNode } from '../find-node.ts';
import { IMAGE_FLAGS, IMAGE_HELP, type ImageFlags } from '../image-flags.ts';
import { type ImagePath, parseImagePath } from '../image-path.ts';
import { withImages } from '../open-image.ts';
import { usageError } from '../parse.ts';

type Flags = ImageFlags & {
  readonly force: boolean;
  readonly dereference: boolean;
};

export default defineCommand<Flags, string[]>({
  name: 'cp',
  brief: 'Copy files out of an image',
  usage: ['cp [-fL] IMAGE:PATH... DEST'],
  description: `${IMAGE_HELP}
Directories are copied with all that is in them; DEST/NAME if DEST is a directory, else DEST itself.
IMAGE:/DIR/. (or IMAGE alone, for the root) copies what is in a directory instead of the directory.
Modes, times, extended attributes, hard links, symlinks and holes are kept, and as root owners and devices.
What this user may not set is told by path. Nothing is written through symlinks that stand in DEST.
A copy appears under its name when it is complete; only with --force is it merged into what is there.`,
  examples: [
    ['cp debian:12:/etc/os-release .', 'one file into this folder'],
    ['cp debian:12:/usr/share/doc docs', 'a tree, as docs'],
    ['cp debian:12 rootfs', 'the whole image'],
    ['cp -f app:/etc/. ./etc', 'into a folder that has files already'],
  ],
  parameters: {
    flags: {
      ...IMAGE_FLAGS,
      force: {
        kind: 'boolean',
        brief: 'Replace files that are there, merge directories',
        withNegated: false,
        default: false,
      },
      dereference: {
        kind: 'boolean',
        brief: 'Follow a symlink that PATH itself is',
        withNegated: false,
        default: false,
      },
    },
    aliases: { f: 'force', L: 'dereference' },
    positional: {
      kind: 'array',
      minimum: 2,
      parameter: { brief: 'What to copy, and where to', placeholder: 'IMAGE:PATH... DEST', parse: asText },
    },
  },
  completes: ['image', 'file'],
  async run(context, flags, ...words) {
    checkProc('copy');
    const typed = words.at(-1)!;
    if (typed === '') throw usageError('cp', 'DEST is empty');
    const sources = words.slice(0, -1).map(parseImagePath);
    const [xattr, inode] = await Promise.all([import('../../sys/xattr.ts'), import('../../sys/inode.ts')]);
    const { renameNew, makeNode } = inode;
    const attributes = new Attributes({ ...xattr, ...inode });
    const destination = new Destination(typed, {
      force: flags.force,
      several: sources.length > 1,
      renameNew,
    });
    const { signal } = context;
    await withImages(context, flags, sources, async (images) => {
      for (const [index, source] of sources.entries()) {
        const image = images[index]!;
        const path = context.bytesOf(source.path);
        const node = findNode(image, path, flags.dereference);
        const before = attributes.problems.length;
        const copier = new Copier({ image, links: countLinks(image.tree), attributes, makeNode, signal });
        const target = await destination.take(copier, { node, path });
        report(context, source, target, copier.counts, attributes.problems.slice(before));
      }
    });
    if (attributes.otherOwner > 0) {
      const files = formatCount(attributes.otherOwner, 'file');
      context.out.note(
        `you own ${files} that belong to somebody else in the image: keeping owners needs root`,
      );
    }
    if (attributes.missingFiles > 0) {
      const files = formatCount(attributes.missingFiles, 'file');
      throw new VeneerError('io/failed', `Cannot copy everything: ${files} could not be made here`, {
        hint: 'devices need root; all else is copied',
      });
    }
    return undefined;
  },
});

function report(
  { out }: CliContext,
  source: ImagePath,
  target: string,
  counts: CopyCounts,
  problems: readonly Problem[],
): void {
  tellProblems(out, problems);
  const names = counts.files + counts.directories + counts.symlinks + counts.hardLinks + counts.special;
  out.result(
    { image: source.image, path: source.path, target, ...counts, problems: problemsJson(problems) },
    () => [`${target}: ${formatCount(names, 'name')}, ${formatBytes(counts.bytes)}`],
  );
}
