import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newConnection } from '../../src/join/index/connection.ts';
import { LoggedOpens } from '../../src/join/index/logged-opens.ts';
import { Services } from '../../src/join/index/services.ts';
import type { OpenRecord } from '../../src/model/feed.ts';

const T0 = 1_764_837_843_000;

test('a Service is known by address and port; without both it is the unknown one', () => {
  const services = new Services(10);
  const a = services.of('10.96.0.1', 80);
  assert.equal(services.of('10.96.0.1', 80), a);
  assert.notEqual(services.of('10.96.0.1', 443), a);
  assert.equal(services.get('10.96.0.1', 443)!.vport, 443);
  assert.equal(services.get('10.96.0.2', 80), undefined);
  assert.equal(services.of(undefined, 80), services.unknown);
  assert.equal(services.of('10.96.0.1', undefined), services.unknown);
  assert.deepEqual([...services].at(-1), services.unknown);
  assert.equal(services.size, 2);
});

test('at the limit the oldest unused Service goes, and since when it was known stays', () => {
  const services = new Services(2);
  const used = services.of('10.96.0.1', 80);
  used.open.add(
    newConnection({ src: '', sport: 1, via: 'tap', t: 0 } as OpenRecord, used, { ip: '', port: 0 }, 0),
  );
  const idle = services.of('10.96.0.2', 80);
  idle.connectionsKnownSince = 5;
  idle.requestsKnownSince = 7;
  const next = services.of('10.96.0.3', 80);
  assert.equal(services.size, 2);
  assert.equal(services.get('10.96.0.2', 80), undefined);
  assert.equal(services.get('10.96.0.1', 80), used);
  assert.equal(services.knownSince, 7);
  assert.deepEqual(
    [
      next.connectionsKnownSince,
      next.withoutRequestKnownSince,
      next.requestsKnownSince,
      next.unreadableKnownSince,
      next.hidingIdsKnownSince,
    ],
    [7, 7, 7, 7, 7],
    'what was forgotten may have been of this one',
  );
});

test('Services in use stay beyond the limit', () => {
  const services = new Services(1);
  for (const vip of ['10.96.0.1', '10.96.0.2', '10.96.0.3']) {
    const service = services.of(vip, 80);
    service.closed.push(
      newConnection({ src: '', sport: 1, via: 'tap', t: 0 } as OpenRecord, service, { ip: '', port: 0 }, 0),
    );
  }
  assert.equal(services.size, 3);
});

const record = (sport: number, pod: number, at: number, vip = '10.96.0.1'): OpenRecord => ({
  kind: 'open',
  seq: 0,
  t: T0 + at,
  via: 'kernel-log',
  src: '10.244.0.70',
  sport,
  vip,
  vport: 80,
  ip: `10.244.1.${pod}`,
  port: 8000,
});

test('a LOG record opens a connection between the watermark and its own time', () => {
  const opens = new LoggedOpens();
  opens.add(record(1, 1, 5), T0);
  opens.add(record(1, 2, 9_000), T0 + 8_000);
  const [first, second] = opens.onPort(1);
  assert.deepEqual([first!.openFrom, first!.openTo, second!.backend.ip], [T0, T0 + 5, '10.244.1.2']);
  assert.deepEqual(opens.onPort(2), []);
});

test('a port that comes round within two seconds to another pod casts doubt on a minute before and after', () => {
  const opens = new LoggedOpens();
  opens.add(record(1, 1, 0), T0);
  opens.add(record(1, 1, 100), T0);
  assert.equal(opens.cycledAround(T0 + 100), false, 'the same pod may be the same packet');
  opens.add(record(1, 2, 1_000, '10.96.0.9'), T0);
  assert.equal(opens.cycledAround(T0 + 1_000), false, 'another Service is another port');
  opens.add(record(1, 3, 3_000, '10.96.0.9'), T0);
  assert.equal(opens.cycledAround(T0 + 3_000), false, 'two seconds are long enough');
  opens.add(record(1, 4, 4_999, '10.96.0.9'), T0);
  for (const [at, doubted] of [
    [-55_001, false],
    [-55_000, true],
    [4_999, true],
    [64_998, true],
    [64_999, false],
  ] as const)
    assert.equal(opens.cycledAround(T0 + at), doubted, `${at}`);
  opens.onClockRollback(T0);
  assert.equal(opens.cycledAround(T0 + 60_000), false);
  assert.equal(opens.onPort(1)[0]!.openTo, T0);
});

test('of more openings than are kept the oldest goes, and what came before it is not known', () => {
  const opens = new LoggedOpens();
  for (let n = 0; n < 20_001; n++) opens.add(record(n, 1, n), T0);
  assert.deepEqual(opens.onPort(0), []);
  assert.equal(opens.onPort(1).length, 1);
  assert.equal(opens.knownSince, T0);
});
