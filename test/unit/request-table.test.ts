/** The requests that the index remembers, by their ids (`index/request-table.ts`). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Connection, newConnection, newService } from '../../src/join/index/connection.ts';
import { ConnectionsByPort } from '../../src/join/index/connections-by-port.ts';
import { Services } from '../../src/join/index/services.ts';
import type { OpenRecord } from '../../src/model/feed.ts';
import { NGINX, podIp, T0, VIP, Wire } from '../model/wire.ts';

const LIMITS = { connections: 1_000, requests: 2, matchedRequests: 2, services: 10 };
const ids = (wire: Wire, id: string): number[] => {
  const found: number[] = [];
  for (let each = wire.index.requestsWithId(id); each; each = each.older) found.push(each.to - T0);
  return found;
};

test('requests of one id hang on the youngest, up to 64; more are found only as repeated', () => {
  const wire = new Wire().open(1, 1, 0);
  for (let n = 1; n <= 66; n++) wire.request(1, 1, n, { id: 'a' });
  const service = wire.index.service(VIP, 80)!;
  assert.equal(ids(wire, 'a').length, 64);
  assert.deepEqual(
    service.requestsWithRepeatedId.get('a')!.map(({ to }) => to - T0),
    [65, 66],
  );
  assert.equal(service.requests.length, 66);
  assert.equal(service.requestsWithoutId.length, 0);
  wire.request(1, 1, 67);
  assert.equal(service.requestsWithoutId.length, 1);
});

test('a request counts as over once, and one with a line as one that has found it', () => {
  const wire = new Wire(undefined).open(1, 1, 0).request(1, 1, 1, { id: 'a' }).request(1, 1, 2, { id: 'b' });
  assert.equal(wire.index.sizes.requests, 1);
  wire.close(1, 1, 3);
  assert.equal(wire.index.sizes.requests, 2);
  const open = new Wire(LIMITS).open(1, 1, 0).request(1, 1, 1, { id: 'a' });
  open.index.markMatched([open.index.requestsWithId('a')!]);
  assert.equal(open.index.sizes.requests, 0, 'it is kept with its connection');
  open.request(1, 1, 2, { id: 'b' });
  assert.equal(open.index.sizes.requests, 1);
  for (const [n, id] of ['c', 'd', 'e'].entries()) open.request(1, 1, 3 + n, { id });
  assert.deepEqual(ids(open, 'a'), [1], 'it takes no room from those without a line');
  assert.deepEqual(ids(open, 'b'), []);
});

test('what is over and found its line goes when two younger ones have', () => {
  const wire = new Wire(LIMITS).open(1, 1, 0);
  const left = (): string => ['a', 'b', 'c', 'd'].filter((id) => ids(wire, id).length > 0).join('');
  for (const [n, id] of ['a', 'b', 'c', 'd'].entries()) {
    wire.request(1, 1, 1 + n, { id });
    wire.index.markMatched([wire.index.requestsWithId(id)!]);
  }
  assert.equal(left(), 'bcd', 'd is still on its connection');
  wire.close(1, 1, 5);
  assert.equal(left(), 'cd');
  assert.equal(wire.index.counters.forgottenRequests, 0, 'no line can need them');
  assert.equal(wire.index.service(VIP, 80)!.requestsKnownSince, -Infinity);
});

test('of what is over and has no line the oldest goes, its Service says until when it served, and it is counted', () => {
  const wire = new Wire(LIMITS).open(1, 1, 0).open(2, 1, 0).request(2, 1, 1, { id: 'a' }).close(2, 1, 2);
  for (const [n, id] of ['b', 'c', 'd'].entries()) wire.request(1, 1, 3 + n, { id });
  assert.deepEqual([ids(wire, 'a'), ids(wire, 'b')], [[], [3]]);
  assert.equal(wire.index.counters.forgottenRequests, 1);
  assert.equal(wire.index.service(VIP, 80)!.requestsKnownSince, T0 + 60_002, 'a minute after its connection');
  wire.request(1, 1, 6, { id: 'e' });
  assert.equal(
    wire.index.service(VIP, 80)!.requestsKnownSince,
    T0 + 60_002,
    'an earlier one changes nothing',
  );
});

test('the lists of a Service are cleared of what is forgotten when that is more than 64 and more than half', () => {
  const wire = new Wire(LIMITS).open(1, 1, 0);
  const service = wire.index.service(VIP, 80)!;
  for (let n = 1; n <= 67; n++) wire.request(1, 1, n);
  assert.equal(service.requests.length, 67);
  assert.equal(service.forgottenRequests, 64);
  wire.request(1, 1, 68);
  // 68 requests, of which one is in progress and two are remembered.
  assert.deepEqual([service.requests.length, service.requestsWithoutId.length], [3, 3]);
  assert.equal(service.forgottenRequests, 0);
  const half = new Wire({ ...LIMITS, requests: 65 }).open(1, 1, 0);
  for (let n = 1; n <= 131; n++) half.request(1, 1, n);
  assert.equal(half.index.service(VIP, 80)!.requests.length, 131, '65 of 131 is not more than half');
  half.request(1, 1, 132);
  assert.equal(half.index.service(VIP, 80)!.requests.length, 66);
});

test('repeated ids are cleared with them, and those of requests that are remembered stay', () => {
  const wire = new Wire({ ...LIMITS, requests: 70 }).open(1, 1, 0);
  for (let n = 1; n <= 136; n++) wire.request(1, 1, n, { id: 'a' });
  const service = wire.index.service(VIP, 80)!;
  assert.equal(service.requestsWithRepeatedId.get('a')!.length, 70);
  for (let n = 0; n < 10; n++) wire.request(1, 1, 200 + n);
  const repeated = service.requestsWithRepeatedId.get('a')!;
  assert.deepEqual([repeated.length, repeated[0]!.to - T0], [63, 72], 'the 71 oldest of 142 went');
  for (let n = 0; n < 130; n++) wire.request(1, 1, 300 + n);
  assert.equal(service.requestsWithRepeatedId.has('a'), false);
});

const record = (sport: number, pod: number, src = NGINX): OpenRecord => ({
  kind: 'open',
  seq: 0,
  t: T0,
  via: 'conntrack',
  src,
  sport,
  ip: podIp(pod),
  port: 8000,
});

test('connections are found by port: the youngest of a tuple, and with the pod where the VIP is not known', () => {
  const [service, unknown] = [newService(VIP, 80), newService(undefined, undefined)];
  const table = new ConnectionsByPort();
  const add = (of: typeof service, pod: number, src = NGINX): Connection => {
    const connection = newConnection(record(1, pod, src), of, { ip: podIp(pod), port: 8000 }, T0);
    table.add(connection);
    return connection;
  };
  const [a, b, c, d, e] = [
    add(service, 1),
    add(unknown, 1),
    add(unknown, 2),
    add(service, 2),
    add(service, 3, '10.9.9.9'),
  ];
  assert.deepEqual(table.on(1), [a, b, c, d, e]);
  assert.deepEqual(table.on(2), []);
  assert.equal(table.youngest(record(1, 1), service, unknown), d, 'whatever pod the record names');
  assert.equal(table.youngest(record(1, 1), unknown, unknown), b);
  assert.equal(table.youngest({ ...record(1, 1), port: 8001 }, unknown, unknown), undefined);
  assert.equal(table.youngest(record(1, 9), unknown, unknown), undefined);
  assert.equal(table.youngest(record(2, 1), service, unknown), undefined);
  assert.equal(table.youngest(record(1, 1, '10.9.9.9'), service, unknown), e);
  for (const gone of [b, e, a, d]) table.remove(gone!);
  assert.deepEqual(table.on(1), [c]);
  table.remove(c!);
  assert.deepEqual(table.on(1), []);
  table.remove(c!);
});

test('a Service is in use while it has a connection or a request, and what was forgotten of it is kept when it goes', () => {
  const flow = record(1, 1);
  const fill = (use: (service: ReturnType<typeof newService>) => void): Services => {
    const services = new Services(1);
    use(services.of(VIP, 80));
    services.of('10.96.0.2', 80);
    return services;
  };
  const request = { forgotten: false } as never;
  assert.equal(fill((service) => service.requests.push(request)).size, 2);
  assert.equal(
    fill((service) => {
      service.requests.push(request);
      service.forgottenRequests = 1;
    }).size,
    1,
  );
  assert.equal(
    fill((service) => {
      service.closed.push(newConnection(flow, service, { ip: '', port: 0 }, T0));
      service.closedHead = 1;
    }).size,
    1,
  );
  const services = new Services(2);
  services.of(VIP, 80);
  services.of(VIP, 81);
  services.of('10.96.0.2', 80);
  assert.deepEqual([services.get(VIP, 80), services.get(VIP, 81)?.vport, services.size], [undefined, 81, 2]);
  services.of('10.96.0.3', 80);
  assert.equal(services.get(VIP, 81), undefined);
});
