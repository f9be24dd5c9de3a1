/** The files of a bundle beside its root file system: each is there whole, or as it was before. */
import { closeSync, openSync, renameSync, rmSync, writeFileSync } from 'node:fs';

/** Calls `write` with a new file that takes the place of `path` when it returns. A crash leaves `path.new`. */
export async function replaceFile(
  path: string,
  write: (file: number) => void | Promise<void>,
): Promise<void> {
  const temporary = `${path}.new`;
  const file = openSync(temporary, 'w', 0o644);
  try {
    await write(file);
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  } finally {
    closeSync(file);
  }
}

export function putFile(path: string, text: string): Promise<void> {
  return replaceFile(path, (file) => writeFileSync(file, text));
}
