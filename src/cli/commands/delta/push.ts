/** `veneer delta push` */
import { formatBytes } from '../../../progress/units.ts';
import { defineCommand, oneOf } from '../../command.ts';
import { openDelta } from '../../delta/open-delta.ts';
import { PROGRESS_FLAG, type ProgressFlags, withProgress } from '../../progress.ts';

type Flags = ProgressFlags & { readonly insecure: boolean };

export default defineCommand<Flags, [delta: string, repository: string]>({
  name: 'delta push',
  brief: 'Put a delta beside its image in a registry',
  usage: ['delta push oci:DIR[:TAG] REPOSITORY'],
  description: `"pull --delta-from" finds it there: by the registry's list of referrers, or where it keeps none under the tag that
stands in for it (sha256-DIGEST). Tools that copy images do not take deltas along.
A tag behind REPOSITORY does not matter: the delta says itself which manifest it is for.
Credentials come from docker's config.json and its credential helpers.`,
  examples: [
    ['delta push oci:deltas registry.example/app', 'what "delta create -o oci:deltas" made'],
    ['delta push oci:deltas:app-1-to-2 localhost:5000/app', 'one of several'],
  ],
  parameters: {
    flags: {
      insecure: {
        kind: 'boolean',
        default: false,
        withNegated: false,
        brief: 'Allow plain HTTP and unknown certificates (a registry on this machine may have HTTP anyway)',
      },
      ...PROGRESS_FLAG,
    },
    positional: {
      kind: 'tuple',
      parameters: [oneOf('oci:DIR[:TAG]', 'The delta'), oneOf('REPOSITORY', 'Where its image is')],
    },
  },
  completes: ['folder', 'none'],
  noRoot: true,
  async run(context, flags, place, repository) {
    const { parseReference } = await import('../../../oci/reference.ts');
    const { openLayout } = await import('../../../oci/layout.ts');
    const { pushReferrer } = await import('../../../registry/push.ts');
    const reference = parseReference(repository);
    const { dir, descriptor } = await openDelta(place);
    const layout = await openLayout(dir, { digest: descriptor.digest });
    try {
      const bytes = await layout.referrers!.read(descriptor);
      const artifact = { descriptor, bytes, openBlob: (blob: typeof descriptor) => layout.openBlob(blob, 0) };
      const pushed = await withProgress(context, flags, ({ onProgress }) =>
        pushReferrer(reference, artifact, { insecure: flags.insecure, onProgress, env: context.env }),
      );
      if (!pushed.subjectThere)
        context.out.note(
          `the image that the delta is for is not in ${repository}: push ${pushed.subject} too`,
        );
      context.out.result(pushed, () => {
        const listed = pushed.tag === null ? 'as a referrer' : `under the tag ${pushed.tag}`;
        return `pushed ${pushed.digest} to ${repository}, listed ${listed} (${formatBytes(pushed.sent)} sent)`;
      });
    } finally {
      await layout.close();
    }
    return undefined;
  },
});
