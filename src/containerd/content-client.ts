/** containerd's content store over its socket: what a blob is, its bytes, and writing a new one. */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import type { ClientDuplexStream, ServiceError } from '@grpc/grpc-js';
import { VeneerError } from '../errors.ts';
import { throwIfAborted } from '../store/locks.ts';
import {
  Content,
  type Info,
  WriteAction,
  type WriteContentRequest,
  WriteContentRequestSchema,
  type WriteContentResponse,
} from './gen/content_pb.ts';
import { type CallContext, passOn, type RpcClient } from './rpc-client.ts';

/** Throws `containerd/not-found` when the caller's namespace does not have the blob. */
export async function blobInfo(client: RpcClient, digest: string, call: CallContext): Promise<Info> {
  const { info } = await client.unary(Content.method.info, { digest }, call);
  if (info === undefined) {
    throw new VeneerError('containerd/failed', `Cannot look up ${digest}: containerd answers with nothing`);
  }
  return info;
}

/** The blob's bytes from first to last. */
export async function* readBlobBytes(
  client: RpcClient,
  digest: string,
  call: CallContext,
): AsyncGenerator<Buffer, void, undefined> {
  for await (const { data } of client.read(Content.method.read, { digest }, call)) {
    yield Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  }
}

/** Sets or changes labels of a blob that is there. */
export async function setLabel(
  client: RpcClient,
  digest: string,
  label: { readonly name: string; readonly value: string },
  call: CallContext,
): Promise<void> {
  await client.unary(
    Content.method.update,
    {
      info: { digest, labels: { [label.name]: label.value } },
      updateMask: { paths: [`labels.${label.name}`] },
    },
    call,
  );
}

type Request = MessageInitShape<typeof WriteContentRequestSchema>;
type Session = ClientDuplexStream<WriteContentRequest, WriteContentResponse>;

/**
 * A new blob on its way into containerd. Every request is answered before the next, as containerd's own client does
 * it: so never more than one piece is under way. The name of the upload, `ref`, is locked by containerd meanwhile.
 */
export class BlobWriter {
  readonly #client: RpcClient;
  readonly #call: CallContext;
  readonly #ref: string;
  readonly #session: Session;
  #waiting: { resolve: (response: WriteContentResponse) => void; reject: (error: Error) => void } | null =
    null;
  #failure: Error | null = null;
  #cancel = (): void => this.#session.cancel();
  size = 0;

  private constructor(client: RpcClient, ref: string, call: CallContext) {
    this.#client = client;
    this.#call = call;
    this.#ref = ref;
    this.#session = client.open(Content.method.write, call);
    this.#session.on('data', (response: WriteContentResponse) => this.#waiting?.resolve(response));
    this.#session.on('error', (error: ServiceError) => this.#fail(client.explain('write content', error)));
    this.#session.on('end', () =>
      this.#fail(new VeneerError('containerd/failed', `Cannot write ${ref}: containerd ended the upload`)),
    );
    call.signal?.addEventListener('abort', this.#cancel, { once: true });
  }

  /** Throws `containerd/…` when the upload cannot begin: somebody else is at `ref`, or containerd is not there. */
  static async open(client: RpcClient, ref: string, call: CallContext): Promise<BlobWriter> {
    throwIfAborted(call.signal);
    const writer = new BlobWriter(client, ref, call);
    const { offset } = await writer.#ask({ action: WriteAction.STAT, ref });
    // What an earlier try left: containerd cuts it off with a write at 0, so there must be one.
    if (offset > 0n) await writer.#ask({ action: WriteAction.WRITE, offset: 0n });
    return writer;
  }

  async write(data: Uint8Array): Promise<void> {
    await this.#ask({ action: WriteAction.WRITE, offset: BigInt(this.size), data });
    this.size += data.length;
  }

  /** Gives the blob its name. One that is there already is as good. */
  async commit(digest: string, labels: Readonly<Record<string, string>>): Promise<void> {
    const total = BigInt(this.size);
    try {
      const done = await this.#ask({
        action: WriteAction.COMMIT,
        total,
        offset: total,
        expected: digest,
        labels,
      });
      if (done.digest !== digest || done.offset !== total) {
        throw new VeneerError(
          'containerd/failed',
          `Cannot write ${digest}: containerd has stored ${done.digest} of ${done.offset} bytes`,
        );
      }
    } catch (error) {
      if (!(error instanceof VeneerError) || error.code !== 'containerd/exists') throw error;
    } finally {
      this.#end();
    }
  }

  /**
   * Gives up; nothing of it stays, unless containerd does not answer: its own collector takes it then. Not under the
   * caller's signal, which may be why. Never throws: why it was given up is what counts.
   */
  async abort(): Promise<void> {
    this.#end();
    this.#session.cancel();
    const call = passOn(this.#call.metadata);
    for (let tries = 0; ; tries++) {
      try {
        await this.#client.unary(Content.method.abort, { ref: this.#ref }, call);
        return;
      } catch (error) {
        const { code } = error as { code?: unknown };
        if (code === 'containerd/not-found' || code === 'containerd/unavailable') return;
        // The cancelled session gives the upload back a moment later.
        if (tries === ABORT_TRIES) return;
        await new Promise((resolve) => setTimeout(resolve, ABORT_WAIT));
      }
    }
  }

  #end(): void {
    this.#call.signal?.removeEventListener('abort', this.#cancel);
    this.#waiting = null;
    this.#session.end();
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#waiting?.reject(this.#failure);
  }

  #ask(request: Request): Promise<WriteContentResponse> {
    return new Promise<WriteContentResponse>((resolve, reject) => {
      if (this.#failure !== null) {
        reject(this.#failure);
        return;
      }
      this.#waiting = { resolve, reject };
      this.#session.write(create(WriteContentRequestSchema, request));
    }).finally(() => {
      this.#waiting = null;
    });
  }
}

const ABORT_TRIES = 20;
/** Milliseconds. */
const ABORT_WAIT = 50;
