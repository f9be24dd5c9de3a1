/** A tar becomes an EROFS image that holds everything: node examples/tar-to-erofs.ts FILE.tar IMAGE.erofs */
import { openSync, readFileSync, readSync, writeSync } from 'node:fs';
import { SelfContainedWriter } from 'veneer/erofs';
import { TarScanner } from 'veneer/tar';

const out = openSync(process.argv[3]!, 'w+');
const writer = new SelfContainedWriter(4096, {
  write: (bytes, at) => writeSync(out, bytes, 0, bytes.length, at),
});
const scanner = new TarScanner({ onEntry: writer.onEntry, onPayload: writer.onPayload });
scanner.write(readFileSync(process.argv[2]!));
scanner.end();
const readBack = (_source: number, at: number, length: number): Buffer => {
  const bytes = Buffer.alloc(length);
  readSync(out, bytes, 0, length, at);
  return bytes;
};
const { size } = writer.finish('any text that names the input', readBack);
console.log(`${size} bytes; mount -t erofs ${process.argv[3]} DIR`);
