/** veneer itself inside the guests of vm.ts: a disk with this checkout, its Node and what that needs. */
import { execFileSync } from 'node:child_process';
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const PROJECT = fileURLToPath(new URL('../..', import.meta.url));
const LIBRARIES = join(PROJECT, 'test/vm/libraries.sh');
/** What the program imports; `@koromix` holds the library of koffi. */
const MODULES = ['koffi', '@koromix', '@stricli', 'valibot'];

/** Start of a guest script: `veneer` and `node` from {@link makeVeneerDisk}, which is `$DISK0`, in PATH. */
export const USE_VENEER = `set -eu
mkdir /veneer
mount -o ro "$DISK0" /veneer
ln -sf /veneer/lib/* /usr/lib/
ln -s /veneer/node /veneer/app/bin/veneer.js /usr/bin/
ln -s veneer.js /usr/bin/veneer
`;

/** MiB of memory that Node is comfortable with in a guest. */
export const VENEER_MEMORY = 1024;

/**
 * Makes an ext4 image of `node`, `lib/` (its libraries) and `app/` (the sources with tests, and `dist/` after a
 * build). Needs no privileges.
 */
export function makeVeneerDisk(directory: string): string {
  const root = mkdtempSync(join(directory, 'veneer-'));
  try {
    copyFileSync(process.execPath, join(root, 'node'));
    mkdirSync(join(root, 'lib'));
    for (const library of execFileSync(LIBRARIES, [process.execPath], { encoding: 'utf8' })
      .trim()
      .split('\n'))
      copyFileSync(library, join(root, 'lib', basename(library)));
    // Without a build the launcher takes the sources.
    const built = process.env.VENEER_BUILT === '1' ? ['dist'] : [];
    for (const part of ['bin', 'src', 'test', 'package.json', ...built])
      cpSync(join(PROJECT, part), join(root, 'app', part), { recursive: true });
    for (const name of MODULES) {
      const path = join('node_modules', name);
      cpSync(join(PROJECT, path), join(root, 'app', path), { recursive: true, dereference: true });
    }
    return makeExt4(`${root}.img`, root, 320);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

/** Writes an ext4 image of `size` MiB (sparse) with the content of `from`, and room for fs-verity. */
export function makeExt4(path: string, from: string, size: number): string {
  // Before Linux 6.3 fs-verity wants blocks as large as pages.
  const options = ['-b', '4096', '-O', '^has_journal,verity'];
  execFileSync('mke2fs', ['-q', '-t', 'ext4', ...options, '-d', from, path, `${size}M`], {
    env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
  });
  return path;
}
