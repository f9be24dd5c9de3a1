/** `veneer checkout` */

import { displayByteString } from '../../bytes/byte-string.ts';
import type { CheckoutReport } from '../../checkout/checkout.ts';
import { formatBytes, formatCount } from '../../progress/units.ts';
import { defineCommand, oneOf } from '../command.ts';
import type { CliContext } from '../context.ts';
import { problemsJson, tellProblems } from '../copy/problems.ts';
import { jsonName } from '../output.ts';
import { PROGRESS_FLAG, type ProgressFlags, withProgress } from '../progress.ts';
import { withStore } from '../with-store.ts';

type Flags = ProgressFlags & {
  readonly link: boolean;
  readonly update: boolean;
  readonly force: boolean;
  readonly fsync: boolean;
};

/** Names told one by one; --json has all. */
const TOLD = 20;

export default defineCommand<Flags, [image: string, directory: string]>({
  name: 'checkout',
  brief: 'Put an image together in a directory, without mounting it',
  usage: ['checkout [--link] IMAGE DIR', 'checkout --update [--force] IMAGE DIR'],
  description: `Needs neither root nor overlayfs. DIR must be empty or not there yet; it appears when it is complete. Where the file
system can (XFS, Btrfs), files share their blocks with the store; otherwise they are copied.
As root owners and devices are kept; otherwise all is yours, and what could not be made or set is told by path.

--link makes files hard links to files that the store keeps for all checkouts. They are read-only, for whoever writes
to one writes to all; replacing a file is harmless. The store must be on the same file system.

--update brings a checkout to another image, or another version of its image, and changes only what differs. What you
changed where nothing differs stays; what you changed where something does is named and nothing is done, or with
--force replaced. Files of your own stay. An update that was stopped goes on when it is run again.`,
  examples: [
    ['checkout debian:12 rootfs', 'a copy of all files'],
    ['checkout --link app:1 /srv/app', 'hard links, read-only'],
    ['checkout --update app:2 /srv/app', 'from whatever is there to app:2'],
    ['checkout --update --force app:2 /srv/app', 'also where files were edited'],
  ],
  parameters: {
    flags: {
      link: {
        kind: 'boolean',
        brief: 'Hard links to read-only files of the store',
        withNegated: false,
        default: false,
      },
      update: {
        kind: 'boolean',
        brief: 'Bring a checkout to IMAGE',
        withNegated: false,
        default: false,
      },
      force: {
        kind: 'boolean',
        brief: 'With --update: replace what was changed by hand',
        withNegated: false,
        default: false,
      },
      fsync: {
        kind: 'boolean',
        default: true,
        brief: 'Do not wait for the disk: faster, but a power cut may damage what was made',
      },
      ...PROGRESS_FLAG,
    },
    aliases: { f: 'force' },
    positional: {
      kind: 'tuple',
      parameters: [oneOf('IMAGE', 'What to check out'), oneOf('DIR', 'Where to')],
    },
  },
  completes: ['image', 'folder'],
  async run(context, flags, name, directory) {
    const { checkOut } = await import('../../checkout/checkout.ts');
    const { resolveImage } = await import('../../store/images.ts');
    return withStore(context, flags, async (store) => {
      const image = resolveImage(store, name);
      const report = await withProgress(context, flags, async ({ onProgress }) =>
        checkOut(store, image, directory, {
          link: flags.link,
          update: flags.update,
          force: flags.force,
          onProgress,
          signal: context.signal,
        }),
      );
      tell(context, report);
      return undefined;
    });
  },
});

function tell({ out }: CliContext, report: CheckoutReport): void {
  if (!out.json) {
    const { replaced, kept } = report;
    for (const { path, what } of replaced.slice(0, TOLD))
      out.note(
        `${displayByteString(path)}: replaced, it was ${what === 'in the way' ? what : `${what} here`}`,
      );
    if (replaced.length > TOLD) out.note(`${replaced.length - TOLD} more were replaced (--json lists all)`);
    for (const path of kept.slice(0, TOLD))
      out.note(`${displayByteString(path)}: not in the image any more, but stays: it holds files of yours`);
  }
  tellProblems(out, report.problems);
  out.result(
    {
      ...report,
      problems: problemsJson(report.problems),
      replaced: report.replaced.map(({ path, what }) => ({ ...jsonName('path', path), what })),
      kept: report.kept.map((path) => jsonName('path', path)),
    },
    () => summary(report),
  );
  if (report.otherOwner > 0) {
    const names = formatCount(report.otherOwner, 'name');
    out.note(`you own ${names} that belong to somebody else in the image: keeping owners needs root`);
  }
}

function summary({ directory, image, from, changes, bytes, linked }: CheckoutReport): string {
  const data = linked > 0 ? `${formatCount(linked, 'link')}, ${formatBytes(bytes)} new` : formatBytes(bytes);
  if (from === null)
    return `checked out ${image} in ${directory} (${formatCount(changes.added, 'name')}, ${data})`;
  const { added, removed, changed, type, attributes } = changes;
  const counts = [
    `${added} added`,
    `${removed} removed`,
    `${changed + type} changed`,
    `${attributes} with other attributes`,
  ];
  return `updated ${directory} from ${from} to ${image} (${counts.join(', ')}; ${data})`;
}
