/** Layers to one tree, whiteouts resolved: node examples/merge-layers.ts LOWEST.tar ... TOPMOST.tar */
import { readFileSync } from 'node:fs';
import { bufferSource } from 'veneer/erofs';
import { scanSource } from 'veneer/tar';
import { countLinks, mergeLayers, TreeBuilder, walkTree } from 'veneer/tree';

const layers = process.argv.slice(2).map((file) => {
  const builder = new TreeBuilder();
  scanSource(bufferSource(readFileSync(file)), { onEntry: (entry) => builder.add(entry) });
  return builder.finish();
});
const image = mergeLayers(layers);
const links = countLinks(image);
walkTree(image, (path, node) => {
  console.log(
    (node.mode & 0o7777).toString(8),
    links.get(node),
    `/${Buffer.from(path, 'latin1').toString()}`,
  );
});
