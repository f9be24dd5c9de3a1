/**
 * A container's config.json (OCI runtime spec 1.2) from an image's config, as conversion.md of the image spec wants it,
 * over the defaults that umoci uses.
 */
import { posix } from 'node:path';
import { VeneerError } from '../errors.ts';
import { type Json, type JsonObject, shortTime } from '../oci/encode-json.ts';
import type { IdMap } from '../rootfs/id-map.ts';
import { type ConfigDocument, namesOf, type RunConfig } from './config-document.ts';
import type { ContainerUser } from './container-user.ts';

const CAPABILITIES = ['CAP_AUDIT_WRITE', 'CAP_KILL', 'CAP_NET_BIND_SERVICE'];
const DEFAULT_ENV = ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'TERM=xterm'];

const mount = (destination: string, type: string, source: string, ...options: string[]): Mount => ({
  destination,
  type,
  source,
  ...(options.length === 0 ? {} : { options }),
});

interface Mount extends JsonObject {
  readonly destination: string;
  readonly type: string;
  readonly source: string;
  readonly options?: readonly string[];
}

const DEFAULT_MOUNTS: readonly Mount[] = [
  mount('/proc', 'proc', 'proc'),
  mount('/dev', 'tmpfs', 'tmpfs', 'nosuid', 'strictatime', 'mode=755', 'size=65536k'),
  mount(
    '/dev/pts',
    'devpts',
    'devpts',
    'nosuid',
    'noexec',
    'newinstance',
    'ptmxmode=0666',
    'mode=0620',
    'gid=5',
  ),
  mount('/dev/shm', 'tmpfs', 'shm', 'nosuid', 'noexec', 'nodev', 'mode=1777', 'size=65536k'),
  mount('/dev/mqueue', 'mqueue', 'mqueue', 'nosuid', 'noexec', 'nodev'),
  mount('/sys', 'sysfs', 'sysfs', 'nosuid', 'noexec', 'nodev', 'ro'),
  mount('/sys/fs/cgroup', 'cgroup', 'cgroup', 'nosuid', 'noexec', 'nodev', 'relatime', 'ro'),
];

const NAMESPACES = ['cgroup', 'pid', 'network', 'ipc', 'uts', 'mount'];

/** What a container must not see of its kernel, and what it must not write to. */
const MASKED = ['kcore', 'latency_stats', 'timer_list', 'timer_stats', 'sched_debug'].map(
  (name) => `/proc/${name}`,
);
const READ_ONLY = ['asound', 'bus', 'fs', 'irq', 'sys', 'sysrq-trigger'].map((name) => `/proc/${name}`);

export interface RuntimeOptions {
  /** The name of the root file system beside config.json. */
  readonly rootPath: string;
  readonly user: ContainerUser;
  readonly uidMaps: readonly IdMap[];
  readonly gidMaps: readonly IdMap[];
  /** For a user without privileges: what the kernel would refuse is left out. Null otherwise. */
  readonly rootless: RootlessHost | null;
}

/** What of the host goes into a container without privileges. */
export interface RootlessHost {
  /** Mount options of /etc/resolv.conf that a user namespace cannot take away; null when there is no such file. */
  readonly resolvConfOptions: readonly string[] | null;
}

/** Throws `oci/unsupported` for other systems' images, `oci/invalid` for variables that are none. */
export function runtimeSpec(image: ConfigDocument, options: RuntimeOptions): JsonObject {
  if (image.os !== 'linux')
    throw new VeneerError(
      'oci/unsupported',
      `Cannot make a container of the image: it is for ${image.os || 'no system'}`,
    );
  const config = image.config ?? {};
  const { user, rootless } = options;
  const args = [...(config.Entrypoint ?? []), ...(config.Cmd ?? [])];
  const mapped = options.uidMaps.length > 0 || options.gidMaps.length > 0;
  const volumes = namesOf(config.Volumes).map((volume) =>
    mount(volume, 'tmpfs', 'none', 'rw', 'nosuid', 'nodev', 'noexec', 'relatime'),
  );
  const mounts = [...DEFAULT_MOUNTS, ...volumes];
  const namespaces = rootless === null ? NAMESPACES : NAMESPACES.filter((type) => type !== 'network');
  const groups = rootless === null ? user.additionalGids : [];
  return {
    ociVersion: '1.2.1',
    process: {
      terminal: true,
      user: {
        uid: user.uid,
        gid: user.gid,
        ...(groups.length === 0 ? {} : { additionalGids: groups }),
      },
      args: args.length === 0 ? ['sh'] : args,
      env: environment(config, user.home),
      cwd: config.WorkingDir || '/',
      capabilities: Object.fromEntries(
        ['bounding', 'effective', 'inheritable', 'permitted', 'ambient'].map((set) => [set, CAPABILITIES]),
      ),
      rlimits: [{ type: 'RLIMIT_NOFILE', hard: 1024, soft: 1024 }],
      noNewPrivileges: true,
    },
    root: { path: options.rootPath },
    hostname: 'umoci-default',
    mounts: rootless === null ? mounts : rootlessMounts(mounts, rootless),
    annotations: annotations(image, config),
    linux: {
      ...mappings('uidMappings', options.uidMaps),
      ...mappings('gidMappings', options.gidMaps),
      ...(rootless === null ? { resources: { devices: [{ allow: false, access: 'rwm' }] } } : {}),
      namespaces: [...namespaces, ...(mapped || rootless !== null ? ['user'] : [])].map((type) => ({ type })),
      maskedPaths: [...MASKED, '/sys/firmware', '/proc/scsi'],
      readonlyPaths: READ_ONLY,
    },
  };
}

function environment(config: RunConfig, home: string): string[] {
  const env = [...DEFAULT_ENV];
  const indexOf = (name: string): number => env.findIndex((known) => known.startsWith(`${name}=`));
  for (const variable of config.Env ?? []) {
    const end = variable.indexOf('=');
    if (end < 1)
      throw new VeneerError(
        'oci/invalid',
        `Cannot make a container of the image: its variable ${JSON.stringify(variable.slice(0, 100))} is not NAME=VALUE`,
      );
    const at = indexOf(variable.slice(0, end));
    if (at < 0) env.push(variable);
    else env[at] = variable;
  }
  if (home !== '' && indexOf('HOME') < 0) env.push(`HOME=${home}`);
  return env;
}

/** What the runtime spec has no place for, and labels, which may say otherwise. */
function annotations(image: ConfigDocument, config: RunConfig): JsonObject {
  const own: Record<string, string> = {
    os: image.os ?? '',
    architecture: image.architecture ?? '',
    variant: image.variant ?? '',
    author: image.author ?? '',
    created: shortTime(image.created ?? ''),
    stopSignal: config.StopSignal ?? '',
    exposedPorts: namesOf(config.ExposedPorts).join(','),
  };
  const named = Object.entries(own)
    .filter(([, value]) => value !== '')
    .map(([name, value]) => [`org.opencontainers.image.${name}`, value] as const);
  const all: JsonObject = { ...Object.fromEntries(named), ...config.Labels };
  return Object.fromEntries(namesOf(all).map((name): [string, Json] => [name, all[name]!]));
}

function mappings(name: string, maps: readonly IdMap[]): JsonObject {
  if (maps.length === 0) return {};
  return {
    [name]: maps.map(({ container, host, size }) => ({ containerID: container, hostID: host, size })),
  };
}

/** No owner that is not mapped, nothing of /sys but the host's, and the host's name servers: its network is shared. */
function rootlessMounts(mounts: readonly Mount[], { resolvConfOptions }: RootlessHost): Mount[] {
  const kept = mounts
    .filter(({ destination }) => !destination.startsWith('/sys'))
    .map(({ destination, type, source, options = [] }) =>
      mount(destination, type, source, ...options.filter((option) => !/^[ug]id=/.test(option))),
    );
  const bind = (path: string, ...options: string[]): Mount => mount(path, 'bind', path, ...options);
  return [
    ...kept,
    bind('/sys', 'rbind', 'nosuid', 'noexec', 'nodev', 'ro'),
    ...(resolvConfOptions === null ? [] : [bind('/etc/resolv.conf', ...resolvConfOptions, 'rbind', 'ro')]),
  ];
}

/** The name that config.json gives the root file system: the last part of its path, "." for none. */
export function rootPathOf(rootfs: string): string {
  return rootfs === '' ? '.' : posix.basename(rootfs) || '/';
}
