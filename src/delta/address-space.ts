/** The sources of a delta, one behind another: an address tells both the source and the place in it. */
import type { ByteSource } from '../bytes/io.ts';

export class AddressSpace {
  readonly sources: readonly ByteSource[];
  /** Where each source begins; of those that are empty the place of the next. */
  readonly starts: readonly number[];
  readonly startSet: ReadonlySet<number>;

  constructor(sources: readonly ByteSource[]) {
    let at = 0;
    this.sources = sources;
    this.starts = sources.map(({ size }) => {
      at += size;
      return at - size;
    });
    this.startSet = new Set(this.starts);
  }

  /** Reads what stands at an address; never over the end of a source. */
  read(address: number, length: number, scratch?: Buffer): Buffer {
    let index = this.starts.length - 1;
    while (this.starts[index]! > address) index--;
    return this.sources[index]!.read(address - this.starts[index]!, length, scratch);
  }
}
