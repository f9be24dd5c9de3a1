/** What changed from one tar to another: node examples/diff-tars.ts OLD.tar NEW.tar */
import { readFileSync } from 'node:fs';
import { type DiffSide, diffTrees } from 'veneer/diff';
import { bufferSource } from 'veneer/erofs';
import { scanSource } from 'veneer/tar';
import { TreeBuilder } from 'veneer/tree';

const [old, now] = process.argv.slice(2).map((file): DiffSide => {
  const tar = bufferSource(readFileSync(file));
  const builder = new TreeBuilder();
  scanSource(tar, { onEntry: (entry) => builder.add(entry) });
  // With the tars' digests here, files that stand in the same place of the same tar would not be read.
  return { root: builder.finish().root, sources: [''], data: () => tar };
});
for (const { kind, place, from, differs } of await diffTrees(old!, now!)) {
  const show = (path: string): string => `/${Buffer.from(path, 'latin1').toString()}`;
  const names = from === null ? [show(place.path())] : [show(from.path()), '->', show(place.path())];
  console.log([kind, ...names, ...differs].join(' '));
}
