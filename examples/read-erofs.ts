/** The tree of any uncompressed EROFS image: node examples/read-erofs.ts IMAGE.erofs */
import { readFileSync } from 'node:fs';
import { bufferSource, ErofsReader } from 'veneer/erofs';
import { lookupPath, walkTree } from 'veneer/tree';

const reader = new ErofsReader(bufferSource(readFileSync(process.argv[2]!)));
const { blockSize, devices } = reader.superblock;
console.log(`blocks of ${blockSize} bytes, ${devices.length} data devices`);
const tree = reader.readTree();
let names = 0;
walkTree(tree, () => names++);
console.log(`${names} names; /etc is ${lookupPath(tree, '/etc') === null ? 'not there' : 'there'}`);
