import assert from 'node:assert/strict';
import { test } from 'node:test';
import { snapshotOf } from '../../src/capture/conntrack/flow-entry.ts';
import { FlowTable } from '../../src/capture/conntrack/flow-table.ts';
import type { ConntrackEvent } from '../../src/capture/conntrack/message.ts';
import type { Observation } from '../../src/model/feed.ts';

const SRC = '10.77.0.70';

function event(changes: Partial<ConntrackEvent> = {}): ConntrackEvent {
  return {
    type: 'new',
    id: 1,
    zone: 0,
    src: SRC,
    sport: 33454,
    vip: '10.78.0.1',
    vport: 10000,
    ip: '10.77.0.101',
    port: 8080,
    tcpState: 1,
    eventMs: undefined,
    ...changes,
  };
}

function tableOf(...events: ConntrackEvent[]): FlowTable {
  const flows = new FlowTable(100);
  flows.addSource(SRC);
  for (const each of events) flows.opened(each, 1, []);
  return flows;
}

/** Kind, source port and backend of each record. */
function told(observations: readonly (Observation | undefined)[]) {
  return observations.map((o) => {
    if (o === undefined) return 'nothing';
    assert.ok(o.kind === 'open' || o.kind === 'close');
    return `${o.kind}${o.kind === 'open' && o.preexisting ? ' held' : ''} ${o.sport} ${o.ip}`;
  });
}

test('a connection is kept until its end is released', () => {
  const flows = tableOf();
  const out: Observation[] = [];
  assert.ok(flows.opened(event(), 5, out));
  flows.ended(event());
  assert.notEqual(flows.find(SRC, 33454, '10.77.0.101', 8080), undefined);
  flows.release(0, flows.endings, 9, out);
  assert.deepEqual(told(out), ['open 33454 10.77.0.101', 'close 33454 10.77.0.101']);
  assert.equal(flows.find(SRC, 33454, '10.77.0.101', 8080), undefined);
  assert.equal(flows.size, 0);
});

test('an end that was read later than the tap waits for the next release', () => {
  const flows = tableOf(event(), event({ sport: 2, id: 2 }));
  const out: Observation[] = [];
  flows.ended(event());
  const before = flows.endings;
  flows.ended(event({ sport: 2, id: 2 }));
  flows.release(0, before, 9, out);
  assert.deepEqual(told(out), ['close 33454 10.77.0.101']);
  flows.release(0, flows.endings, 9, out);
  assert.equal(out.length, 2);
});

test('a source port used again closes the connection that had it', () => {
  const flows = tableOf(event());
  const out: Observation[] = [];
  flows.opened(event({ id: 2, ip: '10.77.0.102' }), 7, out);
  assert.deepEqual(told(out), ['close 33454 10.77.0.101', 'open 33454 10.77.0.102']);
  // The late end of the first is not the second's.
  flows.ended(event({ id: 1 }));
  assert.equal(flows.endings, 0);
});

test('a port used again before the end was released gives one close, not two', () => {
  const flows = tableOf(event());
  const out: Observation[] = [];
  flows.ended(event());
  flows.opened(event({ id: 2, ip: '10.77.0.102' }), 7, out);
  flows.release(0, flows.endings, 9, out);
  assert.deepEqual(told(out), ['close 33454 10.77.0.101', 'open 33454 10.77.0.102']);
  assert.equal(flows.size, 1);
});

test('two Services over one pod and one source port leave a request untold', () => {
  const flows = tableOf(event(), event({ id: 2, vip: '10.78.0.2' }));
  assert.equal(flows.find(SRC, 33454, '10.77.0.101', 8080), 'several');
  assert.equal(flows.ofPort(SRC, 33454).length, 2);
  assert.equal(flows.find(SRC, 33454, '10.77.0.102', 8080), undefined);
});

test('the same tuple in another zone is another connection', () => {
  const flows = tableOf(event(), event({ zone: 7 }));
  assert.equal(flows.size, 2);
});

test('a full table refuses and counts', () => {
  const flows = new FlowTable(1);
  flows.addSource(SRC);
  assert.ok(flows.opened(event(), 1, []));
  assert.equal(flows.opened(event({ sport: 2 }), 1, []), false);
  assert.deepEqual([flows.size, flows.refused, flows.full], [1, 1, true]);
});

test('a dump brings what is older than the listening', () => {
  const flows = tableOf();
  flows.beginDump();
  assert.deepEqual(told([flows.listed(event(), false, 3).opened]), ['open held 33454 10.77.0.101']);
  assert.deepEqual(flows.listed(event({ sport: 2 }), true, 3), {}, 'one that is over is left out');
  assert.deepEqual(flows.endDump([SRC], 2, 4), []);
  assert.deepEqual(flows.unsure(), { sources: [SRC], missing: false });
});

test('a part of a dump older than an end does not bring the connection back', () => {
  const flows = tableOf(event());
  flows.beginDump();
  flows.ended(event());
  flows.release(0, 1, 2, []);
  assert.deepEqual(flows.listed(event(), false, 3), {});
  assert.equal(flows.size, 0);
});

test('the end of a connection not known yet keeps the dump from bringing it', () => {
  const flows = tableOf();
  flows.beginDump();
  flows.ended(event());
  assert.deepEqual(flows.listed(event(), false, 3), {});
});

test('a tuple opened again during the dump is the new connection', () => {
  const flows = tableOf(event());
  flows.beginDump();
  flows.ended(event());
  flows.opened(event({ id: 2 }), 2, []);
  assert.deepEqual(flows.listed(event(), false, 3), {});
  assert.equal(flows.ofPort(SRC, 33454)[0]!.id, 2);
  assert.deepEqual(flows.listed(event({ id: 2 }), false, 3), {});
});

test('a connection told by an event is newer than what a dump still lists of its tuple', () => {
  const flows = tableOf();
  flows.beginDump();
  flows.opened(event({ id: 2 }), 2, []);
  assert.deepEqual(flows.listed(event({ id: 1 }), false, 3), {});
  assert.equal(flows.ofPort(SRC, 33454)[0]!.id, 2);
});

test('a NEW event on the way while the dump was read changes nothing', () => {
  const flows = tableOf();
  flows.beginDump();
  flows.listed(event(), false, 3);
  const out: Observation[] = [];
  flows.opened(event(), 4, out);
  assert.deepEqual(out, []);
  assert.deepEqual([flows.size, flows.ofPort(SRC, 33454)[0]!.preexisting], [1, true]);
});

test('a connection is over when two dumps in a row do not list it', () => {
  const flows = tableOf(event());
  const survey = () => {
    flows.beginDump();
    return flows.endDump([SRC], 2, 3);
  };
  assert.deepEqual(survey(), []);
  assert.deepEqual(flows.unsure(), { sources: [SRC], missing: true });
  assert.deepEqual(told(survey()), ['close 33454 10.77.0.101']);
});

test('a connection listed again after it was missing is not over', () => {
  const flows = tableOf(event());
  flows.beginDump();
  flows.endDump([SRC], 2, 3);
  flows.beginDump();
  flows.listed(event(), false, 4);
  flows.endDump([SRC], 3, 4);
  flows.beginDump();
  assert.deepEqual(flows.endDump([SRC], 4, 5), []);
  assert.equal(flows.size, 1);
});

test('a connection younger than the dump need not be in it', () => {
  const flows = tableOf();
  flows.beginDump();
  flows.opened(event(), 5, []);
  flows.endDump([SRC], 4, 6);
  assert.equal(flows.ofPort(SRC, 33454)[0]!.missed, 0);
});

test('a dump tells the end that events did not', () => {
  const flows = tableOf(event());
  flows.markUnsure();
  flows.beginDump();
  assert.deepEqual(told([flows.listed(event(), true, 5).closed]), ['close 33454 10.77.0.101']);
});

test('after a loss a dump tells that a source port leads elsewhere now', () => {
  const flows = tableOf(event());
  flows.markUnsure();
  flows.beginDump();
  const { closed, opened } = flows.listed(event({ id: 2, ip: '10.77.0.102' }), false, 5);
  assert.deepEqual(told([closed, opened]), ['close 33454 10.77.0.101', 'open held 33454 10.77.0.102']);
});

test('an address that is no longer watched is forgotten without a record', () => {
  const flows = tableOf(event(), event({ sport: 2 }));
  flows.ended(event());
  flows.removeSource(SRC);
  const out: Observation[] = [];
  flows.release(0, flows.endings, 5, out);
  assert.deepEqual([out.length, flows.size], [0, 0]);
});

test('a connection that a flow table has taken is told once as unreadable, and to every new reader', () => {
  const flows = tableOf(event());
  flows.beginDump();
  assert.deepEqual(flows.listed(event(), false, 3), {});
  const { unreadable } = flows.listed(event({ offloaded: true }), false, 4);
  assert.deepEqual([unreadable?.kind, unreadable?.protocol, unreadable?.t], ['unreadable', 'offloaded', 4]);
  assert.deepEqual(flows.listed(event({ offloaded: true }), false, 5), {});
  const found = flows.listed(event({ sport: 2, id: 2, offloaded: true }), false, 6);
  assert.deepEqual([found.opened?.preexisting, found.unreadable?.sport], [true, 2]);
  assert.deepEqual(
    flows.ofSource(SRC).flatMap((entry) => snapshotOf(entry).map(({ kind, sport }) => `${kind} ${sport}`)),
    ['open 33454', 'unreadable 33454', 'open 2', 'unreadable 2'],
  );
});

const POD = ['10.77.0.101', 8080] as const;

/** A segment that cannot be read has come on the connection before the connection was known. */
function readOpaque(flows: FlowTable, sport: number): void {
  const order = flows.unlisted.order(SRC, sport, ...POD);
  if (order === undefined) return;
  order.unreadable = 'tls';
  flows.unlisted.left(SRC, order);
}

test('of a connection found by a dump, what was read of it before counts', () => {
  const flows = tableOf();
  readOpaque(flows, 33454);
  flows.unlisted.settle();
  flows.beginDump();
  const { opened, unreadable } = flows.listed(event(), false, 4);
  assert.deepEqual([opened?.preexisting, unreadable?.protocol, unreadable?.sport], [true, 'tls', 33454]);
  const [entry] = flows.ofSource(SRC);
  assert.deepEqual(
    snapshotOf(entry!).map(({ kind }) => kind),
    ['open', 'unreadable'],
  );
});

test('so does what was read of it before IPVS had translated it', () => {
  const flows = tableOf();
  const order = flows.unlisted.order(SRC, 33454, '10.78.0.1', 10000);
  assert.ok(order);
  order.unreadable = 'tls';
  flows.unlisted.left(SRC, order);
  flows.beginDump();
  assert.equal(flows.listed(event(), false, 4).unreadable?.protocol, 'tls');
});

test('what was read of an unknown connection is kept until a dump without a loss has ended', () => {
  const flows = tableOf();
  const dump = (...lose: (() => void)[]) => {
    flows.beginDump();
    for (const each of lose) each();
    flows.endDump([SRC], 5, 6);
  };
  readOpaque(flows, 1);
  dump(() => flows.eventsLost());
  assert.deepEqual([flows.unlisted.size, flows.unlisted.hidesRequests], [1, true]);
  dump();
  assert.deepEqual([flows.unlisted.size, flows.unlisted.hidesRequests], [0, false]);
  // The record is whole: only an event that is still to be read can tell of this one.
  readOpaque(flows, 2);
  assert.equal(flows.unlisted.hidesRequests, false);
  const out: Observation[] = [];
  flows.opened(event({ sport: 2 }), 7, out);
  assert.deepEqual(
    out.map(({ kind }) => kind),
    ['open', 'unreadable'],
  );
  readOpaque(flows, 3);
  flows.unlisted.settle();
  assert.equal(flows.unlisted.size, 0);
});

test('nobody is told of a gap for the connections of an address that nobody reads yet', () => {
  const flows = new FlowTable(100);
  flows.addSource(SRC);
  readOpaque(flows, 1);
  assert.equal(flows.unlisted.hidesRequests, false);
  flows.eventsLost();
  assert.equal(flows.unlisted.hidesRequests, true);
  flows.removeSource(SRC);
  assert.deepEqual([flows.unlisted.size, flows.unlisted.hidesRequests], [0, false]);
});

test('where more was read of unknown connections than is kept, those that are found count as unreadable', () => {
  const flows = new FlowTable(2);
  flows.addSource(SRC);
  flows.unlisted.order(SRC, 1, ...POD);
  flows.unlisted.order(SRC, 2, ...POD);
  readOpaque(flows, 3);
  flows.beginDump();
  assert.equal(flows.listed(event({ sport: 1 }), false, 4).unreadable, undefined);
  assert.equal(flows.listed(event({ sport: 3, id: 2 }), false, 4).unreadable?.protocol, 'other');
});

test('a connection whose packets counted as those of another one with its tuple is unreadable', () => {
  const flows = tableOf(event());
  flows.markUnsure();
  flows.beginDump();
  const { closed, opened, unreadable } = flows.listed(event({ id: 2 }), false, 5);
  assert.deepEqual([closed?.kind, opened?.kind, unreadable?.protocol], ['close', 'open', 'other']);
});

test('the end of a connection tells whether its requests could be read', () => {
  const flows = tableOf(event(), event({ sport: 2, id: 2 }));
  flows.ofPort(SRC, 2)[0]!.unreadable = 'tls';
  flows.ended(event());
  flows.ended(event({ sport: 2, id: 2 }));
  const out: Observation[] = [];
  flows.release(0, flows.endings, 9, out);
  assert.deepEqual(
    out.map((each) => each.kind === 'close' && [each.sport, each.protocol]),
    [
      [33454, undefined],
      [2, 'tls'],
    ],
  );
});
