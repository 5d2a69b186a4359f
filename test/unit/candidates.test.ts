import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  addUnreadable,
  addUnusedConnections,
  Candidates,
  connectionsOf,
  fits,
  mayBe,
} from '../../src/join/candidates.ts';
import { type Query, queriesOf } from '../../src/join/query.ts';
import { lineOf, podIp, T0, VIP, Wire } from '../model/wire.ts';

const query = (wire: Wire, line = lineOf({ end: 10, took: 10 }), readAt = 11): Query =>
  queriesOf(line, T0 + readAt, wire.index)[0]!;
/** The pods of the connections that may have carried the line's attempt. */
const pod = (candidates: Candidates): string | undefined =>
  candidates.several ? 'several' : candidates.backend?.ip.split('.')[3];

test('candidates: none, one backend over one or more connections, or several backends', () => {
  const wire = new Wire().open(1, 1, 0).open(2, 1, 5).open(3, 2, 9);
  const [a, b, c] = [1, 2, 3].map((sport) => wire.index.onPort(sport)[0]!);
  const candidates = new Candidates();
  assert.deepEqual([candidates.none, candidates.sole, candidates.only], [true, undefined, undefined]);
  candidates.add(a!);
  candidates.add(a!);
  assert.equal(candidates.only, a);
  candidates.add(b!);
  assert.equal(candidates.only, undefined);
  assert.equal(candidates.sole!.ip, podIp(1));
  assert.deepEqual([candidates.firstOpened, candidates.lastOpened], [T0, T0 + 5]);
  candidates.add(c!);
  assert.deepEqual([candidates.sole, candidates.several, candidates.none], [undefined, true, false]);
});

test('a connection fits from its opening until a minute after its end', () => {
  const opened = (at: number): Wire =>
    new Wire()
      .tick(at - 1)
      .open(1, 1, at)
      .tick(90_000);
  assert.equal(
    fits(opened(11).index.onPort(1)[0]!, query(opened(11))),
    true,
    'the event lies after the tick before',
  );
  assert.equal(fits(opened(13).index.onPort(1)[0]!, query(opened(13))), false);
  const closed = (at: number): Wire => new Wire().open(1, 1, -500_000).close(1, 1, at).tick(90_000);
  assert.equal(fits(closed(-60_000).index.onPort(1)[0]!, query(closed(-60_000))), true);
  assert.equal(fits(closed(-60_001).index.onPort(1)[0]!, query(closed(-60_001))), false);
});

test('a port taken by another connection was certainly free of the first', () => {
  const wire = new Wire().open(1, 1, -500_000).close(1, 1, -1_000).open(1, 2, -500).tick(90_000);
  const [first, second] = wire.index.onPort(1);
  assert.equal(fits(first!, query(wire)), false);
  assert.equal(fits(second!, query(wire)), true);
});

test('the connections of the Service that were open count, also those that ends out of order stand behind', () => {
  const wire = new Wire().open(1, 1, -500_000).open(2, 2, -500_000).tick(-450_000);
  // The younger end is delivered first, and the older one may lag by five seconds.
  wire.close(1, 1, -58_000).close(2, 2, -62_000).tick(90_000);
  assert.equal(pod(connectionsOf(query(wire), wire.index)), '1');
});

test('of the connections to a sole backend one that fits stands for all, whichever comes first', () => {
  const wire = new Wire()
    .open(1, 1, -500_000)
    .close(1, 1, 1_000)
    .tick(50_000)
    .open(2, 1, 60_000)
    .tick(90_000);
  assert.equal(pod(connectionsOf(query(wire), wire.index)), '1');
});

test('no more connections are examined than it takes to know', () => {
  const examined = (...pods: number[]): number => {
    const wire = new Wire();
    for (const [sport, each] of pods.entries()) wire.open(sport, each, -500_000);
    connectionsOf(query(wire.tick(90_000)), wire.index);
    return wire.index.counters.visited;
  };
  assert.deepEqual([examined(1, 1, 1), examined(1, 1, 2, 1), examined(1, 2, 1, 2)], [1, 3, 2]);
});

test('what made one attempt ambiguous is looked at first for the next, as long as it holds', () => {
  const wire = new Wire({ connections: 6, requests: 10, matchedRequests: 10, services: 10 });
  for (let sport = 1; sport <= 5; sport++) wire.open(sport, sport < 5 ? 1 : 2, -500_000);
  wire.tick(90_000);
  const visits = (at = 0): [string | undefined, number] => {
    const { visited } = wire.index.counters;
    const found = pod(connectionsOf(query(wire, lineOf({ end: at + 10, took: 10 }), at + 11), wire.index));
    return [found, wire.index.counters.visited - visited];
  };
  assert.deepEqual(
    [visits(), visits()],
    [
      ['several', 5],
      ['several', 2],
    ],
  );
  wire.close(5, 2, 90_500).tick(300_000);
  assert.deepEqual(visits(290_000)[0], '1', 'over for this attempt');
  assert.deepEqual(visits(), ['several', 2]);
  for (const sport of [6, 7]) wire.open(sport, 1, 300_000);
  wire.tick(300_001);
  assert.deepEqual(visits()[0], '1', 'forgotten at the limit');
});

test('an attempt that never connected was on a connection of its own', () => {
  const wire = new Wire().open(1, 1, -500_000).tick(-1).open(2, 2, 5).tick(90_000);
  const refused = lineOf(
    { end: 10, took: 10 },
    { attempt: { connectMs: null, headerMs: null, status: 502 } },
  );
  assert.equal(pod(connectionsOf(query(wire, refused), wire.index)), '2');
  assert.equal(pod(connectionsOf(query(wire), wire.index)), 'several');
});

test('with the local port only its connections count, of the Service or of an unknown one', () => {
  const wire = new Wire()
    .open(1, 1, -500_000)
    .open(2, 2, -500_000)
    .open(1, 3, -400_000, { vip: '10.96.0.1' })
    .tick(90_000);
  const line = lineOf({ end: 10, took: 10 }, { attempt: { localPort: 1 } });
  assert.equal(pod(connectionsOf(query(wire, line), wire.index)), '1');
});

test('of too many connections any may be meant', () => {
  const wire = new Wire({ connections: 10_000, requests: 10, matchedRequests: 10, services: 10 });
  wire.open(1, 2, -300_000).close(1, 2, -200_000);
  for (let n = 0; n < 4_096; n++) wire.open(2_000 + n, 1, -100_000);
  wire.tick(90_000);
  assert.equal(pod(connectionsOf(query(wire), wire.index)), '1');
  wire.open(7_000, 1, -100).tick(90_001);
  assert.equal(pod(connectionsOf(query(wire), wire.index)), 'several');
});

test("a request may be the attempt's if its time, Service, port and size allow it", () => {
  const at = (t: number, extra = {}): boolean => {
    const wire = new Wire().open(1, 1, -500_000).tick(t).request(1, 1, t, extra).tick(90_000);
    const line = lineOf({ end: 10, took: 10 }, { attempt: { bytesSent: 100 } });
    return mayBe(wire.index.service('10.105.148.194', 80)!.requests[0]!, query(wire, line));
  };
  assert.deepEqual([at(-0.1), at(0), at(11), at(11.1)], [false, true, true, false]);
  assert.deepEqual(
    [at(5, { bytes: 100 }), at(5, { bytes: 99 }), at(5, { bytes: 101 })],
    [true, false, false],
  );
  const part = { singleSegment: false };
  assert.deepEqual(
    [at(5, { bytes: 99, ...part }), at(5, { bytes: 100, ...part }), at(5, { bytes: 101, ...part })],
    [true, true, false],
  );
});

test('a request that was over before the exchange can have ended is not the one', () => {
  const wire = new Wire().open(1, 1, -500_000).tick(0).request(1, 1, 1).tick(4).request(1, 1, 5).tick(90_000);
  const [first] = wire.index.service('10.105.148.194', 80)!.requests;
  const took = (ms: number) => query(wire, lineOf({ end: ms, took: ms }), ms);
  assert.equal(mayBe(first!, took(16)), true, '5 + 11 ms that a logged time may be too long');
  assert.equal(mayBe(first!, took(17)), false);
  first!.singleSegment = false;
  assert.equal(mayBe(first!, took(17)), true, 'what follows a body may look like a request and be none');
});

test('unused connections count unless they opened too early, and one that just opened asks for another look', () => {
  const wire = new Wire().open(1, 1, -500_000).tick(-2_001).open(2, 2, -2_000).tick(90_000);
  const add = (dialedAfter: number, line = lineOf({ end: 10, took: 10 })): [string | undefined, boolean] => {
    const candidates = new Candidates();
    const retry = addUnusedConnections(query(wire, line), T0 + dialedAfter, wire.index, candidates);
    return [pod(candidates), retry];
  };
  assert.deepEqual(add(-Infinity), ['several', false]);
  assert.deepEqual(add(-2_000), ['2', false]);
  assert.deepEqual(add(-1_999), [undefined, false]);
  wire.open(3, 1, 0).tick(90_001);
  assert.deepEqual(add(-2_000), ['several', true]);
});

test('an unused connection of before the record says nothing about a line without times', () => {
  const wire = new Wire().open(1, 1, -500_000, { preexisting: true }).tick(90_000);
  const add = (line = lineOf(undefined)): string | undefined => {
    const candidates = new Candidates();
    addUnusedConnections(query(wire, line), -Infinity, wire.index, candidates);
    return pod(candidates);
  };
  assert.equal(add(), undefined);
  assert.equal(add(lineOf({ end: 10, took: 10 })), '1');
});

test('unused and unreadable connections are counted up to 512; of more any may be meant', () => {
  const unused = (count: number): string | undefined => {
    const wire = new Wire();
    for (let n = 0; n < count; n++) wire.open(1 + n, 1, -1_000);
    wire.tick(90_000);
    const candidates = new Candidates();
    addUnusedConnections(query(wire), -Infinity, wire.index, candidates);
    return pod(candidates);
  };
  assert.deepEqual([unused(512), unused(513)], ['1', 'several']);
  const unreadable = (count: number): string | undefined => {
    const wire = new Wire();
    for (let n = 0; n < count; n++) wire.open(1 + n, 1, -1_000).unreadable(1 + n, 1, -1_000);
    wire.tick(10);
    const candidates = new Candidates();
    addUnreadable(query(wire), wire.index, candidates);
    return pod(candidates);
  };
  assert.deepEqual([unreadable(512), unreadable(513)], ['1', 'several']);
});

test('unreadable connections that were forgotten may have been of any pod, in windows from before they were', () => {
  const wire = new Wire().open(1, 1, -500_000).unreadable(1, 1, -400_000).tick(90_000);
  const at = (knownSince: number): string | undefined => {
    wire.index.service(VIP, 80)!.unreadableKnownSince = T0 + knownSince;
    const candidates = new Candidates();
    addUnreadable(query(wire), wire.index, candidates);
    return pod(candidates);
  };
  assert.deepEqual([at(-Infinity), at(-1), at(0), at(0.1)], ['1', '1', '1', 'several']);
});

test('where several pods are possible already, no unused connection asks for another look', () => {
  const wire = new Wire().open(1, 1, -500_000).request(1, 1, -400_000).tick(90_000);
  const candidates = new Candidates();
  candidates.several = true;
  assert.equal(addUnusedConnections(query(wire), -Infinity, wire.index, candidates), false);
});

test('a connection that opened 100 ms or more before the line was read, or that is closed, asks for no other look', () => {
  const say = (at: number, closed = false): boolean => {
    const wire = new Wire()
      .open(1, 1, -500_000)
      .tick(at - 1)
      .open(2, 2, at);
    if (closed) wire.close(2, 2, at);
    wire.tick(90_000);
    return addUnusedConnections(query(wire), -Infinity, wire.index, new Candidates());
  };
  assert.deepEqual([say(-89), say(-88.9), say(-88.9, true)], [false, true, false]);
});
