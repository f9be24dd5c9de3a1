/** `veneer diff` */
import { VeneerError } from '../../errors.ts';
import { Batch } from '../batch.ts';
import { asText, defineCommand, oneOf } from '../command.ts';
import type { CliContext, CommonFlags } from '../context.ts';
import { findNode } from '../find-node.ts';
import { IMAGE_HELP } from '../image-flags.ts';
import { type ImagePath, parseImagePath } from '../image-path.ts';
import { type OpenImage, openImage } from '../open-image.ts';

type Flags = {
  readonly stat: boolean;
  readonly nameOnly: boolean;
  readonly exitCode: boolean;
  readonly ignoreTimes: boolean;
  readonly noRenames: boolean;
  readonly oldDevice?: readonly string[];
  readonly newDevice?: readonly string[];
};

const DEVICE = {
  kind: 'parsed',
  parse: asText,
  variadic: true,
  optional: true,
  placeholder: 'FILE',
} as const;

export default defineCommand<Flags, [old: string, now: string]>({
  name: 'diff',
  brief: 'Tell what changed from one image to another',
  usage: ['diff [--stat|--name-only] [--exit-code] OLD[:PATH] NEW[:PATH]'],
  description: `${IMAGE_HELP}
One line a change, in the order of the paths:
  A added   D removed   M changed content   T another type   R renamed (same content)   m attributes only
A directory that moved with all that is in it is one change. Nothing is mounted, and only files are read that may
differ and do not stand in a layer that both images have.
Exit code 0, whatever differs; with --exit-code 1 when something does.`,
  examples: [
    ['diff debian:12.1 debian:12.2', 'what changed'],
    ['diff --stat debian:12.1 debian:12.2', 'how much of it'],
    ['diff --ignore-times app:1:/etc app:2:/etc', 'one directory, without files that are only newer'],
    ['diff --json app:1 app:2', 'one JSON object a change, with all attributes before and after'],
    ['diff --quiet --exit-code app:1 app:2', 'in a script: are they equal?'],
    ['diff ./1.erofs ./2.erofs --old-device 1.tar --new-device 2.tar', 'image files'],
  ],
  parameters: {
    flags: {
      stat: { kind: 'boolean', brief: 'Only count', withNegated: false, default: false },
      nameOnly: { kind: 'boolean', brief: 'Only paths', withNegated: false, default: false },
      exitCode: {
        kind: 'boolean',
        brief: 'Exit code 1 when there is a difference',
        withNegated: false,
        default: false,
      },
      ignoreTimes: {
        kind: 'boolean',
        brief: 'A modification time alone is no difference',
        withNegated: false,
        default: false,
      },
      noRenames: {
        kind: 'boolean',
        brief: 'What moved is removed and added',
        withNegated: false,
        default: false,
      },
      oldDevice: {
        ...DEVICE,
        brief: 'With OLD an image file: a file its data stands in, in the order of its table',
      },
      newDevice: { ...DEVICE, brief: 'The same for NEW' },
    },
    positional: {
      kind: 'tuple',
      parameters: [oneOf('OLD[:PATH]', 'Image before'), oneOf('NEW[:PATH]', 'Image after')],
    },
  },
  completes: ['image'],
  async run(context, flags, old, now) {
    const targets = { old: parseImagePath(old), new: parseImagePath(now) };
    const before = await openImage(context, flags, targets.old.image, flags.oldDevice ?? []);
    try {
      const after = await openImage(context, flags, targets.new.image, flags.newDevice ?? []);
      try {
        return await compare(context, flags, before, after, targets);
      } finally {
        after.close();
      }
    } catch (error) {
      if (!(error instanceof VeneerError) || error.code !== 'cli/no-device') throw error;
      const hint =
        'name the files of all its devices in order: --old-device for the first image, --new-device for the second';
      throw new VeneerError(error.code, error.message, { hint });
    } finally {
      before.close();
    }
  },
});

async function compare(
  context: CliContext,
  flags: Flags & CommonFlags,
  before: OpenImage,
  after: OpenImage,
  targets: { readonly old: ImagePath; readonly new: ImagePath },
): Promise<number> {
  const { diffTrees } = await import('../../diff/diff.ts');
  const { countLinks } = await import('../../tree/walk.ts');
  const { cleanPath } = await import('../../tree/path.ts');
  const { out } = context;
  const paths = { old: context.bytesOf(targets.old.path), new: context.bytesOf(targets.new.path) };
  const changes = await diffTrees(sideOf(before, paths.old), sideOf(after, paths.new), {
    signal: context.signal,
    times: !flags.ignoreTimes,
    renames: !flags.noRenames,
  });
  if (flags.stat) {
    const { summarize, summaryLines } = await import('../diff/summary.ts');
    const summary = summarize(changes);
    out.result(summary, () => summaryLines(summary));
  } else if (out.json || !out.quiet) {
    const { changedPath, changeJson, changeLine } = await import('../diff/words.ts');
    const tops = { old: cleanPath(paths.old).join('/'), new: cleanPath(paths.new).join('/') };
    const show = (name: string): string => out.nameBytes(name);
    const links = out.json ? { old: countLinks(before.tree), new: countLinks(after.tree) } : null;
    const batch = new Batch(out);
    for (const change of changes) {
      if (links !== null) await batch.json(changeJson(change, tops, links));
      else if (flags.nameOnly) await batch.write(`${show(changedPath(change, tops))}\n`);
      else await batch.write(`${changeLine(change, tops, show)}\n`);
    }
    await batch.flush();
  }
  return flags.exitCode && changes.length > 0 ? 1 : 0;
}

const sideOf = (image: OpenImage, path: string) => ({
  root: findNode(image, path, true),
  sources: image.sourceIds,
  data: image.data,
});
