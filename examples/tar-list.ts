/** What is in a tar, and where its bytes stand: node examples/tar-list.ts FILE.tar */
import { readFileSync } from 'node:fs';
import { bufferSource } from 'veneer/erofs';
import { scanSource } from 'veneer/tar';

const tar = readFileSync(process.argv[2]!);
scanSource(bufferSource(tar), {
  onEntry({ type, path, size, payloadOffset }) {
    // Names are byte strings: one char a byte, whatever the encoding was.
    console.log(type, Buffer.from(path, 'latin1').toString(), size, payloadOffset);
  },
});
