/** Diffs that containerd does not take. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { Metadata, Server, ServerCredentials, type ServerDuplexStream } from '@grpc/grpc-js';
import { VeneerError } from '../errors.ts';
import { Store } from '../store/store.ts';
import { compareSnapshots } from './compare.ts';
import {
  Content,
  WriteAction,
  type WriteContentRequest,
  type WriteContentResponse,
  WriteContentResponseSchema,
} from './gen/content_pb.ts';
import { serviceDefinition } from './grpc-service.ts';
import { RpcClient } from './rpc-client.ts';

test('when containerd goes away in the middle of an upload, that is what the caller is told, and soon', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'veneer-compare-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const address = join(directory, 'containerd.sock');
  const server = new Server();
  server.addService(serviceDefinition(Content), {
    Write(call: ServerDuplexStream<WriteContentRequest, WriteContentResponse>) {
      call.on('data', ({ action }: WriteContentRequest) => {
        if (action === WriteAction.STAT) call.write(create(WriteContentResponseSchema, { action }));
        else server.forceShutdown();
      });
    },
  });
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`unix:${address}`, ServerCredentials.createInsecure(), (error) =>
      error === null ? resolve() : reject(error),
    );
  });
  const client = new RpcClient(address);
  t.after(() => client.close());
  const nothing = { layers: [], upper: null, lower: null };
  const diff = compareSnapshots(
    Store.open(join(directory, 'store')),
    client,
    { layersOf: () => nothing },
    { left: [], right: [] },
    { mediaType: '', ref: 'a-ref', labels: {} },
    { metadata: new Metadata() },
  );
  await assert.rejects(diff, (error) => error instanceof VeneerError && /write content/.test(error.message));
});
