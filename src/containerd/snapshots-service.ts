/** The gRPC face of {@link Snapshots}: messages in, messages out. */
import { create } from '@bufbuild/protobuf';
import { EmptySchema, type Timestamp, TimestampSchema } from '@bufbuild/protobuf/wkt';
import {
  type CleanupRequest,
  type CommitSnapshotRequest,
  type Info,
  InfoSchema,
  Kind,
  type ListSnapshotsRequest,
  type ListSnapshotsResponse,
  ListSnapshotsResponseSchema,
  type MountsRequest,
  MountsResponseSchema,
  type PrepareSnapshotRequest,
  PrepareSnapshotResponseSchema,
  type RemoveSnapshotRequest,
  type StatSnapshotRequest,
  StatSnapshotResponseSchema,
  type UpdateSnapshotRequest,
  UpdateSnapshotResponseSchema,
  type UsageRequest,
  UsageResponseSchema,
  type ViewSnapshotRequest,
  ViewSnapshotResponseSchema,
} from './gen/snapshots_pb.ts';
import type { Mount } from './gen/types_pb.ts';
import { MountSchema } from './gen/types_pb.ts';
import type { MountForm } from './mount-form.ts';
import type { Snapshot } from './snapshot-db.ts';
import type { Snapshots } from './snapshots.ts';

/** So many snapshots go into one message of a list. */
const LIST_CHUNK = 100;

/** One function a method, by the names of the .proto file; a generator where the answer is a stream. */
export function snapshotsService(snapshots: Snapshots, cleanup: () => Promise<void>) {
  const empty = () => create(EmptySchema);
  return {
    async Prepare({ key, parent, labels }: PrepareSnapshotRequest) {
      const mounts = await snapshots.prepare(key, parent, labels);
      return create(PrepareSnapshotResponseSchema, { mounts: mounts.map(toMount) });
    },
    async View({ key, parent, labels }: ViewSnapshotRequest) {
      const mounts = await snapshots.view(key, parent, labels);
      return create(ViewSnapshotResponseSchema, { mounts: mounts.map(toMount) });
    },
    async Mounts({ key }: MountsRequest) {
      return create(MountsResponseSchema, { mounts: (await snapshots.mounts(key)).map(toMount) });
    },
    async Commit({ name, key, parent, labels }: CommitSnapshotRequest) {
      await snapshots.commit(name, key, parent, labels);
      return empty();
    },
    async Remove({ key }: RemoveSnapshotRequest) {
      await snapshots.remove(key);
      return empty();
    },
    async Stat({ key }: StatSnapshotRequest) {
      return create(StatSnapshotResponseSchema, { info: toInfo(snapshots.book.find(key)) });
    },
    async Update({ info, updateMask }: UpdateSnapshotRequest) {
      const updated = snapshots.book.update(info?.name ?? '', info?.labels ?? {}, updateMask?.paths ?? []);
      return create(UpdateSnapshotResponseSchema, { info: toInfo(updated) });
    },
    async *List({ filters }: ListSnapshotsRequest): AsyncGenerator<ListSnapshotsResponse> {
      const found = snapshots.book.list(filters);
      for (let at = 0; at < found.length; at += LIST_CHUNK) {
        const info = found.slice(at, at + LIST_CHUNK).map(toInfo);
        yield create(ListSnapshotsResponseSchema, { info });
      }
    },
    async Usage({ key }: UsageRequest) {
      const { size, inodes } = await snapshots.usage(key);
      return create(UsageResponseSchema, { size: BigInt(size), inodes: BigInt(inodes) });
    },
    async Cleanup(_: CleanupRequest) {
      await cleanup();
      return empty();
    },
  };
}

function toMount({ type, source, target, options }: MountForm): Mount {
  return create(MountSchema, { type, source, target, options });
}

const KINDS = { view: Kind.VIEW, active: Kind.ACTIVE, committed: Kind.COMMITTED } as const;

function toInfo({ name, parent, kind, created, updated, labels }: Snapshot): Info {
  const times = { createdAt: toTimestamp(created), updatedAt: toTimestamp(updated) };
  return create(InfoSchema, { name, parent, kind: KINDS[kind], labels, ...times });
}

function toTimestamp(time: bigint): Timestamp {
  return create(TimestampSchema, {
    seconds: time / 1_000_000_000n,
    nanos: Number(time % 1_000_000_000n),
  });
}
