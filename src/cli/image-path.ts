/**
 * `IMAGE[:PATH]`. Names of images hold colons themselves (`host:5000/app:1.2`), but never ":/", for a tag or a
 * digest cannot begin with a slash. So the path is what follows the first ":/" , slash included:
 *
 *     node-app:latest:/etc/passwd      image node-app:latest, path /etc/passwd
 *     host:5000/app:/a:/b              image host:5000/app,   path /a:/b
 *     ./layer.erofs:/etc               an image file,         path /etc
 *     node-app:latest                  no path: the root
 */
import { statSync } from 'node:fs';
import { VeneerError } from '../errors.ts';

export interface ImagePath {
  /** Name, digest, beginning of a digest or file name, as typed. */
  readonly image: string;
  /** Absolute path in the image, as typed; '/' when none was given. */
  readonly path: string;
  readonly hasPath: boolean;
}

/** @throws VeneerError `cli/usage` when there is no image in it. */
export function parseImagePath(argument: string): ImagePath {
  const at = argument.indexOf(':/');
  const image = at < 0 ? argument : argument.slice(0, at);
  if (image === '') {
    throw new VeneerError('cli/usage', `Cannot read "${argument}": it names no image`, {
      hint: 'write IMAGE:PATH, for example debian:12:/etc/passwd',
    });
  }
  return { image, path: at < 0 ? '/' : argument.slice(at + 1), hasPath: at >= 0 };
}

/** Like {@link parseImagePath}, for commands that are about one file. */
export function parseImageFile(argument: string): ImagePath {
  const parsed = parseImagePath(argument);
  if (parsed.hasPath) return parsed;
  // `debian:12:etc/passwd`: a colon too many for a name, so somebody forgot the slash.
  const colon = argument.lastIndexOf(':');
  const forgotten = colon > 0 && (argument.includes('/', colon) || /:[^/]*:[^/]*$/.test(argument));
  const guess = forgotten ? `${argument.slice(0, colon)}:/${argument.slice(colon + 1)}` : `${argument}:/PATH`;
  throw new VeneerError('cli/usage', `Cannot read "${argument}": it names no file in an image`, {
    hint: `a path begins with "/": ${guess}`,
  });
}

/** What begins like a path is one, and no name in the store. */
export const isPath = (text: string): boolean => /^\.{0,2}\//.test(text);

/** True when IMAGE cannot be a name in the store. */
export const namesFile = (image: string, devices: readonly string[]): boolean =>
  isPath(image) || devices.length > 0;

/** True when a look into the store ended with `error` because there is no such name, and there is such a file. */
export const isFileInstead = (error: unknown, image: string): boolean =>
  error instanceof VeneerError &&
  error.code === 'store/no-image' &&
  (statSync(image, { throwIfNoEntry: false })?.isFile() ?? false);
