/** A tar from a stream: kept, hashed and scanned in one pass. */
import { createHash } from 'node:crypto';
import type { ByteSink } from '../bytes/io.ts';
import type { Finding } from '../errors.ts';
import { checkPlainTar } from '../store/plain-tar.ts';
import { TarScanner } from '../tar/index.ts';
import { type FileTree, TreeBuilder } from '../tree/index.ts';

export interface KeptTar {
  /** Its source has digest and size. */
  readonly tree: FileTree;
  readonly entries: number;
  readonly size: number;
  readonly digest: string;
  /** Of the scan; those of the tree are in it. */
  readonly findings: readonly Finding[];
}

/** `name` is for messages. */
export async function keepTar(input: AsyncIterable<Buffer>, kept: ByteSink, name: string): Promise<KeptTar> {
  const builder = new TreeBuilder();
  const scanner = new TarScanner({ onEntry: (entry) => builder.add(entry) });
  const hash = createHash('sha256');
  let size = 0;
  for await (const chunk of input) {
    if (size === 0) checkPlainTar(chunk, name);
    kept.write(chunk, size);
    size += chunk.length;
    hash.update(chunk);
    scanner.write(chunk);
  }
  scanner.end();
  const tree = builder.finish();
  const digest = `sha256:${hash.digest('hex')}`;
  tree.sources[0]!.size = size;
  tree.sources[0]!.digest = digest;
  return { tree, entries: scanner.entries, size, digest, findings: scanner.findings };
}
