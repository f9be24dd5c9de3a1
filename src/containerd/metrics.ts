/** What Prometheus is told. */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import { collectProcessMetrics } from './process-metrics.ts';

/** Asked when somebody scrapes. */
export interface MetricsSources {
  snapshots(): Readonly<Record<string, number>>;
  conversions(): { readonly running: number; readonly waiting: number };
  mountedChains(): number;
}

/** Seconds; a Prepare takes milliseconds, the Apply of a large layer a while. */
const BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

export class Metrics {
  readonly #registry = new Registry();
  readonly #calls: Counter<'method' | 'code'>;
  readonly #seconds: Histogram<'method'>;
  readonly #running: Gauge<'method'>;

  constructor(sources: MetricsSources) {
    const registers = [this.#registry];
    collectProcessMetrics(this.#registry);
    this.#calls = new Counter({
      name: 'veneer_grpc_calls_total',
      help: 'gRPC calls that were answered.',
      labelNames: ['method', 'code'],
      registers,
    });
    this.#seconds = new Histogram({
      name: 'veneer_grpc_seconds',
      help: 'Time from a gRPC call to its answer.',
      labelNames: ['method'],
      buckets: BUCKETS,
      registers,
    });
    this.#running = new Gauge({
      name: 'veneer_grpc_running',
      help: 'gRPC calls that are being answered.',
      labelNames: ['method'],
      registers,
    });
    new Gauge({
      name: 'veneer_snapshots',
      help: 'Snapshots by kind.',
      labelNames: ['kind'],
      registers,
      collect() {
        for (const [kind, count] of Object.entries(sources.snapshots())) this.set({ kind }, count);
      },
    });
    new Gauge({
      name: 'veneer_conversions',
      help: 'Layers that are being converted, and that wait for their turn.',
      labelNames: ['state'],
      registers,
      collect() {
        for (const [state, count] of Object.entries(sources.conversions())) this.set({ state }, count);
      },
    });
    new Gauge({
      name: 'veneer_mounted_chains',
      help: 'Merged images that are mounted for snapshots.',
      registers,
      collect() {
        this.set(sources.mountedChains());
      },
    });
  }

  /** Counts one call from now until the returned function is told how it ended. */
  begin(method: string): (code: string) => void {
    const end = this.#seconds.startTimer({ method });
    this.#running.inc({ method });
    return (code) => {
      end();
      this.#running.dec({ method });
      this.#calls.inc({ method, code });
    };
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  text(): Promise<string> {
    return this.#registry.metrics();
  }
}
