/**
 * libc.so.6 through koffi: the only importer of the FFI library.
 *
 * The library costs several milliseconds to load, so nothing is loaded before the first call, and each
 * function is bound when it is first asked for. Calls are synchronous; they may be made inside workers.
 */
import { createRequire } from 'node:module';
import type koffiTypes from 'koffi';

type Koffi = typeof koffiTypes;

/** A pointer argument: bytes that the call reads or fills, or NULL. */
export type Pointer = Uint8Array | null;

/** What is called, in C's words and in ours. 64-bit results come back as numbers below 2^53. */
interface Libc {
  flock(fd: number, operation: number): number;
}

const PROTOTYPES: Record<keyof Libc, readonly [symbol: string, result: string, args: readonly string[]]> = {
  flock: ['flock', 'int', ['int', 'int']],
};

let koffi: Koffi | undefined;
let library: ReturnType<Koffi['load']> | undefined;
const bound: Partial<Libc> = {};

/** The named function, bound on first use. */
export function libc<K extends keyof Libc>(name: K): Libc[K] {
  const known = bound[name];
  if (known !== undefined) return known;
  koffi ??= createRequire(import.meta.url)('koffi') as Koffi;
  library ??= koffi.load('libc.so.6');
  const [symbol, result, args] = PROTOTYPES[name];
  const fn = library.func(symbol, result, [...args]) as unknown as Libc[K];
  bound[name] = fn;
  return fn;
}

/** errno of the last failed call. Only meaningful directly after a call that returned -1. */
export function errno(): number {
  return koffi?.errno() ?? 0;
}
