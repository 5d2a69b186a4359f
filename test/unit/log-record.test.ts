/** The rule by LOG records (`--sources kernel-log`): the connection that opened for an attempt. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lineOf, NGINX, podIp, T0, VIP, Wire } from '../model/wire.ts';

const logs = (...sources: ('conntrack' | 'kernel-log')[]): Wire =>
  new Wire(undefined, sources.length > 0 ? sources : ['kernel-log']);
function opened(wire: Wire, sport: number, pod: number, at: number, vip: string | undefined = VIP): Wire {
  const to = { src: NGINX, sport, ip: podIp(pod), port: 8000 };
  const dialed = vip === '' ? {} : { vip, vport: 80 };
  return wire.apply({ kind: 'open', t: T0 + at, ...to, ...dialed, via: 'kernel-log' });
}
const line = (localPort: number | undefined = 1) => lineOf({ end: 10, took: 10 }, { attempt: { localPort } });
const UNTIMED = lineOf(undefined, { attempt: { localPort: 1 } });

test('the connection that opened from the port in the window names the pod', () => {
  const at = (after: number, by: number): string =>
    opened(logs().tick(after), 1, 1, by).tick(100).says(line(), 11);
  assert.equal(at(-1, 5), '1 source-port');
  assert.equal(at(-10, -0.1), 'no-flow', 'it opened before the request began');
  assert.equal(at(-10, 0), '1 source-port');
  assert.equal(at(11, 12), '1 source-port', 'perhaps just before the line was read');
  assert.equal(at(11.1, 12), 'no-flow');
  assert.equal(opened(logs(), 2, 1, 5).tick(100).says(line(), 11), 'no-flow', 'from another port');
});

test('a line without times is of a connection that opened within two seconds before it', () => {
  const at = (by: number): string => opened(logs().tick(-90_000), 1, 1, by).tick(100).says(UNTIMED, 0);
  assert.equal(at(-2_000), '1 source-port');
  assert.equal(at(-2_000.1), 'no-flow');
  const wire = opened(opened(logs().tick(-90_000), 1, 1, -30_100), 1, 2, -1_000).tick(100);
  assert.notEqual(
    wire.says({ ...UNTIMED, endMs: T0 - 30_000 }, 0),
    '2 source-port',
    'kept in a buffer of nginx',
  );
});

test('two connections from the port in the window are ambiguous, unless they led to one pod', () => {
  const two = (pod: number): Wire => opened(opened(logs(), 1, 1, 1), 1, pod, 5).tick(100);
  assert.equal(two(1).says(line(), 11), '1 source-port');
  assert.notEqual(two(2).says(line(), 11), '1 source-port');
});

test('a connection to another Service is none of the attempt', () => {
  const wire = opened(opened(logs(), 1, 2, -3_000, '10.96.0.9'), 1, 2, 1, '10.96.0.9');
  assert.equal(wire.tick(100).says(line(), 11), 'no-flow');
  assert.equal(opened(wire, 1, 1, 5).tick(101).says(line(), 11), '1 source-port');
});

test('a connection whose VIP is not known resolves nothing, and contradicts', () => {
  assert.equal(opened(logs(), 1, 1, 5, '').tick(100).says(line(), 11), 'no-flow');
  const both = opened(opened(logs(), 1, 2, 1, ''), 1, 1, 5).tick(100);
  assert.equal(both.says(line(), 11), 'ambiguous');
  assert.equal(
    opened(opened(logs(), 1, 1, 1, ''), 1, 1, 5)
      .tick(100)
      .says(line(), 11),
    '1 source-port',
  );
});

test('nothing is claimed where records may be missing', () => {
  const wire = (): Wire => opened(logs(), 1, 1, 5).tick(100);
  assert.equal(wire().says(line(), 11), '1 source-port');
  assert.equal(wire().gap('kernel-log', 5, 4).says(line(), 11), 'gap');
  const unserved = wire();
  unserved.index.blindSpots.setUnserved(['10.244.0.71'], T0);
  assert.equal(unserved.says(line(), 11), 'gap');
  const forgotten = wire();
  forgotten.index.logged.knownSince = T0;
  assert.equal(forgotten.says(line(), 11), 'gap');
  forgotten.index.logged.knownSince = T0 - 0.1;
  assert.equal(forgotten.says(line(), 11), '1 source-port');
  const cycled = opened(opened(wire(), 9, 1, 50), 9, 2, 60).tick(101);
  assert.equal(cycled.says(line(), 11), 'gap', 'a port came round to another pod');
  assert.equal(opened(logs(), 1, 1, 5).tick(10).says(line(), 11), 'late');
});

test('LOG records are the evidence only where conntrack is not read, and the line has the port', () => {
  assert.equal(opened(logs('conntrack', 'kernel-log'), 1, 1, 5).tick(100).says(line(), 11), 'no-flow');
  const anyPort = lineOf({ end: 10, took: 10 });
  assert.notEqual(opened(logs(), 1, 1, 5).tick(100).says(anyPort, 11), '1 source-port');
});

test('after the clock was set back openings were before it, and ports that come round later are doubted again', () => {
  const wire = opened(opened(logs(), 1, 1, 0), 1, 2, 1_000).tick(100_000);
  assert.equal(wire.index.logged.cycledAround(T0 + 60_000), true);
  wire.index.onClockRollback(T0 - 5_000);
  assert.equal(wire.index.logged.onPort(1)[1]!.openTo, T0 - 5_000);
  assert.equal(wire.index.logged.cycledAround(T0 + 54_999), true);
  assert.equal(wire.index.logged.cycledAround(T0 + 55_000), false);
});
