/** `veneer serve` */
import { existsSync } from 'node:fs';
import type { Logger } from 'pino';
import { CONFIG_FILE, LOG_LEVELS, MOUNT_FORMS } from '../../containerd/serve-config.ts';
import { asText, defineCommand } from '../command.ts';
import type { CliContext, CommonFlags } from '../context.ts';
import { storeRoot } from '../root.ts';

type Flags = {
  readonly config?: string;
  readonly address?: string;
  readonly metrics?: string;
  readonly containerd?: string;
  readonly mounts?: (typeof MOUNT_FORMS)[number];
  readonly format?: 'erofs' | 'udf';
  readonly backing?: 'auto' | 'file' | 'loop';
  readonly logLevel?: (typeof LOG_LEVELS)[number];
  readonly conversions?: number;
  readonly convertOnArrival?: boolean;
  readonly fsync: boolean;
  readonly printContainerdConfig: boolean;
  readonly containerdVersion?: string;
};

export default defineCommand<Flags, []>({
  name: 'serve',
  brief: 'Serve containerd as its snapshotter and differ',
  usage: [
    'serve [--config FILE] [--address SOCKET] [--metrics ADDRESS] [--mounts overlay|erofs|vmdk]',
    'serve --print-containerd-config [--containerd-version VERSION]',
  ],
  description: `Needs root. containerd asks on a unix socket; what it pulls becomes layers of the store, and containers get
overlayfs over one mount of the merged image. Runs until SIGTERM or SIGINT; mounts and containers stay, and a new
"veneer serve" takes them over.

Settings come from ${CONFIG_FILE} where it exists, or from --config; flags override them. SIGUSR2 switches debug
logs on and off. Under systemd the sockets may be passed (names "grpc" and "metrics").

--mounts erofs and vmdk are for runtimes that start virtual machines: they get the image's files instead of a mount
of this host.`,
  examples: [
    ['serve', 'with the settings of /etc/veneer/config.toml'],
    ['serve --root /data/veneer --metrics 127.0.0.1:9469', 'another store, metrics on a port'],
    [
      'serve --print-containerd-config > /etc/containerd/conf.d/veneer.toml',
      'what the installed containerd needs',
    ],
    ['serve --print-containerd-config --containerd-version 1.7.24', 'for another one'],
  ],
  parameters: {
    flags: {
      config: {
        kind: 'parsed',
        parse: asText,
        optional: true,
        placeholder: 'FILE',
        brief: `Settings (default: ${CONFIG_FILE} where it exists)`,
      },
      address: {
        kind: 'parsed',
        parse: asText,
        optional: true,
        placeholder: 'SOCKET',
        brief: 'Where to listen',
      },
      metrics: {
        kind: 'parsed',
        parse: asText,
        optional: true,
        placeholder: 'ADDRESS',
        brief:
          'Where Prometheus asks: off, unix:/PATH or HOST:PORT (default: metrics.sock beside the socket)',
      },
      containerd: {
        kind: 'parsed',
        parse: asText,
        optional: true,
        placeholder: 'SOCKET',
        brief: "containerd's own socket",
      },
      mounts: {
        kind: 'enum',
        values: MOUNT_FORMS,
        optional: true,
        brief: 'What containerd is given to mount',
      },
      format: {
        kind: 'enum',
        values: ['erofs', 'udf'],
        optional: true,
        brief: 'Which file system shows committed layers',
      },
      backing: {
        kind: 'enum',
        values: ['auto', 'file', 'loop'],
        optional: true,
        brief: 'How the kernel reads the files',
      },
      logLevel: { kind: 'enum', values: LOG_LEVELS, optional: true, brief: 'What is logged' },
      conversions: {
        kind: 'parsed',
        parse: asCount,
        optional: true,
        placeholder: 'N',
        brief: 'Layers that are converted at a time (default: two more than there are processors)',
      },
      convertOnArrival: {
        kind: 'boolean',
        optional: true,
        brief: 'Convert layers as containerd stores them, before it asks (default: yes)',
      },
      fsync: { kind: 'boolean', brief: 'Make everything durable', default: true },
      printContainerdConfig: {
        kind: 'boolean',
        brief: 'Only print what containerd needs in its configuration',
        withNegated: false,
        default: false,
      },
      containerdVersion: {
        kind: 'parsed',
        parse: asText,
        optional: true,
        placeholder: 'VERSION',
        brief: 'For which containerd (default: the one that is installed)',
      },
    },
    positional: { kind: 'tuple', parameters: [] },
  },
  async run(context, flags) {
    const config = await readConfig(context, flags);
    if (flags.printContainerdConfig) return printConfig(context, flags, config.address);
    const { Daemon } = await import('../../containerd/daemon.ts');
    const { pino } = await import('pino');
    const log = pino({ level: config.log_level, base: null }, pino.destination({ fd: 2, sync: true }));
    const stopped = untilStopped(log);
    const daemon = await Daemon.start({ config, log, env: context.env, fsync: flags.fsync });
    await stopped;
    await daemon.stop();
    return 0;
  },
});

function asCount(text: string): number {
  if (!/^\d{1,3}$/.test(text)) throw new SyntaxError(`${text} is not a number from 0 to 256`);
  return Number(text);
}

async function readConfig({ env }: CliContext, flags: Flags & CommonFlags) {
  const { readServeConfig } = await import('../../containerd/serve-config.ts');
  const file = flags.config ?? (existsSync(CONFIG_FILE) ? CONFIG_FILE : null);
  const { address, metrics, containerd, mounts, format, backing, conversions } = flags;
  const { logLevel: log_level, convertOnArrival: convert_on_arrival } = flags;
  const given = {
    address,
    metrics,
    containerd,
    mounts,
    format,
    backing,
    log_level,
    conversions,
    convert_on_arrival,
  };
  const root = flags.root === undefined && !env.VENEER_ROOT ? undefined : storeRoot(flags, env);
  const config = readServeConfig(file, { ...given, root });
  return { ...config, root: config.root ?? storeRoot(flags, env) };
}

async function printConfig(
  { out }: CliContext,
  { containerdVersion }: Flags,
  address: string,
): Promise<undefined> {
  const { askContainerdVersion, containerdConfig, parseVersion } = await import(
    '../../containerd/print-config.ts'
  );
  const version = containerdVersion === undefined ? askContainerdVersion() : parseVersion(containerdVersion);
  const architecture = process.arch === 'x64' ? 'amd64' : process.arch;
  const text = containerdConfig(version, address, `linux/${architecture}`);
  out.result({ version: version.text, config: text }, () => text.trimEnd());
  return undefined;
}

/** Being told to stop is how a daemon ends well: no error, and no exit code of a signal. A second signal ends it at once. */
function untilStopped(log: Logger): Promise<void> {
  const usual = log.level;
  process.on('SIGUSR2', () => {
    log.level = log.level === 'debug' ? (usual === 'debug' ? 'info' : usual) : 'debug';
    log.info({ level: log.level }, 'log level changed');
  });
  return new Promise((resolve) => {
    let told = false;
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.on(signal, () => {
        if (told) process.exit(1);
        told = true;
        resolve();
      });
    }
  });
}
