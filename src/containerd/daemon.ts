/**
 * The daemon: opens the store, cleans up behind a dead one, and serves until it is told to stop.
 *
 * Mounts are left alone when it stops, and found again when it starts: containers do not notice.
 */
import { mkdirSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import type { Server, Socket } from 'node:net';
import { dirname, join } from 'node:path';
import type { Logger } from 'pino';
import { VeneerError } from '../errors.ts';
import { mountedFiles } from '../mount/mounted-files.ts';
import { checkPrivilege } from '../mount/privilege.ts';
import { discard, unpublishDirectory } from '../store/atomic.ts';
import { listDirectory } from '../store/catalog.ts';
import { gc } from '../store/gc.ts';
import { listHolds, removeHold } from '../store/holds.ts';
import { IngestPool } from '../store/ingest-pool.ts';
import { type Lock, lockStanding } from '../store/locks.ts';
import { MergeThread } from '../store/merge-thread.ts';
import { Store } from '../store/store.ts';
import { notifyManager } from '../sys/notify.ts';
import { Applier } from './apply.ts';
import { Arrivals } from './arrivals.ts';
import { ChainMounts } from './chain-mounts.ts';
import { ContentRoot } from './content-root.ts';
import { diffService } from './diff-service.ts';
import { Diff } from './gen/diff_pb.ts';
import { Health } from './gen/health_pb.ts';
import { Snapshots as SnapshotsDescription } from './gen/snapshots_pb.ts';
import { healthService } from './health-service.ts';
import { IdleMerges } from './idle-merges.ts';
import { Metrics } from './metrics.ts';
import { RpcClient } from './rpc-client.ts';
import { RpcServer } from './rpc-server.ts';
import type { ServeConfig } from './serve-config.ts';
import { SnapshotDatabase } from './snapshot-db.ts';
import { HOLD_PREFIX, Snapshots } from './snapshots.ts';
import { snapshotsService } from './snapshots-service.ts';
import { listenPassed, listenTcp, listenUnix, passedSockets } from './sockets.ts';
import { Uploads } from './uploads.ts';

/** Running calls get so long to end before their connections are cut. */
const GRACE_MS = 10_000;
/** Garbage is collected so long after the last removal: an image goes layer by layer. */
const SWEEP_MS = 2_000;
/** Threads end when they were idle for so long. */
const REST_MS = 10_000;

export interface DaemonOptions {
  readonly config: ServeConfig & { readonly root: string };
  readonly log: Logger;
  readonly env: NodeJS.ProcessEnv;
  /** False trades crash safety of the machine for speed. */
  readonly fsync: boolean;
}

export class Daemon {
  readonly #config: DaemonOptions['config'];
  readonly #log: Logger;
  readonly #env: NodeJS.ProcessEnv;
  readonly #store: Store;
  readonly #merger: MergeThread;
  readonly #stopping = new AbortController();
  readonly #servers: Server[] = [];
  /** Undone in this order's reverse when the daemon ends. */
  readonly #closers: (() => unknown)[] = [];
  #rpc: RpcServer | null = null;
  #sweepTimer: NodeJS.Timeout | null = null;
  #sweeping: Promise<void> | null = null;

  private constructor({ config, log, env, fsync }: DaemonOptions) {
    this.#config = config;
    this.#log = log;
    this.#env = env;
    this.#store = Store.open(config.root, { fsync });
    this.#merger = new MergeThread(this.#store);
  }

  /** Starts to serve. Throws when it cannot, with nothing left behind. */
  static async start(options: DaemonOptions): Promise<Daemon> {
    checkPrivilege('serve snapshots');
    const daemon = new Daemon(options);
    try {
      await daemon.#start();
      return daemon;
    } catch (error) {
      await daemon.#close();
      throw error;
    }
  }

  /** Ends the running calls, then everything but the mounts. */
  async stop(): Promise<void> {
    if (this.#stopping.signal.aborted) return;
    this.#tell('STOPPING=1');
    this.#stopping.abort();
    this.#log.info('stopping');
    for (const server of this.#servers) server.close();
    await this.#rpc?.stop(GRACE_MS);
    if (this.#sweepTimer !== null) clearTimeout(this.#sweepTimer);
    await this.#swept();
    await this.#close();
    this.#log.info('stopped');
  }

  async #start(): Promise<void> {
    const store = this.#store;
    store.prepare();
    this.#closers.push(() => store.close());
    const directory = join(store.layout.root, 'containerd');
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const lock = this.#lock(join(directory, 'lock'));
    this.#closers.push(() => lock.release());

    const onProblem = (what: string, error: unknown): void =>
      this.#log.warn({ err: error instanceof Error ? error.message : String(error) }, `cannot ${what}`);
    const database = new SnapshotDatabase(join(directory, 'snapshots.db'), { fsync: store.fsync });
    this.#closers.push(() => database.close());
    const merger = this.#merger;
    this.#closers.push(() => merger.close());
    merger.start();
    const chains = new ChainMounts(store, merger, directory, this.#config);
    const pool = new IngestPool(1, { restAfter: REST_MS });
    this.#closers.push(() => pool.close());
    const client = new RpcClient(this.#config.containerd);
    this.#closers.push(() => client.close());
    const merges: IdleMerges = new IdleMerges(merger, () => applier.isConverting, onProblem);
    this.#closers.push(() => merges.close());
    const snapshots = new Snapshots({
      store,
      database,
      directory: join(directory, 'snapshots'),
      chains,
      pool,
      onCommit: (diffIds) => merges.add(diffIds),
      onRemove: () => this.#sweepLater(),
      onProblem,
    });
    const concurrency = this.#config.conversions === 0 ? undefined : this.#config.conversions;
    const contentRoot = new ContentRoot(client);
    const applier = new Applier(store, client, snapshots, {
      contentRoot,
      concurrency,
      onImage: (diffIds) => merges.begin(diffIds),
      onLayers: (diffIds) => merger.readAhead(diffIds),
      onGarbage: () => this.#sweepLater(),
      onProblem,
    });
    this.#closers.push(() => applier.close());
    if (this.#config.convert_on_arrival) {
      const uploads = new Uploads({ onUpload: (upload) => applier.uploadBegan(upload), onProblem });
      this.#closers.push(() => uploads.close());
      const arrivals = new Arrivals(client, {
        onConnect: async (call) => {
          contentRoot.forget();
          const root = await contentRoot.find(call);
          if (root !== null) uploads.open(root);
        },
        onBlob: (digest, size, call) =>
          void applier
            .blobArrived(digest, size, call)
            .catch((error: unknown) => onProblem(`look at blob ${digest}`, error)),
        onDelete: (digest) => applier.blobDeleted(digest),
      });
      this.#closers.push(() => arrivals.close());
    }

    await snapshots.open();
    this.#removeOrphans(snapshots, chains, join(directory, 'snapshots'));

    const metrics = new Metrics({
      snapshots: () => countKinds(database),
      conversions: () => applier.load,
      mountedChains: () => chains.count(),
    });
    const rpc = new RpcServer(this.#log, metrics);
    this.#rpc = rpc;
    rpc.add(
      SnapshotsDescription,
      snapshotsService(snapshots, () => this.#sweepIfDue()),
    );
    rpc.addRaw(Diff, diffService({ store, client, applier, targets: snapshots }));
    const names = [SnapshotsDescription.typeName, Diff.typeName];
    rpc.add(Health, healthService(names, this.#stopping.signal));
    await this.#listen(rpc, metrics);
    this.#keepWatch();
    const { address, root, mounts: form, format } = this.#config;
    this.#log.info({ address, root, mounts: form, format }, 'serving');
    this.#tell('READY=1');
    this.#sweepLater(0);
  }

  #lock(path: string): Lock {
    const lock = lockStanding(path, 'exclusive', false);
    if (lock !== null) return lock;
    throw new VeneerError(
      'serve/running',
      `Cannot serve ${this.#store.layout.root}: another veneer serve does`,
      {
        hint: 'stop it, or give another --root',
      },
    );
  }

  async #listen(rpc: RpcServer, metrics: Metrics): Promise<void> {
    const passed = passedSockets(this.#env);
    const accept = (socket: Socket): void => rpc.accept(socket);
    const main = passed.get('grpc') ?? (passed.size === 1 ? [...passed.values()][0] : undefined);
    const { address } = this.#config;
    this.#servers.push(
      main === undefined ? await listenUnix(address, accept) : await listenPassed(main, accept),
    );
    const where = this.#config.metrics ?? `unix:${join(dirname(address), 'metrics.sock')}`;
    const inherited = passed.get('metrics');
    if (where === 'off' && inherited === undefined) return;
    const http = metricsServer(metrics);
    this.#closers.push(() => http.close());
    const connections = new Set<Socket>();
    const hand = (socket: Socket): void => {
      connections.add(socket);
      socket.once('close', () => connections.delete(socket));
      http.emit('connection', socket);
    };
    // Scrapers keep theirs open, and each would keep the process.
    this.#closers.push(() => {
      for (const socket of connections) socket.destroy();
    });
    const tcp = /^(.*):(\d+)$/.exec(where);
    if (inherited !== undefined) this.#servers.push(await listenPassed(inherited, hand));
    else if (where.startsWith('unix:')) this.#servers.push(await listenUnix(where.slice(5), hand));
    else this.#servers.push(await listenTcp(tcp![1]!.replace(/^\[(.*)\]$/, '$1'), Number(tcp![2]), hand));
  }

  /** What a dead daemon left: directories and holds of snapshots that never were, chains that nobody needs. */
  #removeOrphans(snapshots: Snapshots, chains: ChainMounts, directory: string): void {
    const { ids, directories, chains: used } = snapshots.book.inUse();
    for (const name of listDirectory(directory)) {
      if (directories.has(Number(name))) continue;
      const trash = unpublishDirectory(join(directory, name), { work: this.#store.layout.tmp, fsync: false });
      this.#log.info({ name }, 'removing what is left of a snapshot');
      if (trash !== null) void discard(trash).catch((error: unknown) => this.#log.warn(error));
    }
    for (const hold of listHolds(this.#store)) {
      if (hold.startsWith(HOLD_PREFIX) && !ids.has(Number(hold.slice(HOLD_PREFIX.length))))
        removeHold(this.#store, hold);
    }
    chains.sweep(used);
  }

  #sweepLater(after = SWEEP_MS): void {
    if (this.#sweepTimer !== null) clearTimeout(this.#sweepTimer);
    this.#sweepTimer = setTimeout(() => {
      this.#sweep().catch((error: unknown) => this.#log.warn(error, 'cannot collect garbage'));
    }, after).unref();
  }

  /** containerd asks after each container, and those leave nothing in the store. */
  async #sweepIfDue(): Promise<void> {
    if (this.#sweepTimer !== null || this.#sweeping !== null) await this.#sweep();
  }

  /** Collects garbage; callers that come meanwhile wait for another run, for this one may have looked already. */
  async #sweep(): Promise<void> {
    while (this.#sweeping !== null) await this.#swept();
    if (this.#sweepTimer !== null) clearTimeout(this.#sweepTimer);
    this.#sweepTimer = null;
    const { run } = this.#store.layout;
    const { running, asked } = this.#merger.load;
    this.#sweeping = gc(this.#store, { mountedFiles: () => mountedFiles(run), keepDownloads: true })
      .then((report) => {
        if (report.layers.length > 0 || report.chains.length > 0)
          this.#log.info(
            { layers: report.layers.length, chains: report.chains.length, bytes: report.bytes },
            'removed garbage',
          );
      })
      .finally(() => {
        this.#sweeping = null;
        // What is being merged stays, and may be nobody's when that ends.
        const hasMerged = running > 0 || this.#merger.load.asked > asked;
        if (hasMerged && !this.#stopping.signal.aborted) this.#sweepLater();
      });
    return this.#sweeping;
  }

  /** Waits for the collection that runs. Who began it is told how it went. */
  async #swept(): Promise<void> {
    await this.#sweeping?.catch(() => {});
  }

  /** systemd's watchdog: half of its time is what sd_watchdog_enabled(3) advises. */
  #keepWatch(): void {
    const { WATCHDOG_USEC, WATCHDOG_PID } = this.#env;
    if (WATCHDOG_USEC === undefined || (WATCHDOG_PID !== undefined && Number(WATCHDOG_PID) !== process.pid))
      return;
    const timer = setInterval(() => this.#tell('WATCHDOG=1'), Number(WATCHDOG_USEC) / 2000).unref();
    this.#closers.push(() => clearInterval(timer));
  }

  #tell(state: string): void {
    const { NOTIFY_SOCKET } = this.#env;
    if (NOTIFY_SOCKET === undefined || NOTIFY_SOCKET === '') return;
    try {
      notifyManager(NOTIFY_SOCKET, state);
    } catch (error) {
      this.#log.warn(error, 'cannot tell the service manager');
    }
  }

  async #close(): Promise<void> {
    for (const server of this.#servers) server.close();
    const problems: unknown[] = [];
    for (const close of this.#closers.splice(0).reverse()) {
      try {
        await close();
      } catch (error) {
        problems.push(error);
      }
    }
    // What comes later is closed all the same.
    if (problems.length > 0) throw problems[0];
  }
}

function countKinds(database: SnapshotDatabase): Record<string, number> {
  const counts = { active: 0, view: 0, committed: 0 };
  for (const { kind } of database.list()) counts[kind]++;
  return counts;
}

function metricsServer(metrics: Metrics): ReturnType<typeof createHttpServer> {
  return createHttpServer((request, response) => {
    const path = request.url?.split('?')[0];
    if (path === '/healthz') response.end('ok\n');
    else if (path === '/metrics')
      metrics.text().then(
        (text) => response.writeHead(200, { 'content-type': metrics.contentType }).end(text),
        (error: unknown) => response.writeHead(500).end(String(error)),
      );
    else response.writeHead(404).end('try /metrics\n');
  });
}
