/** What the helper captures of the clients of an address, from messages as the kernel sends them (captured). */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { Clients } from '../../src/capture/conntrack/clients.ts';
import { AddressTexts } from '../../src/capture/ip-bytes.ts';
import type { Libc } from '../../src/capture/netlink/libc.ts';
import type { Observation } from '../../src/model/feed.ts';

const { messages } = JSON.parse(
  readFileSync(new URL('../fixtures/conntrack/incoming.json', import.meta.url), 'utf8'),
) as { messages: { what: string; hex: string }[] };
const V4 = '10.77.0.70';
const V6 = 'fd77::70';
const MASQUERADE = 'IPv4 DNAT and masquerade';

function start(limit = 10) {
  const pushed: Observation[] = [];
  const said: string[] = [];
  const state = { now: 1_000, lists: 0, nodes: ['10.244.1.0'], failing: false, changes: 0 };
  const clients: Clients = new Clients({
    libc: { wallClock: () => state.now } as unknown as Libc,
    limit,
    reader: { read: () => {}, push: (observation) => void pushed.push(observation) },
    texts: new AddressTexts(),
    onChange: () => void state.changes++,
    otherNodes: () => state.nodes,
    async resync(_libc, flows, _reader, targets) {
      state.lists++;
      flows.beginDump();
      await turn();
      flows.endDump(targets.keys(), state.now, state.now);
      if (state.failing) throw new Error('no dump');
    },
    log: (_, text) => void said.push(text),
  });
  const see = (what: string, at = state.now): void => {
    const bytes = Buffer.from(messages.find((message) => message.what === what)!.hex, 'hex');
    clients.visit(bytes, 0, bytes.length, at, at - 5);
  };
  const settle = async (): Promise<void> => {
    for (let n = 0; n < 10; n++) await turn();
  };
  /** What was pushed since the last call: `client CLIENT`, `end CLIENT KIND`, `clients ADDRESS COMPLETE`. */
  const told = (): string[] =>
    pushed.splice(0).map((o) => {
      if (o.kind === 'clients') return `clients ${o.dst} ${o.complete}`;
      assert.equal(o.kind, 'client');
      const { client, peer, end } = o;
      return end ? `end ${client} ${end}` : `client ${client} by ${peer}${o.preexisting ? ', held' : ''}`;
    });
  return { clients, state, see, settle, told, said };
}

test('clients that the node does not translate are not captured', async () => {
  const { clients, see, told } = start();
  assert.equal(clients.active, false);
  await clients.watch([V4]);
  assert.deepEqual(clients.incoming, { all: [], translated: [V4] });
  assert.deepEqual(clients.snapshot(V4), [
    { kind: 'clients', t: 1_000, dst: V4, complete: false, nodes: ['10.244.1.0'] },
  ]);
  see('IPv4 direct NEW SYN_SENT');
  see('IPv4 from the node NEW SYN_SENT');
  assert.deepEqual(told(), []);
  assert.equal(clients.connections, 0);
});

test('with the first one that it translates, all of all addresses of the pod are', async () => {
  const { clients, see, settle, told, state } = start();
  await clients.watch([V4, V6]);
  see(`${MASQUERADE} NEW SYN_SENT`);
  assert.deepEqual(clients.incoming, { all: [V4, V6], translated: [] });
  assert.deepEqual(told(), ['client 10.77.1.9 by 10.77.0.1']);
  state.now = 2_000;
  await settle();
  assert.deepEqual(told(), [`clients ${V4} true`, `clients ${V6} true`], 'the dump did not list it any more');
  see('IPv4 direct NEW SYN_SENT');
  see('IPv4 from the node NEW SYN_SENT');
  see('IPv4 direct UPDATE ESTABLISHED');
  see('IPv4 direct UPDATE TIME_WAIT');
  assert.deepEqual(told(), [
    'client 10.77.1.9 by 10.77.1.9',
    'client 10.77.0.1 by 10.77.0.1',
    'end 10.77.1.9 fin',
  ]);
  const [begin, ...open] = clients.snapshot(V4);
  assert.ok(begin?.kind === 'clients' && begin.complete && begin.t === 2_000);
  assert.deepEqual(open.length, 1);
});

test('a connection that is seen while the others are listed is not lost', async () => {
  const { clients, see, settle, told } = start();
  await clients.watch([V4]);
  see(`${MASQUERADE} NEW SYN_SENT`);
  told();
  await Promise.resolve();
  see('IPv4 direct NEW SYN_SENT');
  await settle();
  assert.deepEqual(told(), [
    'client 10.77.1.9 by 10.77.1.9',
    `clients ${V4} true`,
    'client 10.77.1.9 by 10.77.1.9',
  ]);
});

test('after a loss of events nothing is complete until all are listed again', async () => {
  const { clients, see, settle, told, state } = start();
  await clients.watch([V4]);
  see(`${MASQUERADE} NEW SYN_SENT`);
  await settle();
  told();
  const { lists } = state;
  clients.lost();
  assert.deepEqual(told(), [`clients ${V4} false`]);
  await settle();
  assert.deepEqual(told(), [`clients ${V4} true`]);
  assert.equal(state.lists, lists + 1);
});

test('an address with too many clients is captured no longer, until the next check', async () => {
  const { clients, see, settle, told, said } = start(1);
  await clients.watch([V4]);
  see(`${MASQUERADE} NEW SYN_SENT`);
  await settle();
  see('IPv4 direct NEW SYN_SENT');
  told();
  see('IPv4 from the node NEW SYN_SENT');
  assert.deepEqual(told(), [`clients ${V4} false`]);
  assert.match(said.join(), /more than 1 connections/);
  assert.deepEqual(clients.incoming, { all: [], translated: [] });
  see('IPv4 DNAT alone NEW SYN_SENT');
  assert.deepEqual(told(), []);
  clients.check(0);
  await settle();
  assert.deepEqual(told(), [`clients ${V4} true`]);
});

test('routes to new nodes are told to the readers, and clients stay as they are', async () => {
  const { clients, told, state } = start();
  await clients.watch([V4]);
  clients.check(100_000);
  assert.deepEqual(told(), []);
  state.nodes = ['10.244.1.0', '10.244.2.0'];
  clients.check(120_000);
  assert.deepEqual(told(), [], 'looked at every half minute');
  clients.check(130_000);
  assert.deepEqual(told(), [`clients ${V4} undefined`]);
});

test('when the clock is set, the connections have the time of the step', async () => {
  const { clients, see, settle, told } = start();
  await clients.watch([V4]);
  see(`${MASQUERADE} NEW SYN_SENT`);
  await settle();
  see('IPv4 direct NEW SYN_SENT');
  told();
  const [begin, open] = clients.onClockStep(500);
  assert.ok(begin?.kind === 'clients' && begin.complete && begin.t === 500);
  assert.ok(open?.kind === 'client' && open.preexisting && open.t === 500);
});

test('an address that nobody reads any more is not captured', async () => {
  const { clients, see, settle, told } = start();
  await clients.watch([V4, V6]);
  clients.unwatch([V4]);
  see(`${MASQUERADE} NEW SYN_SENT`);
  await settle();
  assert.deepEqual(told(), []);
  assert.deepEqual(clients.incoming, { all: [], translated: [V6] });
  clients.unwatch([V6]);
  assert.equal(clients.active, false);
});
