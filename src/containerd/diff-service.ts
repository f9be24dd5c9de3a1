/** The Diff service of containerd's API (diff v1): from requests to {@link Applier} and {@link compareSnapshots}. */
import { create } from '@bufbuild/protobuf';
import type { handleUnaryCall, ServerUnaryCall, UntypedServiceImplementation } from '@grpc/grpc-js';
import { VeneerError } from '../errors.ts';
import type { Store } from '../store/store.ts';
import type { AppliedLayer, Applier } from './apply.ts';
import { type CompareTargets, compareSnapshots } from './compare.ts';
import {
  type ApplyRequest,
  type ApplyResponse,
  ApplyResponseSchema,
  type DiffRequest,
  type DiffResponse,
  DiffResponseSchema,
} from './gen/diff_pb.ts';
import type { Mount } from './gen/types_pb.ts';
import { grpcError } from './grpc-service.ts';
import { type CallContext, passOn, type RpcClient } from './rpc-client.ts';

/** What the service needs of the snapshotter. */
export interface DiffTargets extends CompareTargets {
  /** The namespace of the snapshot that these mounts came from, when it can be told. */
  namespaceOf(mounts: readonly Mount[]): string | null;
}

export interface DiffServiceOptions {
  readonly store: Store;
  readonly client: RpcClient;
  readonly applier: Applier;
  readonly targets: DiffTargets;
}

/** Both methods, by their names in the .proto file. */
export function diffService({
  store,
  client,
  applier,
  targets,
}: DiffServiceOptions): UntypedServiceImplementation {
  const Apply: handleUnaryCall<ApplyRequest, ApplyResponse> = (call, done) =>
    answer(call, done, targets, call.request.mounts, async ({ diff, mounts }, context) => {
      if (diff === undefined) throw invalid('apply', 'the request has no descriptor');
      const { mediaType, digest, size } = diff;
      const applied = await applier.apply({ mediaType, digest, size: Number(size) }, mounts, context);
      return create(ApplyResponseSchema, { applied: descriptorOf(applied) });
    });
  const Diff: handleUnaryCall<DiffRequest, DiffResponse> = (call, done) =>
    answer(call, done, targets, call.request.right, async (request, context) => {
      const { left, right, mediaType, ref, labels, sourceDateEpoch } = request;
      const epoch = sourceDateEpoch === undefined ? undefined : Number(sourceDateEpoch.seconds);
      const options = { mediaType, ref, labels, epoch };
      const diff = await compareSnapshots(store, client, targets, { left, right }, options, context);
      return create(DiffResponseSchema, { diff: descriptorOf(diff) });
    });
  return { Apply, Diff };
}

/** Runs one call; a caller that goes away ends it. */
function answer<Request, Response>(
  call: ServerUnaryCall<Request, Response>,
  done: Parameters<handleUnaryCall<Request, Response>>[1],
  targets: DiffTargets,
  mounts: readonly Mount[],
  work: (request: Request, context: CallContext) => Promise<Response>,
): void {
  const gone = new AbortController();
  call.on('cancelled', () => gone.abort());
  const context = passOn(call.metadata, gone.signal, () => targets.namespaceOf(mounts));
  work(call.request, context).then(
    (response) => done(null, response),
    (error: unknown) => done(grpcError(error)),
  );
}

function descriptorOf({ mediaType, digest, size }: AppliedLayer): {
  mediaType: string;
  digest: string;
  size: bigint;
} {
  return { mediaType, digest, size: BigInt(size) };
}

function invalid(what: string, reason: string): VeneerError {
  return new VeneerError('cli/usage', `Cannot ${what}: ${reason}`);
}
