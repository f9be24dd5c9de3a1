/**
 * Layers that other unpackers were fooled by, each named after its advisory. Beside the root file system stands a file
 * that none of them may touch; what they make must be inside, or they are refused and nothing stays.
 */
import assert from 'node:assert/strict';
import {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { buildImage, writeLayout } from '../../test/support/image-builder.ts';
import { missing } from '../../test/support/require-tool.ts';
import {
  archive,
  device,
  dir,
  file,
  hardLink,
  member,
  symlink,
  whiteout,
} from '../../test/support/tar-builder.ts';
import { VeneerError } from '../errors.ts';
import { findImage } from './find-image.ts';
import { unpackRootfs } from './unpack-rootfs.ts';

const rootless = process.getuid?.() !== 0;
const maps = { uidMaps: [], gidMaps: [], rootless };

interface Lab {
  readonly rootfs: string;
  /** A directory outside with the file `secret`, which must stay what it is. */
  readonly outside: string;
}

/** Unpacks the layers; comes back with the error, or null. */
async function attack(
  layers: (outside: string) => readonly Buffer[],
  look: (lab: Lab, error: unknown) => void,
  keepDirlinks = false,
): Promise<void> {
  const lab = mkdtempSync(join(tmpdir(), 'veneer-hostile-'));
  try {
    const outside = join(lab, 'outside');
    mkdirSync(outside, 0o755);
    writeFileSync(join(outside, 'secret'), 'untouched');
    const before = statSync(join(outside, 'secret'));
    await writeLayout(join(lab, 'oci'), buildImage(layers(outside)));
    const rootfs = join(lab, 'deep/er/rootfs');
    mkdirSync(join(lab, 'deep/er'), { recursive: true });
    let error: unknown = null;
    try {
      await unpackRootfs(await findImage(join(lab, 'oci'), 'latest'), rootfs, { maps, keepDirlinks });
    } catch (caught) {
      error = caught;
      assert.ok(caught instanceof VeneerError, String(caught));
      assert.ok(!existsSync(rootfs), 'a refused image leaves nothing');
    }
    const after = statSync(join(outside, 'secret'));
    assert.equal(readFileSync(join(outside, 'secret'), 'utf8'), 'untouched');
    assert.deepEqual([after.mode, after.nlink, after.ino], [before.mode, 1, before.ino]);
    assert.deepEqual(readdirSync(outside), ['secret']);
    assert.deepEqual(readdirSync(lab).sort(), ['deep', 'oci', 'outside']);
    assert.deepEqual(readdirSync(join(lab, 'deep')), ['er']);
    look({ rootfs, outside }, error);
  } finally {
    rmSync(lab, { recursive: true, force: true });
  }
}

const refused = (_: Lab, error: unknown): void =>
  assert.ok(error instanceof VeneerError, 'it was not refused');

const inside =
  (...paths: string[]) =>
  ({ rootfs }: Lab, error: unknown): void => {
    assert.equal(error, null);
    for (const path of paths) assert.ok(lstatSync(join(rootfs, path)).isFile(), path);
  };

describe('hostile layers', () => {
  it('umoci CVE-2021-29136: the root becomes a symlink', () =>
    attack((outside) => [archive(symlink('.', outside), file('secret', 'x'))], refused));

  it('umoci CVE-2021-29136: the root becomes a symlink in an upper layer', () =>
    attack(
      (outside) => [archive(file('a')), archive(symlink('/', outside)), archive(file('secret', 'x'))],
      refused,
    ));

  it('node-tar CVE-2018-20834: a hard link to a symlink, then a file of its name', () =>
    attack(
      (outside) => [
        archive(symlink('link', `${outside}/secret`), hardLink('hard', 'link'), file('hard', 'x')),
      ],
      inside('hard'),
    ));

  it('node-tar CVE-2021-32803: a directory is cached, then replaced by a symlink', () =>
    attack(
      (outside) => [archive(dir('d'), file('d/a', 'a'), symlink('d', outside), file('d/secret', 'x'))],
      // Inside the image there is no such directory: it is made there.
      ({ rootfs, outside }, error) => {
        assert.equal(error, null);
        assert.equal(readFileSync(join(rootfs, outside, 'secret'), 'utf8'), 'x');
      },
    ));

  it('node-tar CVE-2021-32803: the same from layer to layer', () =>
    attack(
      (outside) => [
        archive(dir('d'), file('d/a')),
        archive(symlink('d', outside)),
        archive(file('d/secret', 'x')),
      ],
      inside('d/secret'),
    ));

  it('node-tar CVE-2021-32803: the same through --keep-dirlinks', () =>
    attack(
      (outside) => [
        archive(symlink('d', outside)),
        archive(dir('d', { mode: 0o777 }), file('d/secret', 'x')),
      ],
      inside('d/secret'),
      true,
    ));

  it('node-tar CVE-2021-32804: names with slashes before them', () =>
    attack((outside) => [archive(file(`////${outside}/secret`, 'x'), file('//a', 'a'))], inside('a')));

  it('node-tar CVE-2021-37701: backslashes are characters like others', () =>
    attack(
      (outside) => [
        archive(symlink('a', outside), dir('a\\'), file('a\\/secret', 'x'), file('..\\..\\b', 'b')),
      ],
      ({ rootfs }, error) => {
        assert.equal(error, null);
        assert.equal(readFileSync(join(rootfs, 'a\\', 'secret'), 'utf8'), 'x');
      },
    ));

  it('node-tar CVE-2021-37712: names that only look equal are different', () =>
    attack(
      (outside) => [
        archive(dir('caf\xc3\xa9'), symlink('cafe\xcc\x81', outside), file('caf\xc3\xa9/secret', 'x')),
      ],
      inside('caf\u00e9/secret'),
    ));

  it('node-tar CVE-2021-37713: dots in every place', () =>
    attack(
      () => [
        archive(
          file('../../outside/secret', 'x'),
          file('a/../../../outside/secret', 'x'),
          file('C:../b', 'b'),
        ),
      ],
      inside('outside/secret', 'C:../b'),
    ));

  it('node-tar CVE-2024-28863: a directory deeper than anybody needs', () =>
    attack(() => [archive(file(`${'d/'.repeat(5000)}f`, 'x'))], refused));

  it('node-tar CVE-2026-23745: hard links and symlinks to absolute places', () =>
    attack(
      (outside) => [archive(symlink('sym', `${outside}/secret`), file('sym/x', 'x'))],
      ({ rootfs, outside }, error) => {
        // The way leads through the image's own root, where there is no such file yet.
        assert.equal(error, null);
        assert.equal(readlinkSync(join(rootfs, 'sym')), `${outside}/secret`);
        assert.equal(readFileSync(join(rootfs, outside, 'secret/x'), 'utf8'), 'x');
      },
    ));

  it('node-tar CVE-2026-23745: a hard link to a file outside', () =>
    attack((outside) => [archive(hardLink('hard', `${outside}/secret`))], refused));

  it('node-tar CVE-2026-23745: a hard link to a file outside, then a file of its name', () =>
    attack((outside) => [archive(hardLink('hard', `${outside}/secret`), file('hard', 'x'))], inside('hard')));

  it('node-tar CVE-2026-24842: a hard link with dots in its target', () =>
    attack(() => [archive(dir('a'), hardLink('a/hard', '../../../outside/secret'))], refused));

  it('node-tar CVE-2026-26960: a hard link through a chain of symlinks', () =>
    attack(
      () => [
        archive(
          dir('a/b/c'),
          symlink('a/b/c/up', '../..'),
          symlink('a/b/escape', 'c/up/../..'),
          hardLink('exfil', 'a/b/escape/outside/secret'),
        ),
      ],
      refused,
    ));

  it('a whiteout through a symlink deletes nothing outside', () =>
    attack(
      (outside) => [archive(symlink('d', outside)), archive(whiteout('d/secret'))],
      (_, error) => assert.equal(error, null),
    ));

  it('a payload under the name of a device does not write to it', (t) => {
    if (rootless) return missing(t, 'root is needed to make devices');
    return attack(
      () => [archive(device('disk', 'block', 259, 0)), archive(file('disk', 'x'))],
      inside('disk'),
    );
  });

  it('members of no known type, and links to themselves', () =>
    attack(
      () => [archive(member('Z', 'odd', 'x'), hardLink('self', 'self'))],
      (_, error) => assert.ok(error === null || error instanceof VeneerError),
    ));

  it('nothing is written through what is there already', async () => {
    const lab = mkdtempSync(join(tmpdir(), 'veneer-hostile-'));
    try {
      await writeLayout(join(lab, 'oci'), buildImage([archive(file('a', 'x'), file('out/b', 'x'))]));
      writeFileSync(join(lab, 'secret'), 'untouched');
      const options = { maps, keepDirlinks: false };
      const unpack = async (rootfs: string): Promise<unknown> =>
        unpackRootfs(await findImage(join(lab, 'oci'), 'latest'), rootfs, options).then(
          () => null,
          (error: unknown) => error,
        );
      mkdirSync(join(lab, 'used'));
      mkdirSync(join(lab, 'outside'));
      linkSync(join(lab, 'secret'), join(lab, 'used/a'));
      symlinkSync(join(lab, 'outside'), join(lab, 'used/out'));
      writeFileSync(join(lab, 'used/kept'), 'kept');
      await unpack(join(lab, 'used'));
      assert.deepEqual(readdirSync(join(lab, 'outside')), []);
      assert.equal(readFileSync(join(lab, 'secret'), 'utf8'), 'untouched');
      assert.ok(readdirSync(join(lab, 'used')).includes('kept'));
      assert.equal(readFileSync(join(lab, 'used/a'), 'utf8'), 'x');
      symlinkSync('nowhere', join(lab, 'dangling'));
      assert.ok((await unpack(join(lab, 'dangling'))) !== null);
      assert.equal(readlinkSync(join(lab, 'dangling')), 'nowhere');
    } finally {
      rmSync(lab, { recursive: true, force: true });
    }
  });
});
