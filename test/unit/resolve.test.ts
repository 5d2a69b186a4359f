import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Candidates } from '../../src/join/candidates.ts';
import { type Query, queriesOf } from '../../src/join/query.ts';
import {
  resolve,
  sawAllConnections,
  sawAllRequests,
  sawAllUnusedConnections,
} from '../../src/join/resolve.ts';
import { lineOf, NGINX, podIp, T0, VIP, Wire } from '../model/wire.ts';

const TIMED = lineOf({ end: 10, took: 10 });
const UNTIMED = lineOf(undefined);
const query = (wire: Wire, line = TIMED, readAt = 11): Query => queriesOf(line, T0 + readAt, wire.index)[0]!;
/** Everything was seen, and nothing forgotten. */
const seen = (): Wire => new Wire().open(1, 1, -500_000).open(2, 2, -500_000).tick(1_000);

test('all connections were seen where conntrack has no gap and the Service forgot none that fits', () => {
  const wire = seen();
  assert.equal(sawAllConnections(query(wire), wire.index), true);
  const service = wire.index.service(VIP, 80)!;
  service.connectionsKnownSince = T0 - 0.1;
  assert.equal(sawAllConnections(query(wire), wire.index), true);
  service.connectionsKnownSince = T0;
  assert.equal(sawAllConnections(query(wire), wire.index), false);
  service.connectionsKnownSince = -Infinity;
  wire.index.unknown.connectionsKnownSince = T0;
  assert.equal(sawAllConnections(query(wire), wire.index), false, 'any may have been of the Service');
  const gap = seen().gap('conntrack', 5, 4);
  assert.equal(sawAllConnections(query(gap), gap.index), false);
});

test('forgotten connections that led where all others lead hide nothing', () => {
  const wire = new Wire({ connections: 2, requests: 10, matchedRequests: 10, services: 10 });
  for (const sport of [1, 2, 3]) wire.open(sport, 1, -500_000);
  wire.tick(1_000);
  assert.equal(wire.index.service(VIP, 80)!.connectionsKnownSince, Infinity);
  assert.equal(sawAllConnections(query(wire), wire.index), true);
  wire.open(4, 2, 0).tick(1_001);
  assert.equal(sawAllConnections(query(wire), wire.index), false);
});

test('a line without times needs ten seconds of the record', () => {
  const wire = seen();
  const at = (readAt: number): boolean => sawAllConnections(query(wire, UNTIMED, readAt), wire.index);
  wire.tick(-580_000);
  const young = new Wire().open(1, 1, -599_000).tick(1_000);
  const of = (readAt: number): boolean => sawAllConnections(query(young, UNTIMED, readAt), young.index);
  assert.deepEqual([of(-590_000), of(-589_999)], [false, true]);
  assert.equal(at(0), true);
});

test('unused connections and requests likewise, each of its own source', () => {
  for (const [saw, source, field] of [
    [sawAllUnusedConnections, 'conntrack', 'withoutRequestKnownSince'],
    [
      (q: Query, i: Wire['index'], t: number) => sawAllRequests(q, i, t, q.window.endedAfter),
      'tap',
      'requestsKnownSince',
    ],
  ] as const) {
    const wire = seen();
    const service = wire.index.service(VIP, 80)!;
    assert.equal(saw(query(wire), wire.index, T0 - 50), true);
    service[field] = T0;
    assert.equal(saw(query(wire), wire.index, T0 - 50), false, `${field} in the window`);
    service[field] = T0 - 0.1;
    assert.equal(saw(query(wire), wire.index, T0 - 50), true);
    wire.index.unknown[field] = T0;
    assert.equal(saw(query(wire), wire.index, T0 - 50), false);
    const other = source === 'tap' ? 'conntrack' : 'tap';
    const gap = seen().gap(source, 5, 4);
    assert.equal(saw(query(gap), gap.index, T0 - 50), false);
    const apart = seen().gap(other, 5, 4);
    assert.equal(saw(query(apart), apart.index, T0 - 50), true);
    const before = seen().gap(source, -60, -70);
    assert.equal(saw(query(before, UNTIMED), before.index, T0 - 50), true);
    assert.equal(saw(query(before, UNTIMED), before.index, T0 - 65), false);
  }
});

test('requests that were over before the exchange can have ended may be forgotten', () => {
  const wire = seen();
  wire.index.service(VIP, 80)!.requestsKnownSince = T0 + 3;
  assert.equal(sawAllRequests(query(wire), wire.index, T0, T0 + 3), false);
  assert.equal(sawAllRequests(query(wire), wire.index, T0, T0 + 3.1), true);
});

test('the outcome: the one backend of a complete record, or the reason why there is none', () => {
  const wire = seen();
  const one = new Candidates();
  one.add(wire.index.onPort(1)[0]!);
  const both = new Candidates();
  both.add(wire.index.onPort(1)[0]!);
  both.add(wire.index.onPort(2)[0]!);
  const say = (candidates: Candidates, complete = true, q = query(wire)) =>
    resolve(q, wire.index, candidates, complete, 'request-id');
  const flow = { src: NGINX, sport: 1, vip: VIP, vport: 80, ip: podIp(1), port: 8000 };
  assert.deepEqual(say(one), { evidence: 'request-id', ip: podIp(1), port: 8000, flow });
  assert.deepEqual(say(both), { reason: 'ambiguous' });
  assert.deepEqual(say(new Candidates()), { reason: 'no-flow' });
  assert.deepEqual(say(one, false), { reason: 'gap' });
  assert.deepEqual(say(one, false, query(wire, TIMED, 1_000)), { reason: 'gap' });
  assert.deepEqual(
    say(one, false, query(wire, TIMED, 1_001)),
    { reason: 'late' },
    'it ends after the watermark',
  );
  const direct = query(wire, lineOf({ end: 10, took: 10 }, { attempt: { ip: podIp(1), port: 8000 } }));
  assert.deepEqual(say(one, true, direct), { reason: 'direct' });
});

test('unused connections that were over ten seconds before a line without times may be forgotten, later ones not', () => {
  const wire = seen();
  const service = wire.index.service(VIP, 80)!;
  const saw = (): boolean => sawAllUnusedConnections(query(wire, UNTIMED), wire.index, T0 - 50);
  service.withoutRequestKnownSince = T0 + 11 - 10_000 - 0.1;
  assert.equal(saw(), true);
  service.withoutRequestKnownSince = T0 + 11 - 10_000;
  assert.equal(saw(), false);
});

test('the attempts that one connection is named for share an outcome, unless evidence or name differ', () => {
  const wire = seen();
  const connection = wire.index.onPort(1)[0]!;
  const named = (evidence: 'request-id' | 'source-port' | 'sole-backend') => {
    const only = new Candidates();
    only.add(connection);
    return resolve(query(wire), wire.index, only, true, evidence);
  };
  const first = named('request-id');
  assert.equal(named('request-id'), first);
  const other = named('source-port');
  assert.deepEqual(
    [other, first].map((outcome) => 'evidence' in outcome && outcome.evidence),
    ['source-port', 'request-id'],
  );
  assert.deepEqual(named('sole-backend'), { evidence: 'sole-backend', ip: podIp(1), port: 8000 });
  const pod = { pod: 'a', namespace: 'n', node: '', service: '' };
  wire.index.names.set({ kind: 'name', seq: 0, t: T0 - 600_000, ip: podIp(1), ...pod });
  const afterwards = named('source-port');
  assert.notEqual(afterwards, other);
  assert.equal('evidence' in afterwards && afterwards.name?.pod, 'a');
  assert.equal('evidence' in other && other.name, undefined, 'what is shown already stays');
});
