import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lineOf, NGINX, podIp, T0, VIP, Wire } from '../model/wire.ts';

const SMALL = { connections: 2, requests: 2, matchedRequests: 1, services: 10 };

test('a connection that a snapshot repeats is the one that is known, unless it leads elsewhere', () => {
  const wire = new Wire().open(1, 1, 0).open(1, 1, 10, { preexisting: true });
  assert.equal(wire.index.onPort(1).length, 1);
  assert.equal(wire.index.onPort(1)[0]!.closeTo, Infinity);
  wire.open(1, 2, 20, { preexisting: true });
  const [first, second] = wire.index.onPort(1);
  assert.deepEqual([first!.closeTo, first!.overBy], [T0 + 20, T0 + 20]);
  assert.deepEqual([second!.backend.ip, second!.openFrom, second!.openTo], [podIp(2), -Infinity, T0 + 20]);
});

test('a connection opened again without an end of its own was over by then', () => {
  const wire = new Wire().open(1, 1, 0).tick(5).open(1, 1, 10);
  const [first, second] = wire.index.onPort(1);
  assert.deepEqual([first!.closeTo, first!.overBy], [T0 + 10, T0 + 10]);
  assert.equal(second!.openFrom, T0 + 5);
});

test('of more open connections than are kept the oldest goes, with its request, and its Service claims nothing more', () => {
  const wire = new Wire(SMALL).open(1, 1, 0).request(1, 1, 1, { id: 'a' }).open(2, 2, 2).open(3, 2, 3);
  assert.deepEqual(wire.index.onPort(1), []);
  assert.equal(wire.index.requestsWithId('a'), undefined);
  const service = wire.index.service(VIP, 80)!;
  assert.deepEqual([service.connectionsKnownSince, service.requestsKnownSince], [Infinity, Infinity]);
  assert.equal(service.withoutRequestKnownSince, -Infinity);
});

test('of more closed connections than are kept the oldest goes, and what it may have served is not known', () => {
  const wire = new Wire(SMALL).open(1, 1, 0).close(1, 1, 10).open(2, 2, 20).open(3, 2, 30);
  const service = wire.index.service(VIP, 80)!;
  assert.deepEqual(wire.index.onPort(1), []);
  assert.equal(service.connectionsKnownSince, T0 + 10 + 60_000);
  assert.equal(service.withoutRequestKnownSince, T0 + 10 + 60_000);
  assert.equal(service.openKnownSince, T0 + 10);
});

test('of more requests that are over than are kept the oldest goes, and since when requests are known stays', () => {
  const wire = new Wire(SMALL).open(1, 1, 0);
  for (const [n, id] of ['a', 'b', 'c', 'd'].entries()) wire.request(1, 1, 1 + n, { id });
  assert.equal(wire.index.requestsWithId('a'), undefined);
  assert.equal(wire.index.requestsWithId('b')!.id, 'b');
  assert.equal(wire.index.service(VIP, 80)!.requestsKnownSince, T0 + 2);
});

test('a request that has found its line is kept a moment longer, for lines with the same id', () => {
  const wire = new Wire(SMALL).open(1, 1, 0);
  for (const [n, id] of ['a', 'b', 'c'].entries()) wire.request(1, 1, 1 + n, { id });
  wire.index.markMatched([wire.index.requestsWithId('a')!]);
  assert.equal(wire.index.requestsWithId('a')!.matched, true);
  wire.index.markMatched([wire.index.requestsWithId('b')!]);
  assert.equal(wire.index.requestsWithId('a'), undefined);
  assert.equal(wire.index.requestsWithId('b')!.matched, true);
});

test('of requests with one id the younger ones stay when an older one is forgotten', () => {
  const wire = new Wire(SMALL).open(1, 1, 0);
  for (const [n, id] of ['a', 'b', 'a', 'b', 'a'].entries()) wire.request(1, 1, 1 + n, { id });
  const found: number[] = [];
  for (let request = wire.index.requestsWithId('a'); request; request = request.older)
    found.push(request.to - T0);
  assert.deepEqual(found, [5, 3]);
});

test('after the clock was set back all that is known is that it was before', () => {
  const wire = new Wire().tick(0).open(1, 1, 10).request(1, 1, 20).open(2, 2, 30).close(2, 2, 40).tick(1_000);
  wire.index.onClockRollback(T0 + 5);
  const [first, second] = [1, 2].map((sport) => wire.index.onPort(sport)[0]!);
  assert.deepEqual([first!.openFrom, first!.openTo, first!.closeTo], [-Infinity, T0 + 5, Infinity]);
  assert.deepEqual([second!.openFrom, second!.openTo, second!.closeTo], [-Infinity, T0 + 5, T0 + 5]);
  assert.deepEqual(
    [first!.latest!.from, first!.latest!.to, first!.latest!.endedBy],
    [-Infinity, T0 + 5, Infinity],
  );
  assert.deepEqual([first!.overBy, second!.overBy], [Infinity, Infinity], 'no other one had their ports');
});

test('a request that the line of another claimed is out, and one that a line with its own id claimed is not', () => {
  const wire = new Wire().open(1, 1, -100_000).tick(-1).request(1, 1, 0, { id: 'x' }).close(1, 1, 1);
  wire.open(1, 2, 2).request(1, 2, 3, { id: 'y' }).tick(100).portBelieved();
  const byPort = (id: string) => lineOf({ end: 5, took: 10 }, { id, attempt: { localPort: 1 } });
  assert.equal(wire.says(lineOf({ end: 5, took: 10 }, { id: 'x' }), 6), '1 request-id');
  assert.equal(wire.says(byPort('z'), 6), '2 request-window');
  assert.equal(wire.says(byPort('x'), 6), 'ambiguous');
});

test('an open connection is forgotten only where no closed one is left, and its Service is void until the record begins anew', () => {
  const wire = new Wire(SMALL).open(1, 1, 0).open(2, 2, 1).open(3, 1, 2);
  const service = wire.index.service(VIP, 80)!;
  assert.deepEqual(
    [service.connectionsKnownSince, service.withoutRequestKnownSince, service.requestsKnownSince],
    [Infinity, Infinity, -Infinity],
    'no request was seen on it',
  );
  assert.deepEqual([wire.index.sizes.open, service.open.size], [2, 2]);
  assert.equal(service.connectionsWithoutRequest.size, 2);
  wire.close(3, 1, 3).open(4, 2, 4);
  assert.deepEqual(wire.index.onPort(3), [], 'the closed one goes first, however young');
  assert.equal(wire.index.sizes.open, 2);
  wire.tick(100).gap('conntrack', 200);
  assert.deepEqual(
    [service.connectionsKnownSince, service.withoutRequestKnownSince],
    [T0 + 200, T0 + 200],
    'what is open now comes again',
  );
  assert.deepEqual([wire.index.sizes.open, wire.index.sizes.closed], [0, 2]);
});

test('a request within the stream of a forgotten connection is forgotten with it', () => {
  const wire = new Wire(SMALL).open(1, 1, 0).request(1, 1, 1).request(1, 1, 2, { midStream: true });
  const { requests } = wire.index.service(VIP, 80)!;
  wire.open(2, 2, 3).open(3, 2, 4);
  assert.deepEqual(
    requests.map(({ forgotten }) => forgotten),
    [true, true],
  );
});

test('forgetting a connection that carried a request leaves what is known of unused ones, and a mid-stream one is over', () => {
  const wire = new Wire(SMALL).open(1, 1, 0).request(1, 1, 1).close(1, 1, 2).open(2, 1, 3).open(3, 1, 4);
  const service = wire.index.service(VIP, 80)!;
  assert.deepEqual(
    [service.connectionsKnownSince, service.withoutRequestKnownSince],
    [T0 + 60_002, -Infinity],
  );
});

test('of forgotten connections the backend is remembered while it was one', () => {
  const wire = new Wire(SMALL).open(1, 1, 0).open(2, 1, 1).open(3, 1, 2).open(4, 1, 3);
  const service = wire.index.service(VIP, 80)!;
  assert.equal(service.forgottenBackend!.ip, podIp(1));
  wire.open(5, 2, 4).open(6, 2, 5).open(7, 2, 6);
  assert.equal(service.forgottenBackend, null);
  wire.gap('conntrack', 10);
  assert.equal(service.forgottenBackend, undefined, 'nothing is forgotten of a record that begins anew');
  assert.deepEqual(
    [...service.backends.entries()].map(([{ ip }, count]) => [ip, count]),
    [[podIp(2), 2]],
  );
});

test('a new beginning of conntrack closes what was open, at the latest when it opened; one of the tap, or a gap, closes nothing', () => {
  const wire = new Wire().open(1, 1, 0).open(2, 2, 60);
  wire.gap('tap', 30).gap('conntrack', 40, 30);
  assert.equal(wire.index.onPort(1)[0]!.closeTo, Infinity);
  wire.gap('conntrack', 50);
  assert.deepEqual(
    [1, 2].map((sport) => wire.index.onPort(sport)[0]!.closeTo),
    [T0 + 50, T0 + 60],
  );
});

test('an end closes the youngest connection of its tuple, and the one of the same ends whose VIP is not known', () => {
  const wire = new Wire().tick(0);
  const ends = { src: NGINX, sport: 1, ip: podIp(1), port: 8000 };
  wire.apply({ kind: 'open', t: T0 + 1, ...ends, via: 'conntrack' }).open(1, 1, 2);
  wire.apply({ kind: 'close', t: T0 + 3, ...ends, vip: VIP, vport: 80, via: 'conntrack', update: true });
  assert.equal(wire.index.sizes.closed, 0, 'an update is no end');
  wire.close(1, 1, 4);
  assert.deepEqual(
    wire.index.onPort(1).map(({ closeTo }) => closeTo),
    [T0 + 4, T0 + 4],
  );
  wire.close(1, 1, 9);
  assert.equal(wire.index.onPort(1)[0]!.closeTo, T0 + 4, 'it has ended once');
  const other = new Wire().open(1, 1, 0);
  other.apply({ kind: 'open', t: T0 + 1, ...ends, via: 'conntrack' });
  other.apply({ kind: 'close', t: T0 + 2, ...ends, via: 'conntrack' });
  assert.deepEqual(
    other.index.onPort(1).map(({ closeTo }) => closeTo),
    [Infinity, T0 + 2],
    'an end without a VIP is that of a connection without one',
  );
});

test('a request to another pod than its port leads to is on a connection of its own, whose VIP is not known', () => {
  const wire = new Wire().open(1, 1, 0).tick(5).request(1, 2, 10);
  const [known, unknown] = wire.index.onPort(1);
  assert.equal(known!.latest, undefined);
  assert.deepEqual([unknown!.service, unknown!.backend.ip], [wire.index.unknown, podIp(2)]);
  assert.deepEqual(
    [unknown!.openFrom, unknown!.openTo],
    [-Infinity, T0 + 10],
    'it may have been open for long',
  );
  wire.request(1, 2, 11);
  assert.equal(wire.index.onPort(1).length, 2, 'the next one is on the same');
});

test('a request whose VIP is not known takes the connections of its port and pod off those without a request', () => {
  const wire = new Wire().open(1, 1, 0).open(2, 1, 0).open(1, 2, 1, { vip: '10.96.0.9' }).tick(5);
  const unused = wire.index.service(VIP, 80)!.connectionsWithoutRequest;
  const elsewhere = wire.index.service('10.96.0.9', 80)!.connectionsWithoutRequest;
  wire.apply({ kind: 'request', t: T0 + 6, src: NGINX, sport: 1, ip: podIp(1), port: 8000, via: 'tap' });
  assert.deepEqual(
    [...unused].map(({ sport }) => sport),
    [2],
  );
  assert.equal(elsewhere.size, 1);
});

test('a request is on its connection when its end came first, unless that was before the watermark', () => {
  const wire = new Wire().open(1, 1, 0).close(1, 1, 10).tick(10).request(1, 1, 12);
  assert.equal(wire.index.onPort(1).length, 1);
  assert.equal(wire.index.onPort(1)[0]!.latest!.ended, true, 'its connection is closed');
  wire.tick(10.1).request(1, 1, 13);
  assert.equal(wire.index.onPort(1).length, 2);
  assert.equal(wire.index.onPort(1)[1]!.openFrom, -Infinity);
});

test('a request was seen after the watermark, and ends the one before it', () => {
  const wire = new Wire().open(1, 1, 0).tick(5).request(1, 1, 7).tick(8).request(1, 1, 9);
  const [first, second] = wire.index.service(VIP, 80)!.requests;
  assert.deepEqual([first!.from, first!.to, first!.endedBy, first!.ended], [T0 + 5, T0 + 7, T0 + 9, true]);
  assert.deepEqual([second!.from, second!.endedBy, second!.ended], [T0 + 8, Infinity, false]);
  assert.deepEqual([first!.first, second!.first], [false, false], 'that counts only with byte counts');
});

test('what may have begun within a body is one request over all such packets, until the next request', () => {
  const within = { midStream: true } as const;
  const wire = new Wire().open(1, 1, 0).request(1, 1, 1).tick(5).request(1, 1, 6, within).tick(8);
  wire.request(1, 1, 9, within);
  const connection = wire.index.onPort(1)[0]!;
  assert.deepEqual([connection.midStream!.from, connection.midStream!.to], [T0 + 5, T0 + 9]);
  const { midStream } = connection;
  wire.tick(9).request(1, 1, 10);
  assert.deepEqual([midStream!.endedBy, midStream!.ended, connection.midStream], [T0 + 10, true, undefined]);
  wire.close(1, 1, 20).request(1, 1, 21, within);
  assert.equal(connection.midStream!.ended, true);
  const open = new Wire().open(1, 1, 0).request(1, 1, 1).request(1, 1, 2, within);
  const left = open.index.onPort(1)[0]!.midStream!;
  open.close(1, 1, 3);
  assert.equal(left.ended, true);
});

test('what a Service tells of ids: nginx sets them, they are seen, and some request had none', () => {
  const of = (extra: object) => {
    const wire = new Wire().open(1, 1, 0).tick(5).request(1, 1, 6, extra);
    const { idsBeforeHost, carriesIds, lastWithoutIdAt } = wire.index.service(VIP, 80)!;
    return [idsBeforeHost, carriesIds, lastWithoutIdAt - T0];
  };
  assert.deepEqual(of({ id: 'a' }), [false, true, -Infinity]);
  assert.deepEqual(of({ id: 'a', idBeforeHost: true }), [true, true, -Infinity]);
  assert.deepEqual(of({}), [false, false, 6]);
  assert.deepEqual(of({ cut: true }), [false, false, -Infinity], 'the id may be in what was not copied');
  assert.deepEqual(of({ sent: 1, received: 1 }), [false, false, -Infinity], 'no payload was copied');
});

test('unreadable connections are kept a minute longer than they can have served, and then the Service says since when', () => {
  const wire = new Wire().open(1, 1, 0).open(2, 1, 0).unreadable(1, 1, 1).close(1, 1, 1_000);
  const service = wire.index.service(VIP, 80)!;
  assert.deepEqual(
    [...service.connectionsWithoutRequest].map(({ sport }) => sport),
    [2],
  );
  wire.tick(120_999).unreadable(2, 1, 121_000);
  assert.equal(service.unreadable.size, 2);
  wire.tick(121_000).unreadable(2, 1, 121_000);
  assert.deepEqual(
    [...service.unreadable].map(({ sport }) => sport),
    [2],
  );
  assert.equal(service.unreadableKnownSince, T0 + 61_000);
});

test('an unreadable connection that is forgotten for the limit may have served until a minute after its end', () => {
  const wire = new Wire(SMALL)
    .open(1, 1, 0)
    .unreadable(1, 1, 1)
    .close(1, 1, 10)
    .open(2, 1, 20)
    .open(3, 1, 30);
  const service = wire.index.service(VIP, 80)!;
  assert.deepEqual([service.unreadable.size, service.unreadableKnownSince], [0, T0 + 60_010]);
});

test('a record that begins anew makes known again what was forgotten, from then on', () => {
  const wire = new Wire().open(1, 1, 0).tick(5);
  const service = wire.index.service(VIP, 80)!;
  for (const field of [
    'connectionsKnownSince',
    'withoutRequestKnownSince',
    'requestsKnownSince',
    'unreadableKnownSince',
    'hidingIdsKnownSince',
  ] as const)
    service[field] = Infinity;
  wire.gap('conntrack', 10);
  assert.deepEqual(
    [
      service.connectionsKnownSince,
      service.withoutRequestKnownSince,
      service.requestsKnownSince,
      service.unreadableKnownSince,
      service.hidingIdsKnownSince,
    ].map((t) => t - T0),
    [10, 10, 10, 10, 10],
  );
});

test('a watermark never goes back, but with the clock', () => {
  const wire = new Wire().tick(1_000).tick(900);
  assert.equal(wire.index.coverage.watermark, T0 + 1_000);
  wire.gap('tap', 950);
  assert.equal(wire.index.coverage.watermark, T0 + 1_000, 'sources may differ by 50 ms');
  wire.gap('tap', 940, 930);
  assert.equal(wire.index.coverage.watermark, T0 + 1_000, 'a gap is no new beginning');
  wire.gap('tap', 940);
  assert.equal(wire.index.coverage.watermark, T0 + 940);
});

test('the clock set back ends what a request was known to be over by, and a disagreement counts from then', () => {
  const wire = new Wire().tick(0).open(1, 1, 10).request(1, 1, 20).request(1, 1, 30).tick(1_000);
  const service = wire.index.service(VIP, 80)!;
  service.trust.seen(false, T0 + 900);
  wire.index.feedClock.observe(0, 7);
  wire.index.onClockRollback(T0 + 5);
  assert.deepEqual(
    service.requests.map(({ endedBy }) => endedBy - T0),
    [5, Infinity],
  );
  for (let n = 0; n < 21; n++) service.trust.seen(true, T0);
  assert.deepEqual([service.trust.trusts(T0 + 10_005), service.trust.trusts(T0 + 10_006)], [false, true]);
  assert.equal(wire.index.feedClock.behindMs, 0);
});
