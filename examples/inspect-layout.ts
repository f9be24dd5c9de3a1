/** The layers of an image in an OCI layout: node examples/inspect-layout.ts DIR [TAG] */
import { hostPlatform, openLayout } from 'veneer/oci';

const [dir, tag] = process.argv.slice(2);
const source = await openLayout(dir!, tag === undefined ? {} : { tag });
const { manifest, config } = await source.resolve(hostPlatform());
manifest.layers.forEach((layer, index) => {
  console.log(layer.digest, layer.size, config.diffIds[index]);
});
await source.close();
