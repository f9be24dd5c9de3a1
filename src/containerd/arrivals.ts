/**
 * Blobs that come into containerd's content store, as it tells of them: an import stores all blobs of an image before it
 * asks for the first layer.
 */
import { fromBinary } from '@bufbuild/protobuf';
import { Metadata } from '@grpc/grpc-js';
import { ContentEventSchema, type Envelope, Events } from './gen/events_pb.ts';
import { type CallContext, contextOf, type RpcClient } from './rpc-client.ts';

const CREATED = '/content/create';
const DELETED = '/content/delete';
/** containerd may be away, or not there yet: it is tried again after so many milliseconds. */
const PAUSE = 1000;

export interface ArrivalsListener {
  /** containerd is there, perhaps another one than before; it is listened to next. `call`: in no namespace. */
  onConnect(call: CallContext): Promise<void>;
  /** `call`: in the namespace that has the blob. */
  onBlob(digest: string, size: bigint, call: CallContext): void;
  onDelete(digest: string): void;
}

export class Arrivals {
  readonly #client: RpcClient;
  readonly #listener: ArrivalsListener;
  readonly #stop = new AbortController();
  #timer: NodeJS.Timeout | null = null;

  /** Listens until it is closed. */
  constructor(client: RpcClient, listener: ArrivalsListener) {
    this.#client = client;
    this.#listener = listener;
    void this.#run();
  }

  close(): void {
    this.#stop.abort();
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    const filters = [CREATED, DELETED].map((topic) => `topic=="${topic}"`);
    try {
      const call = { metadata: new Metadata(), signal };
      await this.#client.connect(signal);
      await this.#listener.onConnect(call);
      for await (const envelope of this.#client.read(Events.method.subscribe, { filters }, call))
        this.#tell(envelope);
    } catch {
      // Old, stopped or not started yet. Nobody depends on it.
    }
    if (!signal.aborted) this.#timer = setTimeout(() => void this.#run(), PAUSE).unref();
  }

  #tell({ topic, namespace, event }: Envelope): void {
    if (event === undefined) return;
    const { digest, size } = fromBinary(ContentEventSchema, event.value);
    if (topic === DELETED) this.#listener.onDelete(digest);
    else if (topic === CREATED) this.#listener.onBlob(digest, size, contextOf(namespace));
  }
}
