import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { mayLeadTo, type Reach, reachOf, reachOfHost } from './addresses.ts';

describe('reachOf', () => {
  const cases: Record<Reach, string[]> = {
    public: [
      '1.1.1.1',
      '8.8.8.8',
      '172.15.0.1',
      '172.32.0.1',
      '100.63.0.1',
      '2606:4700::1111',
      '64:ff9b::808:808',
      '2002:808:808::',
    ],
    private: [
      '10.0.0.1',
      '172.16.0.1',
      '172.31.255.255',
      '192.168.1.1',
      '100.64.0.1',
      'fd00::1',
      'fc00::1',
      '::ffff:10.0.0.1',
      '64:ff9b::a00:1',
      '2002:a00:1::1',
    ],
    loopback: [
      '127.0.0.1',
      '127.255.255.255',
      '0.0.0.0',
      '::1',
      '::',
      '::ffff:127.0.0.1',
      '::127.0.0.1',
      '64:ff9b::7f00:1',
      '::1%lo',
    ],
    special: [
      '169.254.169.254',
      'fe80::1',
      'fe80::1%eth0',
      'ff02::1',
      '224.0.0.1',
      '255.255.255.255',
      '::ffff:169.254.169.254',
      '',
      'x',
      '1.2.3',
    ],
  };
  for (const [reach, addresses] of Object.entries(cases)) {
    for (const address of addresses)
      it(`${address || '(nothing)'} is ${reach}`, () => assert.equal(reachOf(address), reach));
  }
});

describe('reachOfHost', () => {
  it('knows addresses and localhost, and leaves names to DNS', () => {
    assert.equal(reachOfHost('localhost'), 'loopback');
    assert.equal(reachOfHost('LOCALHOST.'), 'loopback');
    assert.equal(reachOfHost('x.localhost'), 'loopback');
    assert.equal(reachOfHost('[::1]'), 'loopback');
    assert.equal(reachOfHost('10.1.2.3'), 'private');
    assert.equal(reachOfHost('example.com'), null);
    assert.equal(reachOfHost('notlocalhost'), null);
    // The URL parser has turned these into plain addresses before anybody asks.
    assert.equal(reachOfHost(new URL('http://0x7f.1/').hostname), 'loopback');
    assert.equal(reachOfHost(new URL('http://2130706433/').hostname), 'loopback');
  });
});

describe('mayLeadTo', () => {
  it('lets one out, not in', () => {
    const order: Reach[] = ['public', 'private', 'loopback', 'special'];
    const table = order.map((from) => order.map((to) => (mayLeadTo(from, to) ? 'y' : '-')).join(''));
    assert.deepEqual(table, ['y---', 'yy--', 'yyy-', 'y--y']);
  });
});
