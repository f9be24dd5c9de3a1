/**
 * A process that works on a store, for tests that need several or kill them:
 *
 *     node store-worker.ts ROOT ACTION...
 *
 * ACTION is `pull:LAYOUT:NAME`, `fetch:LAYOUT:NAME` (the same as if it were a registry, with downloads to resume),
 * `rm:NAME` (which may be missing), `mountable:NAME`, `gc`, `compact`, `fsck` and `repair` (which find no error), `verify`, or `again` (all from the first, for ever). With
 * VENEER_TEST_FSYNC in the environment everything is made durable.
 */
import { VeneerError } from '../../src/errors.ts';
import { openLayout } from '../../src/oci/layout.ts';
import {
  compact,
  fsck,
  gc,
  mountable,
  pullImage,
  removeImage,
  resolveImage,
  Store,
  verify,
} from '../../src/store/index.ts';

const [root = '', ...actions] = process.argv.slice(2);
const store = Store.open(root, { fsync: process.env.VENEER_TEST_FSYNC !== undefined });

async function pull(layout: string, name: string, local: boolean): Promise<void> {
  const source = await openLayout(layout);
  try {
    await pullImage(store, { ...source, local }, { name });
  } finally {
    await source.close();
  }
}

function remove(name: string): void {
  try {
    removeImage(store, name);
  } catch (error) {
    if (!(error instanceof VeneerError) || error.code !== 'store/no-image') throw error;
  }
}

async function prepareMount(name: string): Promise<void> {
  const shared = store.share();
  try {
    await mountable(store, resolveImage(store, name), 'merged');
    await mountable(store, resolveImage(store, name), 'layers');
  } finally {
    shared.release();
  }
}

async function check(repair: boolean): Promise<void> {
  const { problems } = await fsck(store, { repair });
  const errors = problems.filter(({ severity }) => severity === 'error');
  if (errors.length > 0) throw new Error(JSON.stringify(errors));
}

async function hashAll(): Promise<void> {
  const { problems } = await verify(store);
  if (problems.length > 0) throw new Error(JSON.stringify(problems));
}

async function act(action: string): Promise<void> {
  const [what, first = '', second = ''] = action.split(':');
  if (what === 'pull' || what === 'fetch') await pull(first, second, what === 'pull');
  else if (what === 'rm') remove(first);
  else if (what === 'mountable') await prepareMount(first);
  else if (what === 'gc') await gc(store);
  else if (what === 'compact') await compact(store);
  else if (what === 'fsck' || what === 'repair') await check(what === 'repair');
  else if (what === 'verify') await hashAll();
  else throw new Error(`no such action: ${action}`);
}

try {
  process.stdout.write('ready\n');
  const endless = actions.at(-1) === 'again';
  do {
    for (const action of endless ? actions.slice(0, -1) : actions) await act(action);
  } while (endless);
  store.close();
} catch (error) {
  process.stderr.write(`${error instanceof VeneerError ? error.code : ''} ${String(error)}\n`);
  process.exitCode = 1;
}
