/** Pulls what `veneer pull` takes and mounts it, as root: node examples/pull-and-mount.ts SOURCE STORE DIR */
import {
  applyMount,
  mountable,
  openDockerArchive,
  openLayout,
  openRegistry,
  parseImageSource,
  planMount,
  probeCapabilities,
  pullImage,
  Store,
  unmount,
} from 'veneer';

const [text, root, target] = process.argv.slice(2);
const named = parseImageSource(text!);
const source =
  named.kind === 'layout'
    ? await openLayout(named.dir, named)
    : named.kind === 'docker-archive'
      ? await openDockerArchive(named.file, named.name)
      : openRegistry(named.reference);
const store = Store.open(root!);
const image = await pullImage(store, source);
await source.close();

const runDir = store.layout.run;
// No gc of another process takes the files away before the mount has them.
const lock = store.share();
const images = await mountable(store, image, 'merged');
const request = { target: target!, mode: 'merged', images, options: [], backing: 'auto', runDir } as const;
const mounted = applyMount(planMount(request, probeCapabilities()));
lock.release();
console.log(`${image.name} is on ${mounted.target}`);
unmount(mounted.target, runDir);
store.close();
