/** Puts one act of another process at an exact point of work on a store. */
import type { Store } from '../../src/store/store.ts';

const PLACES = ['layers', 'blobs', 'images', 'chains', 'linked', 'leases', 'database'] as const;

/** Calls `act` when the places of the store have been looked up `turn` times; false when it never came to that. */
export async function actingAt(
  store: Store,
  turn: number,
  act: () => void,
  work: () => Promise<void>,
): Promise<boolean> {
  const { layout } = store;
  let left = turn;
  let done = false;
  for (const place of PLACES) {
    const path = layout[place];
    Object.defineProperty(layout, place, {
      configurable: true,
      get() {
        if (!done && left-- === 0) {
          done = true;
          act();
        }
        return path;
      },
    });
  }
  await work();
  return done;
}
