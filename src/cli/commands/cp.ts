/** `veneer cp` */
import { Buffer } from 'node:buffer';
import { randomBytes } from 'node:crypto';
import { statSync } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import { displayByteString } from '../../bytes/byte-string.ts';
import { VeneerError } from '../../errors.ts';
import { formatBytes } from '../../progress/units.ts';
import { S_IFDIR, type TreeNode } from '../../tree/node.ts';
import { countLinks } from '../../tree/walk.ts';
import { asText, defineCommand } from '../command.ts';
import type { CliContext, CommonFlags } from '../context.ts';
import { Attributes } from '../copy/attributes.ts';
import { Copier, type CopyCounts } from '../copy/copier.ts';
import { checkProc, Folder, removeTree } from '../copy/folder.ts';
import { findNode } from '../find-node.ts';
import { IMAGE_FLAGS, IMAGE_HELP, type ImageFlags } from '../image-flags.ts';
import { type ImagePath, parseImagePath } from '../image-path.ts';
import { isType } from '../node-facts.ts';
import { type OpenImage, withImages } from '../open-image.ts';
import { jsonName } from '../output.ts';
import { usageError } from '../parse.ts';

type Flags = ImageFlags & {
  readonly force: boolean;
  readonly dereference: boolean;
};

/** Problems told one by one on a terminal; --json has all. */
const TOLD = 20;

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
    checkProc();
    const destination = words.at(-1)!;
    const sources = words.slice(0, -1).map(parseImagePath);
    if (destination === '') throw usageError('cp', 'DEST is empty');
    const [xattr, inode] = await Promise.all([import('../../sys/xattr.ts'), import('../../sys/inode.ts')]);
    const attributes = new Attributes({ ...xattr, ...inode });
    let missing = 0;
    await withImages(context, flags, sources, async (images) => {
      for (const [index, source] of sources.entries()) {
        const before = attributes.problems.length;
        const copier = new Copier({
          image: images[index]!,
          links: countLinks(images[index]!.tree),
          attributes,
          makeNode: inode.makeNode,
          signal: context.signal,
        });
        const target = await copyOne(
          context,
          flags,
          copier,
          images[index]!,
          source,
          destination,
          sources.length > 1,
          inode.renameNew,
        );
        report(context, source, target, copier.counts, attributes.problems.slice(before));
      }
    });
    if (attributes.otherOwner > 0) {
      context.out.note(
        `${attributes.otherOwner} files belong to you and not to the owner they have in the image: that needs root`,
      );
    }
    missing = attributes.missingFiles;
    return missing > 0 ? 1 : 0;
  },
});

/** Returns the path of the copy. */
async function copyOne(
  context: CliContext,
  flags: Flags & CommonFlags,
  copier: Copier,
  image: OpenImage,
  source: ImagePath,
  destination: string,
  several: boolean,
  renameNew: (from: Buffer, to: Buffer) => void,
): Promise<string> {
  const path = context.bytesOf(source.path);
  const node = findNode(image, path, flags.dereference);
  const name = lastName(path);
  const folder = statSync(destination, { throwIfNoEntry: false })?.isDirectory() ?? false;
  if (!folder && (several || (destination.endsWith('/') && !isType(node, S_IFDIR)))) {
    throw new VeneerError('cli/no-folder', `Cannot copy to ${destination}: it is not a directory`, {
      hint: `mkdir ${destination}`,
    });
  }
  if (folder && name !== '') {
    const parent = Folder.open(destination);
    try {
      await place(
        copier,
        parent,
        name,
        node,
        path,
        flags.force,
        `${destination.replace(/\/+$/, '')}/${displayByteString(name)}`,
        renameNew,
      );
    } finally {
      parent.close();
    }
    return `${destination.replace(/\/+$/, '')}/${displayByteString(name)}`;
  }
  const full = resolve(destination);
  const parent = openParent(full, destination);
  try {
    const own = Buffer.from(basename(full)).toString('latin1');
    if (folder) await fillFolder(copier, full, node, path, flags.force, destination);
    else await place(copier, parent, own, node, path, flags.force, destination, renameNew);
  } finally {
    parent.close();
  }
  return destination;
}

function openParent(full: string, shown: string): Folder {
  try {
    return Folder.open(dirname(full));
  } catch (error) {
    throw new VeneerError(
      'cli/no-folder',
      `Cannot copy to ${shown}: there is no directory ${dirname(full)}`,
      { cause: error },
    );
  }
}

/** The name a copy gets in a directory; '' when what is in a directory is meant and not the directory. */
function lastName(path: string): string {
  if (/(^|\/)\.\/*$/.test(path)) return '';
  const name = path.replace(/\/+$/, '').split('/').at(-1) ?? '';
  return name === '..' ? '' : name;
}

/** Copies to a new name; over an old one only with --force. */
async function place(
  copier: Copier,
  parent: Folder,
  name: string,
  node: TreeNode,
  path: string,
  force: boolean,
  shown: string,
  renameNew: (from: Buffer, to: Buffer) => void,
): Promise<void> {
  if (parent.look(name) !== null) {
    if (!force) throw exists(shown);
    await copier.fill(parent, name, node, path);
    return;
  }
  // Under another name until it is complete; a failure takes it away again.
  const unfinished = `.veneer-${randomBytes(6).toString('hex')}.unfinished`;
  try {
    await copier.create(parent, unfinished, node, path);
    if (parent.look(unfinished) === null) return;
    renameNew(parent.at(unfinished), parent.at(name));
  } catch (error) {
    removeTree(parent, unfinished);
    throw error instanceof VeneerError && error.code === 'sys/EEXIST' ? exists(shown) : error;
  }
}

/** Copies what is in a directory into one that exists: an empty one, or any with --force. */
async function fillFolder(
  copier: Copier,
  full: string,
  node: TreeNode,
  path: string,
  force: boolean,
  shown: string,
): Promise<void> {
  if (!isType(node, S_IFDIR)) throw exists(shown);
  const folder = Folder.open(full);
  try {
    if (!force && folder.names().length > 0) throw exists(shown);
    // "." is the folder itself: the copy gets its attributes too.
    await copier.fill(folder, '.', node, path);
  } finally {
    folder.close();
  }
}

function exists(shown: string): VeneerError {
  return new VeneerError('cli/exists', `Cannot copy to ${shown}: it is there already`, {
    hint: '--force replaces files and merges directories',
  });
}

function report(
  { out }: CliContext,
  source: ImagePath,
  target: string,
  counts: CopyCounts,
  problems: Attributes['problems'],
): void {
  if (!out.json) {
    for (const { path, what, reason } of problems.slice(0, TOLD)) {
      out.note(
        what === 'file'
          ? `${displayByteString(path)} is not made: ${reason}`
          : `${displayByteString(path)}: ${what} is not set: ${reason}`,
      );
    }
    if (problems.length > TOLD) out.note(`${problems.length - TOLD} more like these (--json lists all)`);
  }
  const listed = problems.map(({ path, what, reason }) => ({ ...jsonName('path', path), what, reason }));
  const names = counts.files + counts.directories + counts.symlinks + counts.hardLinks + counts.special;
  out.result(
    { image: source.image, path: source.path, target, ...counts, problems: listed },
    () => `${target}: ${names} ${names === 1 ? 'name' : 'names'}, ${formatBytes(counts.bytes)}`,
  );
}
