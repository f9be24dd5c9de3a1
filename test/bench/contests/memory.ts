/** What peak memory grows with: entries, not bytes. */
import type { Contest, Contestant } from '../contest.ts';
import { madeUpImage } from '../inputs.ts';
import { type BenchLab, veneer } from '../lab.ts';

export function memoryContests(lab: BenchLab): Contest[] {
  const root = lab.path('memory-store');
  const pull = (key: 'big-file' | 'many-files', title: string): Contestant => {
    const image = madeUpImage(key, lab.directory);
    return {
      key,
      title,
      argv: veneer(
        'pull',
        `oci:${image.layout}:latest`,
        '--name',
        key,
        '--root',
        root,
        '--quiet',
        '--no-fsync',
      ),
      before: () => {
        lab.fresh('memory-store');
      },
      after: () => lab.remove('memory-store'),
    };
  };
  return [
    {
      name: 'memory',
      title: 'Peak memory of pull: bytes against entries',
      contestants: [pull('big-file', 'one file of 2 GB'), pull('many-files', '300,000 empty files')],
      targets: [{ text: 'one file of 2 GB', ours: 'big-file', metric: 'memory', plus: 300e6 }],
    },
  ];
}
