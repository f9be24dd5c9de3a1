/** A change as a line for people, and as JSON. */
import type { Change, ChangeKind, Place } from '../../diff/change.ts';
import { formatCount, formatTime, isoTime } from '../../progress/units.ts';
import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFLNK, S_IFREG, type TreeNode } from '../../tree/node.ts';
import { joinPath } from '../../tree/path.ts';
import { isType, nodeJson, octalMode, typeName } from '../node-facts.ts';
import { jsonName } from '../output.ts';

/** As git's `--name-status`; git has no letter for attributes alone. */
export const LETTERS: Readonly<Record<ChangeKind, string>> = {
  added: 'A',
  removed: 'D',
  changed: 'M',
  type: 'T',
  renamed: 'R',
  attributes: 'm',
};

/** Escapes names for a terminal, see {@link Output.nameBytes}. */
export type ShowName = (name: string) => string;

/** What stands before the paths of each tree: '' for its root, else a byte string without slashes around it. */
export interface Tops {
  readonly old: string;
  readonly new: string;
}

/** From the image's root, with a leading slash; byte string. */
export function fullPath(top: string, place: Place): string {
  const path = place.path();
  return `/${path === '' ? top : joinPath(top, path)}`;
}

/** The path that a change is about. */
export const changedPath = (change: Change, tops: Tops): string =>
  fullPath(change.new === null ? tops.old : tops.new, change.place);

export function changeLine(change: Change, tops: Tops, show: ShowName): string {
  const node = change.new ?? change.old!;
  const name = (path: string): string => show(path) + (isType(node, S_IFDIR) && path !== '/' ? '/' : '');
  const from = change.from === null ? '' : `${name(fullPath(tops.old, change.from))} -> `;
  const details = detailsOf(change, tops, show);
  const tail = details.length === 0 ? '' : `  (${details.join(', ')})`;
  return `${LETTERS[change.kind]}  ${from}${name(changedPath(change, tops))}${tail}`;
}

function detailsOf(change: Change, tops: Tops, show: ShowName): string[] {
  const { old, new: now, link } = change;
  const details: string[] = [];
  if (change.names > 1) details.push(`${change.names} names`);
  if (old === null || now === null) {
    const node = (now ?? old)!;
    if (link === null) details.push(...contentOf(node, show));
  } else {
    for (const what of change.differs) details.push(difference(what, change, old, now, show));
  }
  if (link !== null) details.push(`hard link to ${show(fullPath(tops.new, link))}`);
  return details.filter((text) => text !== '');
}

function contentOf(node: TreeNode, show: ShowName): string[] {
  if (isType(node, S_IFREG)) return [formatCount(node.size, 'byte')];
  if (isType(node, S_IFLNK)) return [`symlink to ${show(node.target)}`];
  if (isType(node, S_IFDIR)) return [];
  const numbers = isType(node, S_IFBLK) || isType(node, S_IFCHR) ? [deviceNumbers(node)] : [];
  return [typeName(node), ...numbers];
}

function difference(
  what: Change['differs'][number],
  { link }: Change,
  old: TreeNode,
  now: TreeNode,
  show: ShowName,
): string {
  switch (what) {
    case 'type':
      return `${typeName(old)} -> ${typeName(now)}`;
    case 'content':
      return old.size === now.size
        ? formatCount(now.size, 'byte')
        : `${old.size} -> ${formatCount(now.size, 'byte')}`;
    case 'target':
      return `symlink to ${show(old.target)} -> ${show(now.target)}`;
    case 'device':
      return `device ${deviceNumbers(old)} -> ${deviceNumbers(now)}`;
    case 'mode':
      return `mode ${octalMode(old)} -> ${octalMode(now)}`;
    case 'owner':
      return `owner ${old.uid}:${old.gid} -> ${now.uid}:${now.gid}`;
    case 'mtime':
      return `time ${timeChange(old, now)}`;
    case 'xattrs':
      return `xattrs ${xattrChanges(old, now).map(show).join(' ')}`;
    case 'links':
      // Otherwise the name that it is a link to is told.
      return link === null ? 'other hard links' : '';
  }
}

const deviceNumbers = (node: TreeNode): string => `${node.devMajor},${node.devMinor}`;

function timeChange(old: TreeNode, now: TreeNode): string {
  const [before, after] = [formatTime(old.mtime), formatTime(now.mtime)];
  if (before !== after) return `${before} -> ${after}`;
  return `${isoTime(old.mtime, old.mtimeNsec)} -> ${isoTime(now.mtime, now.mtimeNsec)}`;
}

/** `+` came, `-` went, `~` has another value. */
function xattrChanges(old: TreeNode, now: TreeNode): string[] {
  const names = [...new Set([...(old.xattrs?.keys() ?? []), ...(now.xattrs?.keys() ?? [])])].sort();
  return names.flatMap((name) => {
    const before = old.xattrs?.get(name);
    const after = now.xattrs?.get(name);
    if (before === after) return [];
    return [`${before === undefined ? '+' : after === undefined ? '-' : '~'}${name}`];
  });
}

/** Link counts of both trees. */
export interface Links {
  readonly old: ReadonlyMap<TreeNode, number>;
  readonly new: ReadonlyMap<TreeNode, number>;
}

export function changeJson(change: Change, tops: Tops, links: Links): object {
  const { old, new: now, from, place, link, names } = change;
  const side = (node: TreeNode | null, path: string, count: Links['old']): object | null =>
    node === null ? null : nodeJson(path, node, count.get(node) ?? 1);
  return {
    change: change.kind,
    ...jsonName('path', changedPath(change, tops)),
    ...(from === null ? {} : jsonName('from', fullPath(tops.old, from))),
    ...(names > 1 ? { names } : {}),
    ...(link === null ? {} : jsonName('link', fullPath(tops.new, link))),
    differs: change.differs,
    old: side(old, fullPath(tops.old, from ?? place), links.old),
    new: side(now, fullPath(tops.new, place), links.new),
  };
}
