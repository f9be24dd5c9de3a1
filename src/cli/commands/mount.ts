/** `veneer mount` */
import { resolve } from 'node:path';
import type { ErofsImage, MountRecord, MountRequest, VerityDisk } from '../../mount/types.ts';
import type { MountableImage } from '../../store/mountable.ts';
import type { ImageRecord } from '../../store/records.ts';
import type { Store } from '../../store/store.ts';
import { asText, defineCommand } from '../command.ts';
import type { CliContext, CommonFlags } from '../context.ts';
import { IMAGE_FLAGS, type ImageFlags } from '../image-flags.ts';
import { isFileInstead, namesFile, parseImagePath } from '../image-path.ts';
import { usageError } from '../parse.ts';
import { alignColumns } from '../table.ts';
import { withStore } from '../with-store.ts';

type Flags = ImageFlags & {
  readonly rw?: string;
  readonly layers: boolean;
  readonly option?: readonly string[];
  readonly backing: 'auto' | 'file' | 'loop';
  readonly format: 'erofs' | 'udf';
  readonly verity: boolean;
  readonly rootHash?: string;
  readonly signature?: string;
  readonly cert?: string;
  readonly immutable: boolean;
  readonly user: boolean;
};

/** What `--rw` without a value stands for: no path can hold it. */
const EPHEMERAL = '\0';

export default defineCommand<Flags, [image?: string, target?: string]>({
  name: 'mount',
  brief: 'Mount an image, or list what is mounted',
  usage: [
    'mount [--rw[=UPPER]] [--layers] [--format erofs|udf] [-o OPTION,...] IMAGE DIR',
    'mount [--rw[=UPPER]] [-o OPTION,...] [--device FILE]... FILE.erofs DIR',
    'mount --user [--rw[=UPPER]] [-o OPTION,...] IMAGE DIR',
    'mount --verity [--root-hash HASH] [--signature FILE [--cert FILE]] IMAGE DIR',
    'mount',
  ],
  description: `Needs root, but for --user. The image is mounted read-only from the files of the store; nothing is copied.
Without IMAGE and DIR: lists the mounts that were made with this store.

IMAGE may also be an EROFS image file, with the files of its devices in order. The kernel does not get its metadata to
see: it is read and checked here, and written anew. Of the devices only the sizes are checked. Neither FILE.erofs nor
they may change while they are mounted.

--rw makes the mount writable: changes are thrown away by the unmount, or with --rw=UPPER kept in the folder
UPPER and found there again by the next mount. --layers mounts every layer for itself and puts overlayfs over
them, instead of the one merged image. --format udf is for kernels that cannot mount EROFS: UDF volumes are made over
the same files, under overlayfs with what UDF has no place for. It needs udf.ko and the device-mapper.

--verity puts dm-verity between the files and the file system: the kernel checks every block against the image's hash
tree (made when first needed), and what was changed cannot be read. --root-hash says which root hash that must be;
--signature that somebody signed it: CERT's owner, or without --cert somebody whom the kernel trusts.
--user needs no root: erofsfuse reads the image and DIR is yours alone. It is slower, and writable only where you may mount:
in a user namespace of your own (unshare -Urm), which the mount ends with.

--immutable sets the immutable flag of the image's files: until "veneer gc" takes it off, not even root changes them.`,
  examples: [
    ['mount debian:12 /mnt', 'read-only'],
    ['mount --rw debian:12 /mnt', 'writable, changes are thrown away'],
    ['mount --rw=/srv/app-changes app:latest /srv/app', 'writable, changes are kept'],
    ['mount --layers -o nosuid,nodev app:latest /mnt', 'overlayfs over one mount a layer'],
    ['mount ./fsmeta.erofs /mnt --device 00.tar --device 01.tar', 'what "veneer merge" made'],
    ['mount --format udf app:latest /mnt', 'by udf.ko'],
    ['mount --verity --root-hash 5be1… app:latest /mnt', 'by dm-verity; no other content can be read'],
    ['mount --user app:latest ~/app', 'without root, by erofsfuse'],
    ['mount', 'what is mounted'],
  ],
  parameters: {
    flags: {
      ...IMAGE_FLAGS,
      rw: {
        kind: 'parsed',
        parse: asText,
        optional: true,
        placeholder: '[=UPPER]',
        brief: 'Writable; changes go to UPPER, or are thrown away by umount',
      },
      layers: {
        kind: 'boolean',
        brief: 'overlayfs over one mount a layer',
        withNegated: false,
        default: false,
      },
      option: {
        kind: 'parsed',
        parse: asText,
        variadic: ',',
        optional: true,
        placeholder: 'OPTION,...',
        brief: 'Mount options: nosuid, nodev, noexec, noatime and their opposites',
      },
      user: {
        kind: 'boolean',
        brief: 'Without root, by erofsfuse',
        withNegated: false,
        default: false,
      },
      verity: {
        kind: 'boolean',
        brief: 'The kernel checks all data (dm-verity)',
        withNegated: false,
        default: false,
      },
      rootHash: {
        kind: 'parsed',
        parse: asText,
        optional: true,
        placeholder: 'HASH',
        brief: 'With --verity: the root hash that is trusted (default: the one in the store)',
      },
      signature: {
        kind: 'parsed',
        parse: asText,
        optional: true,
        placeholder: 'FILE',
        brief: 'With --verity: PKCS#7 signature of the root hash',
      },
      cert: {
        kind: 'parsed',
        parse: asText,
        optional: true,
        placeholder: 'FILE',
        brief: 'Certificate of who signed it; without, the kernel checks the signature',
      },
      immutable: {
        kind: 'boolean',
        brief: "Make the image's files immutable first",
        withNegated: false,
        default: false,
      },
      backing: {
        kind: 'enum',
        values: ['auto', 'file', 'loop'],
        default: 'auto',
        brief: 'How the kernel reads the files',
      },
      format: {
        kind: 'enum',
        values: ['erofs', 'udf'],
        default: 'erofs',
        brief: 'Which file system the kernel gets to see',
      },
    },
    aliases: { o: 'option' },
    positional: {
      kind: 'tuple',
      parameters: [
        { brief: 'What to mount', placeholder: 'IMAGE', parse: asText, optional: true },
        { brief: 'Directory to mount it on', placeholder: 'DIR', parse: asText, optional: true },
      ],
    },
  },
  spellings: { '--rw': [`--rw=${EPHEMERAL}`] },
  completes: ['image', 'folder', 'none'],
  async run(context, flags, image, target) {
    if (image === undefined) return listAll(context, flags);
    if (target === undefined) throw usageError('mount', 'DIR is missing');
    const { path } = parseImagePath(image);
    if (path !== '/') throw usageError('mount', `a whole image can be mounted, not ${path} in it`);
    if (flags.verity && (flags.layers || flags.format !== 'erofs'))
      throw usageError('mount', '--verity goes with the one merged EROFS image');
    if (flags.user && (flags.layers || flags.verity || flags.immutable || flags.format !== 'erofs'))
      throw usageError('mount', '--user goes with the one merged EROFS image');
    if (!flags.verity && (flags.rootHash ?? flags.signature ?? flags.cert) !== undefined)
      throw usageError('mount', '--root-hash, --signature and --cert need --verity');
    if (flags.cert !== undefined && flags.signature === undefined)
      throw usageError('mount', '--cert needs --signature');
    const name = image.replace(/:\/$/, '');
    if (namesFile(name, flags.device ?? [])) return mountFile(context, flags, name, target);
    try {
      return await mountImage(context, flags, name, target);
    } catch (error) {
      if (!isFileInstead(error, name)) throw error;
      return mountFile(context, flags, name, target);
    }
  },
});

type Lowers = Pick<MountRequest, 'mode' | 'images' | 'metacopy'>;

/** Plans and does the mount of what the image turned out to be. */
async function prepareMount(
  { env }: CliContext,
  flags: Flags,
  store: Store,
  target: string,
  label: string,
): Promise<(lowers: Lowers) => MountRecord> {
  const { applyMount } = await import('../../mount/apply.ts');
  const { probeCapabilities } = await import('../../mount/capabilities.ts');
  const { planMount } = await import('../../mount/plan.ts');
  const request: Omit<MountRequest, 'mode' | 'images'> & { label: string } = {
    target: resolve(target),
    options: flags.option ?? [],
    backing: flags.backing,
    runDir: store.layout.run,
    label,
    ...(flags.rw === undefined ? {} : { rw: flags.rw === EPHEMERAL ? {} : { upper: resolve(flags.rw) } }),
  };
  if (flags.user) {
    const { mountByFuse } = await import('../../mount/fuse.ts');
    return ({ images: [image] }) =>
      mountByFuse({ ...request, image: image as ErofsImage, path: env.PATH ?? '' });
  }
  return (lowers) => applyMount(planMount({ ...request, ...lowers }, probeCapabilities()));
}

function report({ out }: CliContext, done: MountRecord, checked = ''): void {
  out.result(done, () => {
    const how =
      done.upper === null
        ? 'read-only'
        : done.ephemeral
          ? 'writable, changes are thrown away'
          : `writable, changes in ${done.upper}`;
    return `mounted ${done.label} on ${done.target} (${how}${checked})`;
  });
}

/** An EROFS file: what is mounted is metadata of our own over the same data. */
async function mountFile(
  context: CliContext,
  flags: Flags & CommonFlags,
  file: string,
  target: string,
): Promise<undefined> {
  if (flags.layers || flags.verity || flags.immutable || flags.format !== 'erofs')
    throw usageError('mount', '--layers, --verity, --immutable and --format are for images in the store');
  const { rewriteImage } = await import('../rewrite-image.ts');
  return withStore(context, flags, async (store) => {
    const mount = await prepareMount(context, flags, store, target, file);
    const { image, findings, discard } = await rewriteImage(store.work(), file, flags.device ?? [], {
      byDevice: flags.user,
    });
    try {
      context.out.findings(findings);
      report(context, mount({ mode: 'merged', images: [image] }));
    } finally {
      discard();
    }
    return undefined;
  });
}

async function mountImage(
  context: CliContext,
  flags: Flags & CommonFlags,
  image: string,
  target: string,
): Promise<undefined> {
  const { resolveImage } = await import('../../store/images.ts');
  const { mountable } = await import('../../store/mountable.ts');
  return withStore(context, flags, async (store) => {
    const mode = flags.layers ? 'layers' : 'merged';
    const verity = flags.verity ? await openVerity(context, flags, store, image) : null;
    // The store must not be swept between the look at its files and the mount that holds them.
    const lock = store.share();
    try {
      const record = resolveImage(store, image);
      if (flags.immutable) await setImmutable(store, record);
      const images = await mountable(store, record, mode, { signal: context.signal });
      const mount = await prepareMount(context, flags, store, target, record.name);
      if (flags.user) {
        report(context, await mountForUser(store, images[0]!, mount));
        return undefined;
      }
      const done =
        flags.format === 'udf'
          ? await mountUdf(context, store, images, mount)
          : mount({ mode, images: verity === null ? images : [{ ...images[0]!, verity }] });
      report(context, done, verity === null ? '' : `, checked by dm-verity against ${verity.rootHash}`);
    } finally {
      lock.release();
    }
    return undefined;
  });
}

/** erofsfuse does not find the data by the metadata that the kernel gets. */
async function mountForUser(
  store: Store,
  { primary, devices }: MountableImage,
  mount: (lowers: Lowers) => MountRecord,
): Promise<MountRecord> {
  const { rewriteImage } = await import('../rewrite-image.ts');
  const paths = devices.map(({ path }) => path);
  const { image, discard } = await rewriteImage(store.work(), primary, paths, { byDevice: true });
  try {
    return mount({ mode: 'merged', images: [image] });
  } finally {
    discard();
  }
}

/** The verity disk of an image; its hash tree is made before anybody has to wait for the store's lock. */
async function openVerity(
  context: CliContext,
  { rootHash, signature, cert }: Flags,
  store: Store,
  image: string,
): Promise<VerityDisk> {
  const { makeVerityDisk } = await import('../disk/verity-mount.ts');
  return makeVerityDisk(store, image, { rootHash, signature, cert, signal: context.signal });
}

async function setImmutable(store: Store, record: ImageRecord): Promise<void> {
  const { makeImmutable } = await import('../../store/fs-verity.ts');
  makeImmutable(store, record);
}

/** Makes UDF volumes over the data files and mounts them; the mount keeps what it needs of them. */
async function mountUdf(
  context: CliContext,
  store: Store,
  images: readonly MountableImage[],
  mount: (lowers: Lowers) => MountRecord,
): Promise<MountRecord> {
  const { stackVolumes } = await import('../../containerd/udf-stack.ts');
  const { discardVolumes, writeVolumes } = await import('../../store/udf-volumes.ts');
  const { directory, volumes } = writeVolumes(store, images, { standard: false });
  try {
    for (const { findings } of volumes) context.out.findings(findings);
    return mount({ mode: 'layers', images: stackVolumes(volumes), metacopy: true });
  } finally {
    discardVolumes(directory);
  }
}

async function listAll(context: CliContext, flags: Flags & CommonFlags): Promise<undefined> {
  const { listMounts } = await import('../../mount/unmount.ts');
  return withStore(context, flags, async (store) => {
    const mounts = listMounts(store.layout.run);
    if (context.out.json) {
      for (const mount of mounts) context.out.result(mount, () => '');
    } else if (mounts.length === 0) {
      context.out.note('nothing is mounted');
    } else {
      const rows = mounts.map((mount) => [
        mount.label ?? '?',
        mount.target,
        mount.upper === null ? 'ro' : 'rw',
        mount.mode,
        mount.state,
      ]);
      context.out.result({}, () => alignColumns([['IMAGE', 'DIR', 'ACCESS', 'MODE', 'STATE'], ...rows]));
    }
    return undefined;
  });
}
