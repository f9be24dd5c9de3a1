/** Which part of the network an address belongs to, so that no redirect leads from the internet into the machine's own network. */
import { BlockList, isIP, isIPv4 } from 'node:net';

/** `special`: link-local (cloud metadata services live there), multicast, reserved. */
export type Reach = 'public' | 'private' | 'loopback' | 'special';

const V4: readonly (readonly [network: string, prefix: number, reach: Reach])[] = [
  ['127.0.0.0', 8, 'loopback'],
  ['0.0.0.0', 8, 'loopback'],
  ['10.0.0.0', 8, 'private'],
  ['172.16.0.0', 12, 'private'],
  ['192.168.0.0', 16, 'private'],
  ['100.64.0.0', 10, 'private'],
  ['198.18.0.0', 15, 'private'],
  ['169.254.0.0', 16, 'special'],
  ['192.0.0.0', 24, 'special'],
  ['224.0.0.0', 4, 'special'],
  ['240.0.0.0', 4, 'special'],
];

const V6: readonly (readonly [network: string, prefix: number, reach: Reach])[] = [
  ['::1', 128, 'loopback'],
  ['::', 128, 'loopback'],
  ['fc00::', 7, 'private'],
  ['fec0::', 10, 'private'],
  ['fe80::', 10, 'special'],
  ['ff00::', 8, 'special'],
];

/** Prefixes whose addresses carry an IPv4 address, and the first of its two 16-bit groups (RFC 4291, 6052, 3056). */
const CARRIERS: readonly (readonly [network: string, prefix: number, group: number])[] = [
  ['::ffff:0:0', 96, 6],
  ['::', 96, 6],
  ['64:ff9b::', 96, 6],
  ['2002::', 16, 1],
];

interface Rule<T> {
  readonly list: BlockList;
  readonly value: T;
}

const rules = <T>(family: 'ipv4' | 'ipv6', table: readonly (readonly [string, number, T])[]): Rule<T>[] =>
  table.map(([network, prefix, value]) => {
    const list = new BlockList();
    list.addSubnet(network, prefix, family);
    return { list, value };
  });

const V4_RULES = rules('ipv4', V4);
const V6_RULES = rules('ipv6', V6);
const CARRIER_RULES = rules('ipv6', CARRIERS);

/** The reach of an IP address in text, without brackets; what is no address counts as `special`. */
export function reachOf(address: string): Reach {
  const bare = address.replace(/%.*$/s, '');
  if (isIP(bare) === 0) return 'special';
  if (isIPv4(bare)) return V4_RULES.find(({ list }) => list.check(bare, 'ipv4'))?.value ?? 'public';
  const own = V6_RULES.find(({ list }) => list.check(bare, 'ipv6'));
  if (own !== undefined) return own.value;
  const carrier = CARRIER_RULES.find(({ list }) => list.check(bare, 'ipv6'));
  return carrier === undefined ? 'public' : reachOf(embeddedIPv4(bare, carrier.value));
}

/** The reach that a URL's host name says by itself: an address or `localhost`; null when only DNS knows. */
export function reachOfHost(hostname: string): Reach | null {
  const bare = hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '');
  if (/^(?:.*\.)?localhost$/i.test(bare)) return 'loopback';
  return isIP(bare) === 0 ? null : reachOf(bare);
}

/** Whether somebody at `from` may send us to `to`: outwards always, inwards only to where it is itself. */
export function mayLeadTo(from: Reach, to: Reach): boolean {
  if (to === 'public' || from === to) return true;
  return to === 'private' && from === 'loopback';
}

function embeddedIPv4(address: string, group: number): string {
  // The URL parser writes every IPv6 address in one form, with `::` for the longest run of zeros.
  const canonical = new URL(`http://[${address}]/`).hostname.slice(1, -1);
  const [head = '', tail] = canonical.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const groups = [...left, ...Array<string>(8 - left.length - right.length).fill('0'), ...right];
  const high = Number.parseInt(groups[group]!, 16);
  const low = Number.parseInt(groups[group + 1]!, 16);
  return `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`;
}
