/** What containerd's own configuration needs to have veneer as a snapshotter and differ. */
import { execFileSync } from 'node:child_process';
import { VeneerError } from '../errors.ts';

export interface ContainerdVersion {
  readonly major: number;
  readonly minor: number;
  readonly patch: number;
  /** As containerd says it. */
  readonly text: string;
}

/** Asks the containerd that is installed. Throws `serve/config` when there is none. */
export function askContainerdVersion(program = 'containerd'): ContainerdVersion {
  let said: string;
  try {
    said = execFileSync(program, ['--version'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  } catch (cause) {
    throw new VeneerError(
      'serve/config',
      `Cannot ask containerd for its version: ${(cause as Error).message}`,
      {
        hint: 'say it with --containerd-version 2.1',
        cause,
      },
    );
  }
  return parseVersion(said.trim().split(/\s+/)[2] ?? said);
}

/** `2.1`, `v1.7.24`, `1.7.24~ds1`. Throws `serve/config`. */
export function parseVersion(text: string): ContainerdVersion {
  const match = /^v?(\d+)\.(\d+)(?:\.(\d+))?/.exec(text);
  if (match === null)
    throw new VeneerError(
      'serve/config',
      `Cannot use the containerd version ${JSON.stringify(text)}: say it as 2.1`,
    );
  const [major, minor, patch] = [match[1], match[2], match[3] ?? '0'].map(Number) as [number, number, number];
  return { major, minor, patch, text };
}

/** The stanza for /etc/containerd/config.toml. Throws `serve/config` for versions without proxy differs. */
export function containerdConfig(
  { major, minor, patch, text }: ContainerdVersion,
  address: string,
  platform: string,
): string {
  if (major < 1 || (major === 1 && minor < 7) || /^v?1\.7\.[0-3]\b/.test(text)) {
    throw new VeneerError(
      'serve/config',
      `Cannot configure containerd ${text}: proxy differs came with 1.7.4, and layers cannot be applied without`,
      { hint: 'install containerd 1.7.4 or newer' },
    );
  }
  const knowsCapabilities = major > 1 || patch >= 23;
  const quoted = JSON.stringify(address);
  const proxies = [
    '[proxy_plugins.veneer]',
    '  type = "snapshot"',
    `  address = ${quoted}`,
    ...(knowsCapabilities ? ['  capabilities = ["rebase"]'] : []),
    '',
    '[proxy_plugins.veneer-diff]',
    '  type = "diff"',
    `  address = ${quoted}`,
  ];
  const heading = [
    `# For containerd ${text}; made by veneer serve --print-containerd-config.`,
    '# A file that `imports` of /etc/containerd/config.toml names, or that file itself. Restart containerd then.',
    `version = ${major > 1 ? 3 : 2}`,
    '',
  ];
  const differs = (plugin: string): string[] => [
    '',
    `[plugins."${plugin}"]`,
    '  default = ["veneer-diff", "walking"]',
  ];
  if (major === 1) {
    return lines([
      ...heading,
      ...proxies,
      ...differs('io.containerd.service.v1.diff-service'),
      '',
      '# Kubernetes: all images of this node',
      '[plugins."io.containerd.grpc.v1.cri".containerd]',
      '  snapshotter = "veneer"',
      '  disable_snapshot_annotations = true',
    ]);
  }
  return lines([
    ...heading,
    ...proxies,
    ...differs('io.containerd.service.v1.diff-service'),
    '',
    '# ctr and nerdctl, which pull through the transfer service',
    '[plugins."io.containerd.transfer.v1.local"]',
    ...(minor >= 2 || major > 2 ? ['  max_concurrent_unpacks = 4'] : []),
    '  [[plugins."io.containerd.transfer.v1.local".unpack_config]]',
    `    platform = ${JSON.stringify(platform)}`,
    '    snapshotter = "veneer"',
    '    differ = "veneer-diff"',
    '',
    '# Kubernetes: all images of this node',
    '[plugins."io.containerd.cri.v1.images"]',
    '  snapshotter = "veneer"',
  ]);
}

const lines = (all: readonly string[]): string => `${all.join('\n')}\n`;
