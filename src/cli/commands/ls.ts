/** `veneer ls` */
import { Buffer } from 'node:buffer';
import { displayByteString } from '../../bytes/byte-string.ts';
import { formatTime } from '../../progress/units.ts';
import { S_IFDIR, S_IFLNK, type TreeNode } from '../../tree/node.ts';
import { joinPath } from '../../tree/path.ts';
import { countLinks } from '../../tree/walk.ts';
import { Batch } from '../batch.ts';
import { defineCommand, manyOf } from '../command.ts';
import type { CliContext } from '../context.ts';
import { findNode } from '../find-node.ts';
import { IMAGE_FLAGS, IMAGE_HELP, type ImageFlags } from '../image-flags.ts';
import { type ImagePath, parseImagePath } from '../image-path.ts';
import { isDevice, isType, modeString, nodeJson } from '../node-facts.ts';
import { type OpenImage, withImages } from '../open-image.ts';
import { alignColumns } from '../table.ts';

type Flags = ImageFlags & {
  readonly long: boolean;
  readonly recursive: boolean;
  readonly all: boolean;
  readonly directory: boolean;
  readonly null: boolean;
};

interface Entry {
  /** As printed: the bare name in a listing, the path as typed for an argument. */
  readonly name: string;
  /** From the root, without leading slash. */
  readonly path: string;
  readonly node: TreeNode;
}

export default defineCommand<Flags, string[]>({
  name: 'ls',
  brief: 'List files of an image, without mounting it',
  usage: ['ls [-laRd0] IMAGE[:PATH]...'],
  description: `${IMAGE_HELP}
With -l: mode ("+" behind it: extended attributes), links, owner and group numbers, size, time, name.
Names are printed as they are, except on a terminal, where what is not printable text is escaped.`,
  examples: [
    ['ls debian:12', 'names in the root directory'],
    ['ls -l debian:12:/usr/bin', 'modes, owners, sizes, times'],
    ['ls -R0 debian:12 | xargs -0 -n1 echo', 'every path, safe for any name'],
    ['ls --json -R debian:12:/etc', 'one JSON object a file'],
    ['ls ./layer.erofs:/etc --device layer.tar', 'an image file instead of the store'],
  ],
  parameters: {
    flags: {
      ...IMAGE_FLAGS,
      long: { kind: 'boolean', brief: 'Show all attributes', withNegated: false, default: false },
      all: {
        kind: 'boolean',
        brief: 'Show names that begin with a dot too',
        withNegated: false,
        default: false,
      },
      recursive: { kind: 'boolean', brief: 'Go down into directories', withNegated: false, default: false },
      directory: {
        kind: 'boolean',
        brief: 'Show a directory itself, not what is in it',
        withNegated: false,
        default: false,
      },
      null: {
        kind: 'boolean',
        brief: '(or -0) Full paths, each ended by a NUL byte',
        withNegated: false,
        default: false,
      },
    },
    aliases: { l: 'long', a: 'all', R: 'recursive', d: 'directory' },
    positional: manyOf('IMAGE[:PATH]', 'What to list'),
  },
  digits: { 0: 'null' },
  completes: ['image'],
  async run(context, flags, ...targets) {
    const paths = targets.map(parseImagePath);
    await withImages(context, flags, paths, async (images) => {
      for (const [index, target] of paths.entries()) {
        const printer = new Lister(context, images[index]!, flags);
        await printer.list(target, paths.length > 1, index > 0);
      }
    });
    return undefined;
  },
});

class Lister {
  readonly #context: CliContext;
  readonly #image: OpenImage;
  readonly #flags: Flags;
  readonly #links: Map<TreeNode, number>;
  readonly #batch: Batch;

  constructor(context: CliContext, image: OpenImage, flags: Flags) {
    this.#context = context;
    this.#image = image;
    this.#flags = flags;
    this.#batch = new Batch(context.out);
    this.#links = flags.long || context.out.json ? countLinks(image.tree) : new Map();
  }

  async list(target: ImagePath, several: boolean, again: boolean): Promise<void> {
    const path = this.#context.bytesOf(target.path);
    // As ls(1): a symlink to a directory is listed as the directory, unless its own attributes are asked for.
    let node = findNode(this.#image, path, !this.#flags.long && !this.#flags.directory);
    if (!isType(node, S_IFDIR)) node = findNode(this.#image, path, false);
    const clean = path.replace(/\/+/g, '/').replace(/^\/|\/$/g, '');
    if (!isType(node, S_IFDIR) || this.#flags.directory) {
      await this.#print([{ name: path, path: clean, node }]);
    } else {
      if (several && this.#hasHeadings())
        await this.#batch.write(`${again ? '\n' : ''}${this.#heading(target)}`);
      await this.#listDirectory(clean, node, path);
    }
    await this.#batch.flush();
  }

  #hasHeadings(): boolean {
    return !this.#flags.null && !this.#context.out.json;
  }

  #heading({ image, path }: ImagePath): string {
    return `${Buffer.from(displayByteString(Buffer.from(`${image}:${path}`).toString('latin1'))).toString('latin1')}:\n`;
  }

  /** Iterative, for a tree may be deep; `shown` heads the listing with -R. */
  async #listDirectory(path: string, dir: TreeNode, shown: string): Promise<void> {
    const pending: Entry[] = [{ name: shown, path, node: dir }];
    let first = true;
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      if (this.#flags.recursive && this.#hasHeadings()) {
        await this.#batch.write(`${first ? '' : '\n'}${this.#context.out.nameBytes(next.name)}:\n`);
      }
      first = false;
      const entries = this.#entries(next);
      await this.#print(entries);
      if (!this.#flags.recursive) continue;
      for (const entry of entries.filter(({ node }) => isType(node, S_IFDIR)).reverse()) {
        pending.push({ ...entry, name: next.name === '/' ? `/${entry.name}` : `${next.name}/${entry.name}` });
      }
    }
  }

  #entries(dir: Entry): Entry[] {
    const names = [...dir.node.children!.keys()]
      .filter((name) => this.#flags.all || !name.startsWith('.'))
      .sort();
    return names.map((name) => ({
      name,
      path: joinPath(dir.path, name),
      node: dir.node.children!.get(name)!,
    }));
  }

  async #print(entries: readonly Entry[]): Promise<void> {
    const { out } = this.#context;
    if (out.json) {
      for (const { path, node } of entries) {
        await this.#batch.json(nodeJson(`/${path}`, node, this.#nlink(node)));
      }
    } else if (out.quiet) {
      return;
    } else if (this.#flags.null) {
      for (const { path } of entries) await this.#batch.write(`/${path}\0`);
    } else if (this.#flags.long) {
      const columns = alignColumns(
        entries.map((entry) => this.#columns(entry)),
        [1, 2, 3, 4],
      );
      for (const [index, entry] of entries.entries())
        await this.#batch.write(`${columns[index]}  ${this.#longName(entry)}\n`);
    } else {
      for (const { name } of entries) await this.#batch.write(`${out.nameBytes(name)}\n`);
    }
  }

  #columns({ node }: Entry): string[] {
    const size = isDevice(node) ? `${node.devMajor},${node.devMinor}` : String(node.size);
    return [
      `${modeString(node)}${node.xattrs === null ? '' : '+'}`,
      String(this.#nlink(node)),
      String(node.uid),
      String(node.gid),
      size,
      formatTime(node.mtime),
    ];
  }

  #longName({ name, node }: Entry): string {
    const { out } = this.#context;
    return isType(node, S_IFLNK)
      ? `${out.nameBytes(name)} -> ${out.nameBytes(node.target)}`
      : out.nameBytes(name);
  }

  #nlink(node: TreeNode): number {
    return this.#links.get(node) ?? 1;
  }
}
