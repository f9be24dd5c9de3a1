/** Pulls from an OCI layout and prints one file, no root: node examples/pull-and-read.ts DIR STORE PATH */
import { openLayout } from 'veneer/oci';
import { openTree, pullImage, Store } from 'veneer/store';
import { lookupPath } from 'veneer/tree';

const [dir, root, path] = process.argv.slice(2);
const store = Store.open(root!);
const source = await openLayout(dir!);
const image = await pullImage(store, source, { onProgress: (event) => void event });
await source.close();

const opened = await openTree(store, image);
const node = lookupPath(opened.tree, Buffer.from(path!).toString('latin1'), true);
if (node === null) console.log('no such file');
else for await (const chunk of opened.readFile(node)) process.stdout.write(chunk);
opened.close();
store.close();
