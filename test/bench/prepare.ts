/**
 * prepare.ts SOCKET CHAIN: asks a snapshotter for a container's snapshot (Prepare, then Mounts) on the committed chain,
 * again and again, and prints the median in seconds.
 */
import { Metadata } from '@grpc/grpc-js';
import { Snapshots } from '../../src/containerd/gen/snapshots_pb.ts';
import { RpcClient } from '../../src/containerd/rpc-client.ts';
import { median } from './contest.ts';

const ROUNDS = 60;

const [, , socket, chain] = process.argv;
const client = new RpcClient(socket!);
const call = { metadata: new Metadata() };
const { method } = Snapshots;
let parent = '';
for await (const { info } of client.read(method.list, { snapshotter: 'veneer' }, call)) {
  for (const { name } of info) if (name.endsWith(`/${chain}`)) parent = name;
}
if (parent === '') throw new Error(`${chain} is not there`);
const times: number[] = [];
for (let round = 0; round < ROUNDS; round++) {
  const key = `bench/${round}/container`;
  const begin = performance.now();
  await client.unary(method.prepare, { snapshotter: 'veneer', key, parent }, call);
  await client.unary(method.mounts, { snapshotter: 'veneer', key }, call);
  times.push((performance.now() - begin) / 1000);
  await client.unary(method.remove, { snapshotter: 'veneer', key }, call);
}
client.close();
process.stdout.write(`${median(times)}\n`);
