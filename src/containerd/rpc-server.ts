/** The gRPC server: every call is logged and counted, every error becomes a status. */

import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import type { DescService, Message } from '@bufbuild/protobuf';
import {
  type ConnectionInjector,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { grpcError, serviceDefinition } from './grpc-service.ts';
import type { Metrics } from './metrics.ts';

/** A method: a promise of its answer, or a generator of its answers. */
type Method = (
  request: never,
  call: { readonly signal: AbortSignal },
) => Promise<Message> | AsyncGenerator<Message>;

const OPTIONS = {
  // What one connection may ask at once; containerd has one. What is slow is limited where it is done.
  'grpc.max_concurrent_streams': 1024,
  'grpc.max_receive_message_length': 16 << 20,
};

/** Expected in the daily life of containerd: it asks what is there by trying. */
const ORDINARY = new Set<number>([
  status.NOT_FOUND,
  status.ALREADY_EXISTS,
  status.UNIMPLEMENTED,
  status.CANCELLED,
]);

/** What was answered last gets so long to leave, and clients to hang up. */
const FAREWELL_MS = 1000;

export class RpcServer {
  readonly #server = new Server(OPTIONS);
  readonly #injector: ConnectionInjector;
  readonly #connections = new Set<Duplex>();
  readonly #log: Logger;
  readonly #metrics: Metrics;

  constructor(log: Logger, metrics: Metrics) {
    this.#log = log;
    this.#metrics = metrics;
    this.#injector = this.#server.createConnectionInjector(ServerCredentials.createInsecure());
  }

  /** Serves `methods` under their names in the .proto file. */
  add(service: DescService, methods: Readonly<Record<string, Method>>): void {
    const implementation: UntypedServiceImplementation = {};
    for (const { name, methodKind } of service.methods) {
      const method = methods[name];
      if (method === undefined) continue;
      implementation[name] =
        methodKind === 'server_streaming' ? this.#streaming(name, method) : this.#unary(name, method);
    }
    this.#server.addService(serviceDefinition(service), implementation);
  }

  /** Takes over a service that answers for itself; its calls are counted all the same. */
  addRaw(service: DescService, implementation: UntypedServiceImplementation): void {
    const counted: UntypedServiceImplementation = {};
    for (const [name, handler] of Object.entries(implementation)) {
      counted[name] = (call: ServerUnaryCall<Message, Message>, done: sendUnaryData<Message>) => {
        const end = this.#begin(name);
        (handler as (call: unknown, done: sendUnaryData<Message>) => void)(call, (error, value) => {
          end(error === null ? null : error);
          done(error, value);
        });
      };
    }
    this.#server.addService(serviceDefinition(service), counted);
  }

  accept(connection: Duplex): void {
    this.#connections.add(connection);
    connection.once('close', () => this.#connections.delete(connection));
    this.#injector.injectConnection(connection);
  }

  /** Waits for the calls that run, `graceMs` at the longest; new ones are refused. */
  async stop(graceMs: number): Promise<void> {
    this.#injector.drain(graceMs);
    await new Promise<void>((resolve) => {
      const force = setTimeout(() => {
        this.#server.forceShutdown();
        resolve();
      }, graceMs + 500);
      this.#server.tryShutdown(() => {
        clearTimeout(force);
        resolve();
      });
    });
    // Who does not hang up would keep the process.
    const open = [...this.#connections].map((connection) => once(connection, 'close'));
    await Promise.race([Promise.allSettled(open), delay(FAREWELL_MS, undefined, { ref: false })]);
    for (const connection of this.#connections) connection.destroy();
  }

  #unary(name: string, method: Method) {
    return (call: ServerUnaryCall<Message, Message>, done: sendUnaryData<Message>): void => {
      const end = this.#begin(name, call.request);
      const gone = new AbortController();
      // The library says so of every call, once it is over.
      let isOver = false;
      call.on('cancelled', () => {
        if (!isOver) gone.abort();
      });
      (method(call.request as never, { signal: gone.signal }) as Promise<Message>).then(
        (answer) => {
          isOver = true;
          end(null);
          done(null, answer);
        },
        (error: unknown) => {
          isOver = true;
          end(error);
          done(grpcError(error));
        },
      );
    };
  }

  #streaming(name: string, method: Method) {
    return async (call: ServerWritableStream<Message, Message>): Promise<void> => {
      const end = this.#begin(name, call.request);
      const gone = new AbortController();
      call.on('cancelled', () => gone.abort());
      try {
        const answers = method(call.request as never, { signal: gone.signal }) as AsyncGenerator<Message>;
        for await (const answer of answers) {
          if (gone.signal.aborted) break;
          if (call.write(answer)) continue;
          // Nobody who went away takes anything any more.
          await once(call, 'drain', { signal: gone.signal }).catch(() => {});
        }
        end(null);
        call.end();
      } catch (error) {
        end(error);
        call.emit('error', grpcError(error));
      }
    };
  }

  #begin(method: string, request?: Message): (error: unknown) => void {
    const started = performance.now();
    const count = this.#metrics.begin(method);
    const about = request === undefined ? {} : describeRequest(request);
    return (error) => {
      const ms = Math.round((performance.now() - started) * 100) / 100;
      if (error === null) {
        count('OK');
        this.#log.debug({ method, ...about, ms }, 'answered');
        return;
      }
      const { code, details } = isStatus(error) ? error : grpcError(error);
      count(status[code] ?? String(code));
      const level = ORDINARY.has(code) ? 'debug' : code === status.INTERNAL ? 'error' : 'warn';
      this.#log[level]({ method, ...about, ms, code: status[code], err: details }, 'refused');
    };
  }
}

function isStatus(error: unknown): error is { code: number; details: string } {
  return typeof (error as { code?: unknown }).code === 'number';
}

/** What a log line says of a request. */
function describeRequest(request: Message): Record<string, unknown> {
  const { key, name, parent } = request as { key?: unknown; name?: unknown; parent?: unknown };
  return Object.fromEntries(
    Object.entries({ key, name, parent }).filter(([, value]) => typeof value === 'string' && value !== ''),
  );
}
