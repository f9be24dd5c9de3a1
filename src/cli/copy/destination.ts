/** Where a copy goes, and how it gets there whole: under another name until it is complete. */
import { Buffer } from 'node:buffer';
import { randomBytes } from 'node:crypto';
import { statSync } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import { displayByteString } from '../../bytes/byte-string.ts';
import { VeneerError } from '../../errors.ts';
import { Folder, removeTree } from '../../sys/folder.ts';
import { S_IFDIR, type TreeNode } from '../../tree/node.ts';
import { isType } from '../node-facts.ts';
import type { Copier } from './copier.ts';

/** The inode to copy and the path it was found at (a byte string). */
export interface Copied {
  readonly node: TreeNode;
  readonly path: string;
}

export interface DestinationOptions {
  /** Replace files and merge directories that are there. */
  readonly force: boolean;
  /** More than one thing is copied, so the destination has to be a directory. */
  readonly several: boolean;
  readonly renameNew: typeof import('../../sys/inode.ts').renameNew;
}

export class Destination {
  readonly #typed: string;
  readonly #options: DestinationOptions;

  constructor(typed: string, options: DestinationOptions) {
    this.#typed = typed;
    this.#options = options;
  }

  /** Copies one thing here; returns the path of the copy, for people. */
  async take(copier: Copier, copied: Copied): Promise<string> {
    const typed = this.#typed;
    const name = lastName(copied.path);
    const isFolder = statSync(typed, { throwIfNoEntry: false })?.isDirectory() ?? false;
    if (isFolder && name === '') {
      await this.#fill(copier, copied);
      return typed;
    }
    if (isFolder) {
      const shown = `${typed.replace(/\/+$/, '')}/${displayByteString(name)}`;
      await this.#place(copier, copied, Folder.open(typed), name, shown);
      return shown;
    }
    if (this.#options.several || (typed.endsWith('/') && !isType(copied.node, S_IFDIR))) {
      throw new VeneerError('cli/no-folder', `Cannot copy to ${typed}: it is not a directory`, {
        hint: `mkdir ${typed}`,
      });
    }
    const full = resolve(typed);
    await this.#place(
      copier,
      copied,
      openParent(full, typed),
      Buffer.from(basename(full)).toString('latin1'),
      typed,
    );
    return typed;
  }

  /** To a new name; over an old one only with force. Closes `parent`. */
  async #place(
    copier: Copier,
    { node, path }: Copied,
    parent: Folder,
    name: string,
    shown: string,
  ): Promise<void> {
    const unfinished = `.veneer-${randomBytes(6).toString('hex')}.unfinished`;
    try {
      if (parent.look(name) !== null) {
        if (!this.#options.force) throw exists(shown);
        await copier.replace(parent, name, node, path);
        return;
      }
      await copier.create(parent, unfinished, node, path);
      // Nothing is there when it could not be made here, a device for instance; that is reported.
      if (parent.look(unfinished) !== null) this.#options.renameNew(parent.at(unfinished), parent.at(name));
    } catch (error) {
      removeTree(parent, unfinished);
      throw error instanceof VeneerError && error.code === 'sys/EEXIST' ? exists(shown) : error;
    } finally {
      parent.close();
    }
  }

  /** What is in a directory goes into one that exists: an empty one, or any with force. */
  async #fill(copier: Copier, { node, path }: Copied): Promise<void> {
    if (!isType(node, S_IFDIR)) throw exists(this.#typed);
    const folder = Folder.open(this.#typed);
    try {
      if (!this.#options.force && folder.names().length > 0) throw exists(this.#typed);
      // "." is the folder itself: it gets the attributes of the directory too.
      await copier.replace(folder, '.', node, path);
    } finally {
      folder.close();
    }
  }
}

function openParent(full: string, typed: string): Folder {
  const folder = dirname(full);
  try {
    return Folder.open(folder);
  } catch (error) {
    throw new VeneerError('cli/no-folder', `Cannot copy to ${typed}: there is no directory ${folder}`, {
      cause: error,
    });
  }
}

/** The name a copy gets in a directory; '' when what is in a directory is meant and not the directory. */
export function lastName(path: string): string {
  if (/(^|\/)\.\/*$/.test(path)) return '';
  const name = path.replace(/\/+$/, '').split('/').at(-1) ?? '';
  return name === '..' ? '' : name;
}

function exists(shown: string): VeneerError {
  return new VeneerError('cli/exists', `Cannot copy to ${shown}: it is there already`, {
    hint: '--force replaces files and merges directories',
  });
}
