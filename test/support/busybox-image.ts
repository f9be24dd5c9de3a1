/** An image in which a container runs: one static program, and layers over it that need every kind of fact. */
import { readFileSync } from 'node:fs';
import type { TestContext } from 'node:test';
import { buildImage, type LayerInput } from './image-builder.ts';
import type { TestImage } from './images.ts';
import { requireTool } from './require-tool.ts';
import { archive, device, dir, file, hardLink, opaque, symlink, whiteout } from './tar-builder.ts';

const NAMES = ['sh', 'true', 'cat', 'sleep', 'rm', 'mkdir', 'ls', 'touch', 'chmod', 'ln', 'id', 'mv'];

/** Null, and the test skipped, without a static busybox. */
export function busyboxLayer(t: TestContext): Buffer | null {
  const program = requireTool(t, 'busybox');
  if (program === null) return null;
  return archive(
    dir('bin'),
    file('bin/busybox', readFileSync(program), { mode: 0o755 }),
    ...NAMES.map((name) => symlink(`bin/${name}`, 'busybox')),
    dir('etc'),
    file('etc/passwd', 'root:x:0:0:root:/:/bin/sh\n'),
    file('etc/removed', 'gone in the next layer\n'),
    dir('srv'),
    dir('srv/replaced'),
    file('srv/replaced/old', 'old\n'),
    file('srv/kept', 'kept\n', { mtime: 1_600_000_000 }),
    dir('proc'),
    dir('sys'),
    dir('dev'),
    dir('run'),
    dir('tmp', { mode: 0o1777 }),
  );
}

/** `salt` makes another image over the same base. */
export function busyboxImage(
  base: Buffer,
  salt = '',
  more: readonly (Buffer | LayerInput)[] = [],
): TestImage {
  // Parents are named: others give them the time at which they were unpacked.
  const change = archive(
    dir('etc'),
    dir('srv'),
    dir('srv/replaced'),
    whiteout('etc/removed'),
    file('etc/salt', `${salt}\n`),
    opaque('srv/replaced'),
    file('srv/replaced/new', 'new\n'),
    // Within the layer: containerd's own snapshotters cannot link into a lower one.
    file('srv/linked', 'linked\n'),
    hardLink('srv/linked-too', 'srv/linked'),
    file('srv/setuid', 'x', { mode: 0o4755, uid: 1000, gid: 2000 }),
    device('srv/null', 'char', 1, 3),
  );
  const addition = archive(
    dir('srv', { mtime: 1_650_000_000 }),
    file('srv/attributes', 'y', { xattrs: { 'user.note': 'a value' } }),
    symlink('srv/link', '../etc/salt'),
  );
  return buildImage([base, change, { tar: addition, compression: 'zstd' }, ...more]);
}
