import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lineOf, podIp, T0, VIP, Wire } from '../model/wire.ts';

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
});

test('a request that the line of another claimed is out, and one that a line with its own id claimed is not', () => {
  const wire = new Wire().open(1, 1, -100_000).tick(-1).request(1, 1, 0, { id: 'x' }).close(1, 1, 1);
  wire.open(1, 2, 2).request(1, 2, 3, { id: 'y' }).tick(100);
  const byPort = (id: string) => lineOf({ end: 5, took: 10 }, { id, attempt: { localPort: 1 } });
  assert.equal(wire.says(lineOf({ end: 5, took: 10 }, { id: 'x' }), 6), '1 request-id');
  assert.equal(wire.says(byPort('z'), 6), '2 request-window');
  assert.equal(wire.says(byPort('x'), 6), 'ambiguous');
});
