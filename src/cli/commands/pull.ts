/** `veneer pull` */

import type { ImageSource } from '../../oci/index.ts';
import type { OnProgress } from '../../progress/events.ts';
import { formatBytes, formatCount } from '../../progress/units.ts';
import { shortDigest } from '../../store/layout.ts';
import type { PullOptions } from '../../store/pull.ts';
import type { ImageRecord } from '../../store/records.ts';
import type { Store } from '../../store/store.ts';
import { asText, defineCommand, oneOf } from '../command.ts';
import { PROGRESS_FLAG, type ProgressFlags, withProgress } from '../progress.ts';
import { withStore } from '../with-store.ts';

type Flags = ProgressFlags & {
  readonly name?: string;
  readonly deltaFrom?: string;
  readonly platform?: string;
  readonly fsync: boolean;
  readonly immutable: boolean;
  readonly dedupe?: boolean;
  readonly insecure: boolean;
  readonly concurrency?: number;
};

export default defineCommand<Flags, [source: string]>({
  name: 'pull',
  brief: 'Fetch an image into the store, ready to mount',
  usage: [
    'pull [--name NAME] [--platform OS/ARCH] [--delta-from IMAGE] REFERENCE',
    'pull oci:DIR[:TAG]',
    'pull docker-archive:FILE[:NAME]',
  ],
  description: `Every digest is verified before anything gets its name. Layers that are there already are not fetched again.
A pull that was stopped goes on where it was; the store is consistent at any moment.

The name in the store is the reference, for a layout its folder's name and tag, or what --name says.
Credentials come from docker's config.json and its credential helpers.

With --delta-from layers are made of those of IMAGE, which is in the store, and a delta that stands beside the image
(see "delta create"); every layer is verified as always. Without a delta that fits they are fetched whole, and that is said.`,
  examples: [
    ['pull debian:12', 'from Docker Hub'],
    ['pull ghcr.io/owner/app@sha256:0123...', 'an exact image'],
    ['pull oci:./node-app:latest', 'an OCI layout; its name is node-app:latest'],
    ['pull docker-archive:app.tar --name app:1', 'what "docker save" wrote'],
    ['pull --dedupe app:2', 'beside app:1: only blocks that are new are stored'],
    ['pull --delta-from app:1 registry.example/app:2', 'only what app:1 lacks, if there is a delta'],
    ['pull --platform linux/arm64 debian:12', 'for another machine'],
  ],
  parameters: {
    flags: {
      name: {
        kind: 'parsed',
        parse: asText,
        optional: true,
        placeholder: 'NAME',
        brief: 'Name in the store',
      },
      deltaFrom: {
        kind: 'parsed',
        parse: asText,
        optional: true,
        placeholder: 'IMAGE',
        brief: 'Use a delta from this image of the store',
      },
      platform: {
        kind: 'parsed',
        parse: asText,
        optional: true,
        placeholder: 'OS/ARCH',
        brief: "Default: this machine's",
      },
      fsync: {
        kind: 'boolean',
        default: true,
        brief: 'Do not wait for the disk: faster, but a power cut may damage what was pulled',
      },
      insecure: {
        kind: 'boolean',
        default: false,
        withNegated: false,
        brief: 'Allow plain HTTP and unknown certificates (a registry on this machine may have HTTP anyway)',
      },
      concurrency: {
        kind: 'parsed',
        parse: parseCount,
        optional: true,
        placeholder: 'N',
        brief: 'Layers at a time (default: 4)',
      },
      immutable: {
        kind: 'boolean',
        default: false,
        withNegated: false,
        brief: "Set the immutable flag of the image's files",
      },
      dedupe: {
        kind: 'boolean',
        optional: true,
        brief:
          'Keep of new layers only what no other layer has (default: of those that come as a delta; see veneer config)',
      },
      ...PROGRESS_FLAG,
    },
    positional: { kind: 'tuple', parameters: [oneOf('SOURCE', 'Where the image comes from')] },
  },
  completes: ['none'],
  async run(context, flags, text) {
    const [{ pullImage }, { parsePlatform }] = await Promise.all([
      import('../../store/index.ts'),
      import('../../oci/index.ts'),
    ]);
    const platform = flags.platform === undefined ? undefined : parsePlatform(flags.platform);
    return withStore(context, flags, async (store) => {
      const { deltaFrom } = flags;
      const base = deltaFrom === undefined ? null : await findBase(store, deltaFrom);
      const { record, delta } = await withProgress(context, flags, async ({ onProgress }) => {
        const source = await openSource(flags, text, onProgress);
        const options: PullOptions = {
          ...(flags.name === undefined ? {} : { name: flags.name }),
          ...(platform === undefined ? {} : { platform }),
          ...(flags.concurrency === undefined ? {} : { concurrency: flags.concurrency }),
          ...(flags.dedupe === undefined ? {} : { dedupe: flags.dedupe }),
          immutable: flags.immutable,
          onProgress,
          onFinding: (finding) => context.out.findings([finding]),
          signal: context.signal,
        };
        try {
          if (base === null) return { record: await pullImage(store, source, options), delta: null };
          const { pullByDelta } = await import('../../delta-image/pull-by-delta.ts');
          return await pullByDelta(store, source, base, options);
        } finally {
          await source.close();
        }
      });
      context.out.result(delta === null ? record : { ...record, delta }, () => {
        const bytes = record.layers.reduce((sum, layer) => sum + layer.blob.size, 0);
        const by = delta === null ? '' : `, by a delta of ${formatBytes(delta.bytes)}`;
        return `pulled ${record.name} (${shortDigest(record.manifest.digest)}, ${formatCount(record.layers.length, 'layer')}, ${formatBytes(bytes)}${by})`;
      });
      return undefined;
    });
  },
});

async function findBase(store: Store, name: string): Promise<ImageRecord> {
  const { resolveImage } = await import('../../store/images.ts');
  return resolveImage(store, name);
}

function parseCount(text: string): number {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 1 || count > 64) throw new Error('a number from 1 to 64');
  return count;
}

async function openSource(flags: Flags, text: string, onProgress: OnProgress): Promise<ImageSource> {
  const { openDockerArchive, openLayout, parseImageSource } = await import('../../oci/index.ts');
  const named = parseImageSource(text);
  switch (named.kind) {
    case 'layout':
      return openLayout(named.dir, named);
    case 'docker-archive':
      return openDockerArchive(named.file, named.name);
    case 'registry': {
      const { openRegistry } = await import('../../registry/index.ts');
      return openRegistry(named.reference, { insecure: flags.insecure, onProgress });
    }
  }
}
