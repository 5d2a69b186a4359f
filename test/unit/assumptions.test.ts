/** For each assumption of docs/evidence.md the observation that refutes it, and that nothing is claimed then. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lineOf, T0, Wire } from '../model/wire.ts';

/** Two pods with one open keepalive connection each. */
function twoPods(): Wire {
  return new Wire()
    .open(1001, 1, -500_000)
    .request(1001, 1, -499_000)
    .open(1002, 2, -500_000)
    .request(1002, 2, -499_000);
}

const at = (end: number, took = 10) => lineOf({ end, took });

test('a line whose id was not seen is left alone where the requests of its Service carry ids', () => {
  const wire = twoPods().request(1001, 1, 0, { id: 'seen' }).tick(100);
  assert.equal(wire.says(lineOf({ end: 5, took: 10 }, { id: 'missed' }), 6), 'ambiguous');
  assert.equal(wire.says(lineOf({ end: 5, took: 10 }, { id: 'seen' }), 6), '1 request-id');
});

test('without ids on the wire the one request in the window names the pod', () => {
  assert.equal(twoPods().request(1001, 1, 0).tick(100).says(at(5), 6), '1 request-window');
});

for (const protocol of ['http2', 'tls', 'other', 'offloaded'] as const) {
  test(`an open connection that cannot be read (${protocol}) contradicts the requests that were`, () => {
    const wire = twoPods()
      .open(1003, 3, -200_000)
      .unreadable(1003, 3, -200_000, protocol)
      .request(1001, 1, 0)
      .tick(100);
    assert.equal(wire.says(at(5), 6), 'ambiguous');
    wire.close(1003, 3, 200).tick(300);
    assert.equal(
      wire.says(at(5), 6),
      'ambiguous',
      'a record that came later does not change what was open then',
    );
  });

  test(`an open connection that cannot be read (${protocol}) contradicts an id that was seen elsewhere`, () => {
    const wire = twoPods().open(1003, 3, -200_000).unreadable(1003, 3, -200_000, protocol);
    wire.request(1001, 1, 0, { id: 'a' }).tick(100);
    assert.equal(wire.says(lineOf({ end: 5, took: 10 }, { id: 'a' }), 6), 'ambiguous');
  });
}

test('a connection that cannot be read no longer contradicts a minute after its end', () => {
  const wire = twoPods().open(1003, 3, -300_000).unreadable(1003, 3, -300_000).close(1003, 3, -200_000);
  assert.equal(wire.request(1001, 1, 0).tick(100).says(at(5), 6), '1 request-window');
});

test('a connection on which no request was seen contradicts the requests that were', () => {
  assert.equal(twoPods().open(1003, 3, -1_000).request(1001, 1, 0).tick(100).says(at(5), 6), 'ambiguous');
});

test('a line without a counterpart voids its Service until twenty lines in a row have one', () => {
  const wire = twoPods().tick(1_000);
  assert.equal(wire.says(at(500), 501), 'ambiguous', 'open connections may have carried it');
  wire.request(1001, 1, 1_500).tick(2_000);
  assert.equal(
    wire.says(at(1_510, 20), 1_511),
    'ambiguous',
    'it has a counterpart, the line before had none',
  );
  let named = 0;
  for (let n = 0; n < 40; n++) {
    const t = 11_000 + n * 1_000;
    wire.request(1001, 1, t).tick(t + 900);
    if (wire.says(at(t + 5), t + 6) === '1 request-window') named++;
    else assert.equal(named, 0, 'once shown otherwise, it stays so');
  }
  assert.equal(named, 20);
});

test('an answered line without any connection voids its Service', () => {
  const once = (): Wire => new Wire().open(1001, 1, 0).request(1001, 1, 0).close(1001, 1, 50).tick(1_000);
  assert.equal(once().says(at(5), 6), '1 sole-backend');
  const wire = once().tick(300_000).open(1001, 1, 400_000).tick(400_100);
  assert.equal(wire.says(at(200_000), 200_001), 'no-flow');
  assert.equal(wire.says(at(5), 6), 'ambiguous', 'a void Service claims nothing');
});

test('likewise where the tap does not run', () => {
  const wire = new Wire(undefined, ['conntrack']).open(1001, 1, 0).close(1001, 1, 50).tick(300_000);
  wire.open(1001, 1, 400_000).tick(400_100);
  assert.equal(wire.says(at(5), 6), '1 sole-backend');
  assert.equal(wire.says(at(200_000), 200_001), 'no-flow');
  assert.equal(wire.says(at(5), 6), 'ambiguous');
});

const line = (end: number) => lineOf({ end, took: 10 }, { attempt: { bytesSent: 100, bytesReceived: 200 } });
const exchange = { sent: 100, received: 200 };
/** Twenty-two lines in a row had their counts on the wire. */
function trustedCounts(): Wire {
  const wire = new Wire().open(1001, 1, -500_000).open(1002, 2, -500_000);
  wire.request(1002, 2, -400_000, exchange);
  for (let n = 0; n < 22; n++)
    wire.request(1001, 1, -300_000 + n * 1_000, exchange).tick(-299_500 + n * 1_000);
  for (let n = 0; n < 22; n++) wire.says(line(-299_995 + n * 1_000), -299_994 + n * 1_000);
  return wire;
}

test('byte counts name the pod only within a minute of the window', () => {
  const wire = trustedCounts();
  wire.request(1001, 1, -1_000, exchange).tick(-500);
  assert.equal(wire.says(line(-995), -994), '1 request-window');
  wire.tick(60_000);
  assert.notEqual(
    wire.says(line(-995), -994),
    '1 request-window',
    'what may hold a request is kept for a minute',
  );
});

test('an exchange that may hold another request contradicts the very counts of the line', () => {
  const wire = trustedCounts();
  wire.request(1002, 2, -200, { sent: 500, received: 800, severalSegments: true });
  wire.tick(-100).request(1001, 1, 0, exchange).tick(100);
  assert.equal(wire.says(line(5), 6), 'ambiguous');
});

test('a line that got no answer voids nothing when nothing was seen', () => {
  const wire = twoPods().tick(1_000);
  const unanswered = lineOf(
    { end: 500, took: 10 },
    { attempt: { connectMs: null, headerMs: null, status: 502 } },
  );
  wire.says(unanswered, 501);
  wire.request(1001, 1, 1_500).tick(2_000);
  assert.equal(wire.says(at(1_505), 1_506), '1 request-window');
});

test('nothing is claimed across a gap of the source that the evidence needs', () => {
  for (const source of ['conntrack', 'tap'] as const) {
    const wire = new Wire()
      .open(1001, 1, -1_000)
      .open(1002, 2, -1_000)
      .request(1002, 2, -900)
      .request(1001, 1, 0);
    wire.gap(source, 3, 2).tick(100);
    assert.equal(wire.says(at(5), 6), source === 'tap' ? 'ambiguous' : '1 request-window');
    const byId = twoPods().request(1001, 1, 0, { id: 'a' }).gap(source, 3, 2).tick(100);
    assert.equal(
      byId.says(lineOf({ end: 5, took: 10 }, { id: 'a' }), 6),
      source === 'tap' ? 'gap' : '1 request-id',
    );
  }
});

test('a coarse clock of nginx (timer_resolution) excludes nothing that came before the line was read', () => {
  // The clock stood at 0 while the request of 40 ms ran at 70; its line is read at 111.
  const wire = twoPods().request(1001, 1, -5).tick(60).request(1002, 2, 70).tick(200);
  assert.equal(wire.says(lineOf({ end: 0, took: 5 }), 111), 'ambiguous');
});

test('a clock of nginx that runs ahead bounds nothing', () => {
  const wire = twoPods().request(1001, 1, 0).request(1002, 2, 60).tick(200);
  const line = lineOf({ end: 100, took: 50 });
  assert.equal(wire.says(line, 101), '2 request-window');
  wire.index.lineClock.observe(line.endMs! + 50, line.endMs! + 1);
  assert.notEqual(wire.says(line, 101), '2 request-window');
});

/** A line that bears a time and no duration, read at 0. nginx has kept it in a buffer for so long (ms). */
const keptFor = (ms: number) => ({ ...lineOf(undefined), endMs: T0 - ms });

test('a line that nginx kept in a buffer is not named by a record that began after it was written', () => {
  const read = (line: ReturnType<typeof keptFor>): string => {
    const wire = new Wire().open(1002, 2, -500_000).tick(-60_000);
    wire.gap('conntrack', -20_000, -50_000).gap('tap', -20_000, -50_000).request(1002, 2, -19_000).tick(100);
    wire.index.blindSpots.setOlderClients(true, T0 - 20_000);
    wire.index.blindSpots.setOlderClients(false, T0 - 19_000);
    return wire.says(line, 0);
  };
  assert.equal(read(keptFor(0)), '2 sole-backend');
  assert.equal(read(keptFor(40_000)), 'gap');
});

test('what had to be forgotten since a line was written may have been its own', () => {
  const wire = new Wire({ connections: 2, requests: 9, matchedRequests: 9, services: 9 });
  wire.open(1001, 1, -100_000).close(1001, 1, -99_900).tick(-99_000).open(1002, 2, -30_000);
  wire.open(1003, 2, -120).close(1003, 2, -110).tick(100);
  assert.equal(wire.says(keptFor(99_000), 0), 'gap');
});
