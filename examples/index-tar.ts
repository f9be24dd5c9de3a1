/** Metadata only, over a tar that stays as it is: node examples/index-tar.ts FILE.tar IMAGE.erofs */
import { openSync, readFileSync, writeSync } from 'node:fs';
import { bufferSource, planImage, writeImage } from 'veneer/erofs';
import { scanSource } from 'veneer/tar';
import { TreeBuilder } from 'veneer/tree';

const tar = bufferSource(readFileSync(process.argv[2]!));
const builder = new TreeBuilder();
scanSource(tar, { onEntry: (entry) => builder.add(entry) });
const tree = builder.finish();
tree.sources[0]!.size = tar.size;
const plan = planImage(tree, { blockSize: 512 });
const out = openSync(process.argv[3]!, 'w');
writeImage(
  plan,
  { write: (bytes, at) => writeSync(out, bytes, 0, bytes.length, at) },
  (_source, at, length) => tar.read(at, length),
);
console.log(`${plan.size} bytes of metadata for ${tar.size} bytes of tar`);
