/**
 * Blobs as files: containerd tells where its content store keeps them. Reading them there, in the thread that
 * inflates, spares both sides the copy through the socket, which takes as long as inflating does.
 *
 * It is a short cut, never a way around: whether the caller's namespace has the blob was asked before, the digest is
 * checked as always, and where containerd's files are not to be seen (another mount namespace) the socket serves.
 */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { DETECT_BYTES } from '../compress/index.ts';
import type { FileRange } from '../oci/source.ts';
import { digestHex, isDigest } from '../store/layout.ts';
import { Introspection } from './gen/introspection_pb.ts';
import type { CallContext, RpcClient } from './rpc-client.ts';

const CONTENT_PLUGIN = 'io.containerd.content.v1';

export class ContentRoot {
  readonly #client: RpcClient;
  #root: Promise<string | null> | null = null;

  constructor(client: RpcClient) {
    this.#client = client;
  }

  /** Where the blob stands as a file of `size` bytes, or null. */
  async locate(digest: string, size: number, call: CallContext): Promise<FileRange | null> {
    if (!isDigest(digest)) return null;
    const root = await this.find(call).catch(() => null);
    if (root === null) return null;
    const path = join(root, 'blobs', 'sha256', digestHex(digest));
    return isFileOf(path, size) ? { path, offset: 0, length: size } : null;
  }

  /** The first bytes of the blob, as many as tell its compression; null where its file is not to be seen. */
  async peek(digest: string, size: number, call: CallContext): Promise<Buffer | null> {
    const file = await this.locate(digest, size, call);
    return file === null ? null : readHead(file.path);
  }

  /** The folder of the content store, or null where containerd has none. Asked once; again when that failed. */
  find(call: CallContext): Promise<string | null> {
    this.#root ??= this.#client
      .unary(Introspection.method.plugins, { filters: [`type==${CONTENT_PLUGIN}`] }, call)
      .then(({ plugins }) => plugins.find(({ id }) => id === 'content')?.exports.root ?? null)
      .catch((error: unknown) => {
        this.#root = null;
        throw error;
      });
    return this.#root;
  }

  /** Another containerd may be there by now. */
  forget(): void {
    this.#root = null;
  }
}

/** The first bytes of a file, as many as tell its compression. */
export function readHead(path: string): Buffer {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const head = Buffer.alloc(DETECT_BYTES);
    return head.subarray(0, readSync(fd, head, 0, DETECT_BYTES, 0));
  } finally {
    closeSync(fd);
  }
}

function isFileOf(path: string, size: number): boolean {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch {
    return false;
  }
  try {
    const stat = fstatSync(fd);
    return stat.isFile() && stat.size === size;
  } finally {
    closeSync(fd);
  }
}
