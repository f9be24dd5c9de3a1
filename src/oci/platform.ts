/** Platforms: `os/architecture[/variant]`, normalised and matched as containerd does (containerd/platforms, `Only`). */
import { endianness } from 'node:os';
import { VeneerError } from '../errors.ts';

/** Names as Go has them (GOOS, GOARCH). `variant` is '' when there is none, and when it is the architecture's default. */
export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant: string;
}

const COMPONENT = /^[A-Za-z0-9_.-]{1,64}$/;
const KNOWN_OS = new Set([
  'aix',
  'android',
  'darwin',
  'freebsd',
  'illumos',
  'linux',
  'netbsd',
  'openbsd',
  'plan9',
  'solaris',
  'windows',
]);

/** Go's names of Node's `process.arch` values where they differ. */
const NODE_ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386', mipsel: 'mipsle' };

/** Spelling variants to canonical names; the default variants `amd64/v1` and `arm64/v8` become ''. */
export function normalizePlatform(os: string, architecture: string, variant = ''): Platform {
  const lowerOs = os.toLowerCase();
  const lowerVariant = variant.toLowerCase();
  const as = (canonical: string, canonicalVariant: string): Platform => ({
    os: lowerOs === 'macos' ? 'darwin' : lowerOs,
    architecture: canonical,
    variant: canonicalVariant,
  });
  const lower = architecture.toLowerCase();
  switch (lower) {
    case 'i386':
      return as('386', '');
    case 'x86_64':
    case 'x86-64':
    case 'amd64':
      return as('amd64', lowerVariant === 'v1' ? '' : lowerVariant);
    case 'aarch64':
    case 'arm64':
      return as('arm64', lowerVariant === '8' || lowerVariant === 'v8' ? '' : lowerVariant);
    case 'armhf':
      return as('arm', 'v7');
    case 'armel':
      return as('arm', 'v6');
    case 'arm':
      if (lowerVariant === '') return as('arm', 'v7');
      return as('arm', /^[5-8]$/.test(lowerVariant) ? `v${lowerVariant}` : lowerVariant);
    default:
      return as(lower, lowerVariant);
  }
}

/** `linux/arm64/v8`, `linux/amd64`, or one word: an operating system or an architecture. Throws `oci/platform`. */
export function parsePlatform(text: string): Platform {
  const parts = text.split('/');
  if (parts.length > 3 || !parts.every((part) => COMPONENT.test(part))) {
    throw new VeneerError(
      'oci/platform',
      `Cannot read the platform ${JSON.stringify(text.slice(0, 100))}: not OS/ARCHITECTURE[/VARIANT]`,
      {
        hint: 'Write for example linux/amd64 or linux/arm64/v8.',
      },
    );
  }
  const [first = '', second, third] = parts;
  if (second !== undefined) return normalizePlatform(first, second, third);
  const here = hostPlatform();
  const lower = first.toLowerCase();
  if (lower === 'macos' || KNOWN_OS.has(lower))
    return normalizePlatform(lower, here.architecture, here.variant);
  return normalizePlatform(here.os, first);
}

/** What is not known, because a config does not say it, is `unknown`, as docker writes it. */
export function formatPlatform(platform: Platform): string {
  const variant = platform.variant === '' ? '' : `/${platform.variant}`;
  return `${platform.os || 'unknown'}/${platform.architecture || 'unknown'}${variant}`;
}

/** This machine. Images are for Linux wherever the tool itself runs. */
export function hostPlatform(): Platform {
  const arch: string = process.arch;
  if (arch === 'ppc64' && endianness() === 'LE') return normalizePlatform('linux', 'ppc64le');
  if (arch === 'arm') {
    const variables = process.config.variables as { readonly arm_version?: unknown };
    return normalizePlatform(
      'linux',
      'arm',
      typeof variables.arm_version === 'string' ? `v${variables.arm_version}` : 'v7',
    );
  }
  return normalizePlatform('linux', NODE_ARCHITECTURES[arch] ?? arch);
}

/**
 * How well an image for `candidate` runs on `wanted`: 0 is exact, larger is further down the list of compatible
 * platforms (amd64/v3 → v2 → v1 → 386; arm64 → arm/v8 → v7 → v6 → v5), -1 does not run.
 */
export function rankPlatform(wanted: Platform, candidate: Platform): number {
  const have = normalizePlatform(candidate.os, candidate.architecture, candidate.variant);
  return compatiblePlatforms(wanted).findIndex(
    (platform) =>
      platform.os === have.os &&
      platform.architecture === have.architecture &&
      platform.variant === have.variant,
  );
}

/** All platforms whose images run on `platform`, best first. */
export function compatiblePlatforms(platform: Platform): Platform[] {
  const first = normalizePlatform(platform.os, platform.architecture, platform.variant);
  const { os } = first;
  const list: Platform[] = [first];
  const add = (architecture: string, variant: string): void => {
    list.push(normalizePlatform(os, architecture, variant));
  };
  switch (first.architecture) {
    case 'amd64':
      for (let version = versionOf(first.variant) - 1; version >= 1; version--) add('amd64', `v${version}`);
      add('386', '');
      break;
    case 'arm':
      addArm(first.variant, add);
      break;
    case 'arm64':
      addArm64(first.variant === '' ? 'v8' : first.variant, add);
      break;
  }
  return list;
}

function addArm(variant: string, add: (architecture: string, variant: string) => void): void {
  for (let version = versionOf(variant) - 1; version >= 5; version--) add('arm', `v${version}`);
}

/** Armv9.x can run code for Armv8.(x+5); every 64-bit variant is taken to run 32-bit code for Armv8, as containerd takes it. */
function addArm64(variant: string, add: (architecture: string, variant: string) => void): void {
  const match = /^v([89])(?:\.([0-9]))?$/.exec(variant);
  if (match !== null) {
    let minor = Number(match[2] ?? 0);
    if (match[1] === '9') {
      for (let below = minor - 1; below >= 0; below--) add('arm64', below === 0 ? 'v9' : `v9.${below}`);
      minor += 5;
      add('arm64', `v8.${minor}`);
    }
    for (let below = minor - 1; below >= 0; below--) add('arm64', below === 0 ? 'v8' : `v8.${below}`);
  }
  const arm = /^v[89]\./.test(variant) ? 'v8' : variant;
  add('arm', arm);
  addArm(arm, add);
}

/** `v3` → 3; anything else → 0. Two digits at most, so that the lists stay short. */
function versionOf(variant: string): number {
  return Number(/^v([0-9]{1,2})$/.exec(variant)?.[1] ?? 0);
}
