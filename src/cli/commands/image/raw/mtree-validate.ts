/** `veneer image raw mtree-validate` */
import { displayByteString } from '../../../../bytes/byte-string.ts';
import { VeneerError } from '../../../../errors.ts';
import { formatCount } from '../../../../progress/units.ts';
import { defineImageCommand, tell } from '../../../image/define.ts';
import { usageError } from '../../../parse.ts';

interface Flags {
  readonly manifest?: string;
  readonly path?: string;
  readonly 'add-keywords'?: string;
  readonly 'use-keywords'?: string;
  readonly 'umoci-keywords': boolean;
  readonly rootless: boolean;
}

const NAME = 'image raw mtree-validate';

export default defineImageCommand<Flags>({
  name: NAME,
  brief: 'Compare a directory with an mtree file',
  usage: ['image raw mtree-validate --manifest FILE --path DIR [FLAGS]'],
  description: `Prints a line for everything in DIR that is not as FILE says, and fails when there is one. Keywords are separated by
commas or blanks; those that FILE uses are compared.`,
  examples: [
    ['image raw mtree-validate -f bundle/sha256_….mtree -p bundle/rootfs', 'what was changed in a bundle'],
    ['image raw mtree-validate -f spec.mtree -p dir -k type,size,mode', 'only some facts'],
  ],
  flags: {
    manifest: { brief: 'The mtree file (also -f, --file)', placeholder: 'FILE', aliases: ['f', 'file'] },
    path: { brief: 'The directory (also -p)', placeholder: 'DIR', aliases: ['p'] },
    'add-keywords': { brief: 'Compare these too (also -K)', placeholder: 'KEYWORDS', aliases: ['K'] },
    'use-keywords': { brief: 'Compare these only (also -k)', placeholder: 'KEYWORDS', aliases: ['k'] },
    'umoci-keywords': { brief: 'Compare those that bundles have' },
    rootless: { brief: 'Taken, and without effect: what its owner may not read is read always' },
  },
  async run(context, flags) {
    const { manifest, path } = flags;
    if (!manifest) throw usageError(NAME, '--manifest FILE is missing');
    if (!path) throw usageError(NAME, '--path DIR is missing');
    const { validateMtree } = await import('../../../../bundle/mtree/validate.ts');
    const mismatches = await validateMtree(manifest, path, {
      use: flags['use-keywords'] === undefined ? null : wordsOf(flags['use-keywords']),
      add: wordsOf(flags['add-keywords'] ?? ''),
      umoci: flags['umoci-keywords'],
      signal: context.signal,
    });
    for (const mismatch of mismatches) {
      const { path: name, what, differences } = mismatch;
      context.out.result({ ...mismatch, path: displayByteString(name) }, () => {
        const shown = JSON.stringify(name === '' ? '.' : displayByteString(name));
        if (what === 'missing') return `${shown}: missing path`;
        if (what === 'unexpected') return `${shown}: unexpected path`;
        const { keyword, expected, found } = differences[0]!;
        return `${shown}: keyword ${JSON.stringify(keyword)}: expected ${expected ?? ''}; got ${found ?? ''}`;
      });
    }
    if (mismatches.length > 0) {
      const count = formatCount(mismatches.length, 'difference');
      throw new VeneerError('rootfs/changed', `Cannot validate ${path}: ${count} found`);
    }
    tell(context, flags, { manifest, path, differences: 0 }, `${path} is as ${manifest} says`);
  },
});

const wordsOf = (text: string): string[] => text.split(/[ ,]+/).filter((word) => word !== '');
