/** Opens the store that the flags name for the time of some work. */
import type { Store } from '../store/store.ts';
import type { CliContext, CommonFlags } from './context.ts';
import { storeRoot } from './root.ts';

/** The files of the store that mounts use, as their records say. */
export async function filesInUse(store: Store): Promise<string[]> {
  const { mountedFiles } = await import('../mount/mounted-files.ts');
  return mountedFiles(store.layout.run);
}

export async function withStore<T>(
  context: CliContext,
  flags: CommonFlags & { readonly fsync?: boolean },
  work: (store: Store) => Promise<T>,
): Promise<T> {
  const { Store } = await import('../store/store.ts');
  const store = Store.open(storeRoot(flags, context.env), { fsync: flags.fsync ?? true });
  try {
    return await work(store);
  } finally {
    store.close();
  }
}
