/** What this machine can do for veneer: each thing is tried where it can be, not guessed from versions. */
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { release } from 'node:os';
import { makeIsalInflater } from '../sys/isal.ts';
import { isKernelAtLeast, probeCapabilities } from './capabilities.ts';
import { tryFuse } from './fuse-probe.ts';
import { mayMount } from './privilege.ts';
import { type Attempt, tryErofs, tryLoop, tryOverlay, tryReflink, tryVerity, withScratch } from './probe.ts';
import { tryUdf } from './udf-probe.ts';

export interface DoctorCheck {
  /** Stable, for scripts. */
  readonly name: string;
  /** Null: it could not be found out. */
  readonly ok: boolean | null;
  /** Mounting images does not work without it. */
  readonly needed: boolean;
  /** One sentence: what was found. */
  readonly detail: string;
  /** What to install or do; null when there is nothing to do. */
  readonly advice: string | null;
}

export interface DoctorReport {
  /** `uname -r` */
  readonly kernel: string;
  /** Everything that mounting an image needs is there. */
  readonly ready: boolean;
  readonly checks: readonly DoctorCheck[];
}

/**
 * Runs all checks. Leaves nothing behind: what it mounts is attached nowhere, its files are removed.
 *
 * @param path where programs are looked for
 * @param directory where the store is or will be (the nearest existing parent is looked at)
 */
export function diagnose(directory: string, path = process.env.PATH ?? ''): DoctorReport {
  const kernel = release();
  const privileged = mayMount();
  const checks = [
    checkKernel(kernel),
    {
      name: 'privilege',
      ok: privileged,
      needed: true,
      detail: privileged ? 'this process may mount' : 'this process lacks CAP_SYS_ADMIN',
      advice: privileged ? null : 'Run as root to mount; ls, cat, cp and stat work without.',
    },
    ...withScratch(directory, (scratch) => [
      ...checkErofs(scratch, privileged),
      checkOverlay(privileged),
      describe('reflink', () => tryReflink(scratch), {
        yes: 'files on the file system of the store can share blocks',
        no: 'the file system of the store cannot share blocks between files',
        advice: 'Optional: XFS and Btrfs can.',
      }),
      describe('fs-verity', () => tryVerity(scratch), {
        yes: 'the file system of the store has fs-verity',
        no: 'the file system of the store has no fs-verity',
        advice: 'Optional: ext4 (mkfs.ext4 -O verity), Btrfs or f2fs, and a kernel with CONFIG_FS_VERITY.',
      }),
      checkUdf(scratch, privileged),
      fromAttempt(
        'erofsfuse',
        tryFuse(scratch, path),
        false,
        'an image was mounted without root, for `mount --user`',
        'Optional: erofsfuse (of erofs-utils 1.8 or newer) and fuse3, and /dev/fuse that users may open.',
      ),
    ]),
    checkInflating(),
    checkModule('dm-verity', 'dm-verity', 'disks with a dm-verity tree', 'CONFIG_DM_VERITY'),
    checkUserNamespaces(),
  ];
  return { kernel, ready: checks.every((check) => !check.needed || check.ok === true), checks };
}

function checkInflating(): DoctorCheck {
  const inflater = makeIsalInflater();
  inflater?.close();
  return {
    name: 'isal',
    ok: inflater !== null,
    needed: false,
    detail:
      inflater === null
        ? "gzip layers are inflated by Node's zlib"
        : 'gzip layers are inflated by ISA-L, which is faster than zlib',
    advice: inflater === null ? 'Optional: libisal.so.2 (Debian and Ubuntu: libisal2).' : null,
  };
}

function checkKernel(kernel: string): DoctorCheck {
  const ok = isKernelAtLeast(kernel, 5, 16);
  return {
    name: 'kernel',
    ok,
    needed: true,
    detail: `Linux ${kernel}`,
    advice: ok
      ? null
      : 'EROFS with several devices needs Linux 5.16; 6.4 (or 6.1.113) for 512-byte blocks, 6.12 without loop devices.',
  };
}

function checkErofs(scratch: string | null, privileged: boolean): DoctorCheck[] {
  if (!privileged) {
    const listed = isFileSystemListed('erofs') || hasModule('erofs');
    const unknown = 'could not be tried without root';
    return [
      {
        name: 'erofs',
        ok: listed ? true : null,
        needed: true,
        detail: listed ? 'this kernel has it, by its own list' : unknown,
        advice: listed ? null : 'Run `veneer doctor` as root.',
      },
      ...['erofs-512', 'erofs-file', 'loop'].map((name) => ({
        name,
        ok: null,
        needed: false,
        detail: unknown,
        advice: 'Run `veneer doctor` as root.',
      })),
    ];
  }
  const file = tryErofs(scratch, 4096, 'file');
  const loop = tryLoop(scratch);
  const plain = file.ok ? file : tryErofs(scratch, 4096, 'loop');
  const small = tryErofs(scratch, 512, file.ok ? 'file' : 'loop');
  return [
    fromAttempt(
      'erofs',
      plain,
      true,
      'an image was mounted',
      'Load or build the erofs module (CONFIG_EROFS_FS).',
    ),
    fromAttempt(
      'erofs-512',
      small,
      false,
      'an image with blocks of 512 bytes was mounted',
      'Linux 6.4 (6.1.113 in the 6.1 series) or newer mounts metadata over raw tars; others need self-contained images.',
    ),
    fromAttempt(
      'erofs-file',
      file,
      false,
      'images are mounted without loop devices',
      probeCapabilities().fileBacked
        ? 'Loop devices serve instead: a store on tmpfs or on overlayfs needs them, and so does a kernel without CONFIG_EROFS_FS_BACKED_BY_FILE.'
        : 'Loop devices serve instead; Linux 6.12 with CONFIG_EROFS_FS_BACKED_BY_FILE does without.',
    ),
    fromAttempt(
      'loop',
      loop,
      !file.ok,
      'a loop device was attached',
      file.ok ? 'Not needed here.' : 'Load the loop module and make /dev/loop-control available.',
    ),
  ];
}

function checkOverlay(privileged: boolean): DoctorCheck {
  const advice = 'Load or build overlayfs (CONFIG_OVERLAY_FS): --rw and --layers need it.';
  if (privileged) {
    return fromAttempt('overlay', tryOverlay(), false, 'overlayfs is there for --rw and --layers', advice);
  }
  const ok = isFileSystemListed('overlay') || hasModule('overlay');
  return {
    name: 'overlay',
    ok: ok ? true : null,
    needed: false,
    detail: ok ? 'this kernel has it, by its own list' : 'could not be tried without root',
    advice: ok ? null : advice,
  };
}

function checkUdf(scratch: string | null, privileged: boolean): DoctorCheck {
  if (!privileged) return checkModule('udf', 'udf', 'UDF volumes', 'CONFIG_UDF_FS');
  return fromAttempt(
    'udf',
    tryUdf(scratch),
    false,
    'a UDF volume over two files was mounted',
    'Only for `--format udf`: it needs the modules udf, nls_iso8859-1, loop and dm-mod.',
  );
}

function fromAttempt(
  name: string,
  attempt: Attempt,
  needed: boolean,
  yes: string,
  advice: string,
): DoctorCheck {
  return {
    name,
    ok: attempt.ok,
    needed,
    detail: attempt.ok ? yes : attempt.reason,
    advice: attempt.ok ? null : advice,
  };
}

function describe(
  name: string,
  probe: () => boolean | null,
  words: { yes: string; no: string; advice: string },
): DoctorCheck {
  const ok = probe();
  return {
    name,
    ok,
    needed: false,
    detail: ok === null ? 'could not be tried: the directory cannot be written' : ok ? words.yes : words.no,
    advice: ok === true ? null : words.advice,
  };
}

function checkModule(name: string, module: string, what: string, config: string): DoctorCheck {
  const ok = isFileSystemListed(module) || hasModule(module);
  return {
    name,
    ok,
    needed: false,
    detail: ok ? `this kernel has it` : 'this kernel has neither the feature nor a module for it',
    advice: ok ? null : `Only for ${what}: a kernel with ${config}.`,
  };
}

function checkUserNamespaces(): DoctorCheck {
  const refusal = findNamespaceRefusal();
  return {
    name: 'user-namespaces',
    ok: refusal === null,
    needed: false,
    detail: refusal ?? 'any user may make one (unshare -Urm), and has overlayfs there',
    advice:
      refusal === null
        ? null
        : 'Only for `mount --user --rw` and work with owners without root; EROFS itself does not mount inside one.',
  };
}

function findNamespaceRefusal(): string | null {
  const limit = readSetting('/proc/sys/user/max_user_namespaces');
  if (limit === null) return 'this kernel has no user namespaces';
  if (limit === '0') return 'user.max_user_namespaces is 0';
  if (readSetting('/proc/sys/kernel/unprivileged_userns_clone') === '0')
    return 'kernel.unprivileged_userns_clone is 0';
  if (readSetting('/proc/sys/kernel/apparmor_restrict_unprivileged_userns') === '1') {
    return 'AppArmor keeps them from programs without a profile (kernel.apparmor_restrict_unprivileged_userns)';
  }
  return null;
}

function readSetting(path: string): string | null {
  try {
    accessSync(path, constants.R_OK);
    return readFileSync(path, 'utf8').trim();
  } catch {
    return null;
  }
}

function isFileSystemListed(type: string): boolean {
  const lines = readSetting('/proc/filesystems')?.split('\n') ?? [];
  return lines.some((line) => line.split('\t').at(-1) === type);
}

/** Built in, loaded, or there to be loaded (kmod's files below /lib/modules). */
function hasModule(name: string): boolean {
  if (existsSync(`/sys/module/${name.replaceAll('-', '_')}`)) return true;
  return ['modules.builtin', 'modules.dep'].some((file) => {
    const text = readSetting(`/lib/modules/${release()}/${file}`) ?? '';
    return new RegExp(`/${name}\\.ko\\b`, 'm').test(text);
  });
}
