/** Calls to containerd's own services, in the caller's namespace and lease. */
import {
  create,
  type DescMessage,
  type DescMethodBiDiStreaming,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import {
  Client,
  type ClientDuplexStream,
  type ClientReadableStream,
  credentials,
  Metadata,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { type ErrorCode, VeneerError } from '../errors.ts';
import { throwIfAborted } from '../store/locks.ts';

/** What containerd's context carries from call to call. */
const NAMESPACE = 'containerd-namespace';
const PASSED_ON = [NAMESPACE, 'containerd-lease'];
/** containerd sends at most 1 MiB of content at once (its buffers), in a message of little more. */
const MAX_MESSAGE = 16 << 20;
/** So many bytes may be on their way to us; the protocol's own 64 KiB would make every chunk wait. */
const WINDOW = 4 << 20;

/** A socket that does not answer is tried again after so many milliseconds, */
const RECONNECT = 200;
/** and given up after so many. */
const PATIENCE = 3000;

/** In whose name a call is made, and what ends it. */
export interface CallContext {
  readonly metadata: Metadata;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The context of calls that an incoming call leads to. `guess` is asked for the namespace where the call does not say
 * one: containerd 1.7 sends its proxy differs nothing at all.
 */
export function passOn(
  incoming: Metadata,
  signal?: AbortSignal,
  guess: () => string | null = () => null,
): CallContext {
  const metadata = new Metadata();
  for (const key of PASSED_ON) for (const value of incoming.get(key)) metadata.add(key, value);
  if (metadata.get(NAMESPACE).length === 0) {
    const namespace = guess();
    if (namespace !== null) metadata.set(NAMESPACE, namespace);
  }
  return { metadata, signal };
}

/** A call of our own. */
export function contextOf(namespace: string): CallContext {
  const metadata = new Metadata();
  metadata.set(NAMESPACE, namespace);
  return { metadata };
}

/** A connection that is made with the first call, and made anew when containerd was restarted. */
export class RpcClient {
  readonly #address: string;
  readonly #client: Client;
  #closed = false;

  /** `address` is the path of containerd's socket. */
  constructor(address: string) {
    this.#address = address;
    this.#client = new Client(`unix:${address}`, credentials.createInsecure(), {
      'grpc.default_authority': 'localhost',
      'grpc.max_receive_message_length': MAX_MESSAGE,
      'grpc-node.flow_control_window': WINDOW,
      'grpc.initial_reconnect_backoff_ms': RECONNECT,
      'grpc.max_reconnect_backoff_ms': RECONNECT,
    });
  }

  close(): void {
    this.#closed = true;
    this.#client.close();
  }

  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    { metadata, signal }: CallContext,
  ): Promise<MessageShape<O>> {
    await this.connect(signal);
    throwIfAborted(signal);
    return new Promise((resolve, reject) => {
      const cancel = (): void => call.cancel();
      const call = this.#client.makeUnaryRequest(
        pathOf(method),
        serializer(method.input),
        deserializer(method.output),
        create(method.input, request),
        metadata,
        (error, value) => {
          signal?.removeEventListener('abort', cancel);
          if (error !== null) reject(this.explain(method.name, error));
          else resolve(value!);
        },
      );
      signal?.addEventListener('abort', cancel, { once: true });
    });
  }

  /** The messages as they come; leaving the loop ends the call. */
  async *read<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
    { metadata, signal }: CallContext,
  ): AsyncGenerator<MessageShape<O>, void, undefined> {
    await this.connect(signal);
    throwIfAborted(signal);
    const call: ClientReadableStream<MessageShape<O>> = this.#client.makeServerStreamRequest(
      pathOf(method),
      serializer(method.input),
      deserializer(method.output),
      create(method.input, request),
      metadata,
    );
    const cancel = (): void => call.cancel();
    signal?.addEventListener('abort', cancel, { once: true });
    try {
      yield* call as AsyncIterable<MessageShape<O>>;
    } catch (error) {
      throw this.explain(method.name, error as ServiceError);
    } finally {
      signal?.removeEventListener('abort', cancel);
      call.cancel();
    }
  }

  /** Both ways; whoever opens it ends or cancels it. */
  open<I extends DescMessage, O extends DescMessage>(
    method: DescMethodBiDiStreaming<I, O>,
    { metadata }: CallContext,
  ): ClientDuplexStream<MessageShape<I>, MessageShape<O>> {
    return this.#client.makeBidiStreamRequest(
      pathOf(method),
      serializer(method.input),
      deserializer(method.output),
      metadata,
    );
  }

  /**
   * Waits for containerd, which may have been restarted a moment ago; costs nothing while the connection stands. Throws
   * `containerd/unavailable`, `io/cancelled`.
   */
  async connect(signal?: AbortSignal): Promise<void> {
    for (const since = performance.now(); ; ) {
      throwIfAborted(signal);
      const error = await this.#ready();
      if (error === null) return;
      if (!this.#closed && performance.now() - since < PATIENCE) continue;
      const message = `Cannot reach containerd at ${this.#address}: it does not answer`;
      throw new VeneerError('containerd/unavailable', message, { hint: HINT, cause: error });
    }
  }

  /** Null when the connection stands. Waits a moment only: the library's clock would keep a process that wants to end. */
  #ready(): Promise<Error | null> {
    return new Promise((resolve) => {
      this.#client.waitForReady(Date.now() + RECONNECT, (error) => resolve(error ?? null));
    });
  }

  /** What went wrong in containerd, as an error of ours. */
  explain(what: string, error: ServiceError): VeneerError {
    const code = CODES.get(error.code) ?? 'containerd/failed';
    return new VeneerError(code, `Cannot ${what} at ${this.#address}: ${error.details ?? error.message}`, {
      cause: error,
      ...(code === 'containerd/unavailable' ? { hint: HINT } : {}),
    });
  }
}

const HINT = 'is containerd running, and is this its socket?';

const CODES: ReadonlyMap<status, ErrorCode> = new Map([
  [status.NOT_FOUND, 'containerd/not-found'],
  [status.ALREADY_EXISTS, 'containerd/exists'],
  [status.UNAVAILABLE, 'containerd/unavailable'],
  [status.CANCELLED, 'io/cancelled'],
]);

const pathOf = (method: { readonly parent: { readonly typeName: string }; readonly name: string }): string =>
  `/${method.parent.typeName}/${method.name}`;

const serializer =
  <T extends DescMessage>(schema: T) =>
  (message: MessageShape<T>): Buffer => {
    const bytes = toBinary(schema, message);
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  };

const deserializer =
  <T extends DescMessage>(schema: T) =>
  (bytes: Buffer): MessageShape<T> =>
    fromBinary(schema, bytes);
