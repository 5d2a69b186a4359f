/** What byte counts exclude, and what the rule by them needs (`--tap headers`). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { countsAllow, hasCounts, mayBeInPieces, mayHold } from '../../src/join/byte-counts.ts';
import { newConnection, newService, newTappedRequest } from '../../src/join/index/connection.ts';
import { matchLine } from '../../src/join/match.ts';
import { queriesOf } from '../../src/join/query.ts';
import { matchByByteCounts } from '../../src/join/rules/byte-counts.ts';
import type { RequestRecord } from '../../src/model/feed.ts';
import type { Attempt } from '../../src/model/line.ts';
import { lineOf, T0, VIP, Wire } from '../model/wire.ts';

const attempt = (bytesSent?: number | null, bytesReceived?: number | null, status = 200): Attempt =>
  ({ ...lineOf(undefined).attempts[0]!, bytesSent, bytesReceived, status }) as Attempt;

type Exchange = Partial<Pick<RequestRecord, 'sent' | 'received' | 'reset'>> & {
  several?: true;
  /** Another request came before it on its connection. */
  later?: true;
};

function exchange({ several, later, ...counts }: Exchange) {
  const flow = { src: '10.244.0.70', sport: 1, ip: '10.244.1.1', port: 8000 };
  const record: RequestRecord = { kind: 'request', seq: 0, t: T0, via: 'tap', ...flow, ...counts };
  if (!several) record.singleSegment = true;
  const connection = newConnection(record, newService(VIP, 80), { ip: flow.ip, port: 8000 }, T0);
  const first = newTappedRequest(connection, record, T0);
  if (!later) return first;
  connection.latest = first;
  return newTappedRequest(connection, record, T0);
}

test('counts speak of an attempt that logs both and stays HTTP', () => {
  assert.equal(hasCounts(attempt(100, 200)), true);
  assert.equal(hasCounts(attempt(undefined, 200)), false);
  assert.equal(hasCounts(attempt(100, undefined)), false);
  assert.equal(hasCounts(attempt(100, 200, 101)), false, 'a tunnel has no requests');
});

test('a request may be in pieces where it had several segments or is longer than one write', () => {
  assert.equal(mayBeInPieces(exchange({ sent: 1, received: 1 }), attempt(8_192, 1)), false);
  assert.equal(mayBeInPieces(exchange({ sent: 1, received: 1 }), attempt(8_193, 1)), true);
  assert.equal(mayBeInPieces(exchange({ sent: 1, received: 1, several: true }), attempt(1, 1)), true);
  assert.equal(
    mayBeInPieces(exchange({ sent: 1, received: 1 }), attempt(undefined, 1)),
    true,
    'its length is not logged',
  );
  assert.equal(mayBeInPieces(exchange({ several: true }), attempt(9_000, 1)), false, 'no counts were taken');
});

test('an exchange may hold the attempt behind another request if more was sent and no less received', () => {
  const holds = (sent: number | undefined, received: number) =>
    mayHold(exchange(sent === undefined ? { received } : { sent, received }), attempt(100, 200));
  assert.deepEqual(
    [holds(101, 200), holds(100, 200), holds(101, 199), holds(101, 201)],
    [true, false, false, true],
  );
  assert.equal(holds(undefined, 0), true, 'its beginning was not seen');
  assert.equal(mayHold(exchange({ sent: 1, received: 1 }), attempt(undefined, 200)), true);
  assert.equal(mayHold(exchange({ sent: 1, received: 1 }), attempt(100, undefined)), true);
});

test('which counts leave it possible that an exchange is the one of an attempt with 100 bytes sent and 200 received', () => {
  const cases: [string, Exchange, boolean][] = [
    ['the very counts', { sent: 100, received: 200 }, true],
    ['other counts in one segment', { sent: 101, received: 201 }, false],
    ['not counted', { sent: 101 }, true],
    ['no answer yet, and one was logged', { sent: 100, received: 0 }, false],
    ['reset: no less came than nginx has read', { sent: 100, received: 300, reset: true }, true],
    ['reset: less came than nginx has read', { sent: 100, received: 199, reset: true }, false],
    ['reset: more was on the wire than nginx has written', { sent: 101, received: 200, reset: true }, false],
    ['reset: nginx wrote more than went out', { sent: 99, received: 200, reset: true }, true],
    ['reset: its beginning was not seen', { received: 200, reset: true }, true],
    ['its beginning was not seen', { received: 201 }, true],
    ['first, several segments: a piece', { sent: 99, received: 199, several: true }, true],
    ['first, several segments: with all of one', { sent: 100, received: 199, several: true }, true],
    ['first, several segments: with all of the other', { sent: 99, received: 200, several: true }, true],
    ['first, several segments: more sent', { sent: 101, received: 200, several: true }, false],
    ['first, several segments: more received', { sent: 100, received: 201, several: true }, false],
    ['later: behind the rest of another', { sent: 101, received: 201, several: true, later: true }, true],
    ['later: a piece', { sent: 99, received: 199, several: true, later: true }, true],
    ['later: more sent, less received', { sent: 101, received: 199, several: true, later: true }, false],
    ['later: less sent, more received', { sent: 99, received: 201, several: true, later: true }, false],
    ['later: more sent, as much received', { sent: 101, received: 200, several: true, later: true }, true],
    ['later: as much sent, less received', { sent: 100, received: 199, several: true, later: true }, true],
    ['later: as much sent, more received', { sent: 100, received: 201, several: true, later: true }, true],
    ['later: less sent, as much received', { sent: 99, received: 200, several: true, later: true }, true],
  ];
  for (const [what, counts, allowed] of cases)
    assert.equal(countsAllow(exchange(counts), attempt(100, 200)), allowed, what);
  assert.equal(countsAllow(exchange({ sent: 100, received: 0 }), attempt(100, 0)), true);
  assert.equal(countsAllow(exchange({ sent: 1, received: 1 }), attempt(undefined, 200)), true);
  assert.equal(countsAllow(exchange({ sent: 1, received: 1 }), attempt(100, undefined)), true);
});

test('of a request longer than one write a piece may be on the wire, and no more than it', () => {
  const piece = (sent: number, received: number, bytesSent: number) =>
    countsAllow(exchange({ sent, received }), attempt(bytesSent, 200));
  assert.equal(piece(8_000, 100, 8_193), true);
  assert.equal(piece(8_000, 100, 8_192), false);
  assert.equal(piece(8_193, 200, 8_193), true);
  assert.equal(piece(8_194, 200, 8_193), false);
  assert.equal(piece(8_193, 201, 8_193), false);
});

const COUNTS = { sent: 100, received: 200 };
const line = (end: number, took = 10, more: Partial<Attempt> = {}) =>
  lineOf({ end, took }, { attempt: { bytesSent: 100, bytesReceived: 200, ...more } });
const NEVER_SENT = { connectMs: null, headerMs: null, responseMs: null, status: 502, bytesSent: 0 };

/** Two pods, and the counts of more than twenty lines in a row are those of the wire. */
function trusted(): Wire {
  const wire = new Wire().open(1, 1, -500_000).open(2, 2, -500_000).request(2, 2, -400_000, COUNTS);
  for (let n = 0; n < 22; n++) wire.request(1, 1, -300_000 + n * 1_000, COUNTS).tick(-299_500 + n * 1_000);
  for (let n = 0; n < 22; n++) wire.says(line(-299_995 + n * 1_000), -299_994 + n * 1_000);
  return wire;
}
const verdict = (wire: Wire, of = line(5), readAt = 6) =>
  matchByByteCounts(queriesOf(of, T0 + readAt, wire.index)[0]!, wire.index);
const podOf = (wire: Wire, of = line(5), readAt = 6): string | undefined => {
  const outcome = verdict(wire, of, readAt)?.outcome;
  return outcome && ('evidence' in outcome ? outcome.ip.split('.')[3] : outcome.reason);
};

test('the rule names the pod of the exchange with the counts of the line, and says which exchange that was', () => {
  const wire = trusted().request(1, 1, 0, COUNTS).tick(200);
  assert.equal(podOf(wire), '1');
  const [matched] = matchLine(line(5), T0 + 6, wire.index).matched;
  assert.equal(matched, wire.index.onPort(1)[0]!.latest);
  wire.request(1, 1, 1, COUNTS).tick(201);
  assert.equal(podOf(wire), '1', 'both led there');
  assert.equal(verdict(wire)!.matched, undefined, 'which of the two it was is not known');
  wire.request(2, 2, 2, COUNTS).tick(202);
  assert.equal(podOf(wire), 'ambiguous');
  assert.equal(verdict(wire)!.matched, undefined);
});

test('other counts are another request, and without the very counts nothing is claimed', () => {
  const wire = trusted().request(2, 2, 0, { sent: 100, received: 201 }).request(1, 1, 1, COUNTS).tick(200);
  assert.equal(podOf(wire), '1');
  assert.equal(podOf(trusted().request(1, 1, 0, { sent: 100, received: 201 }).tick(200)), undefined);
});

test('an exchange is looked for up to 100 ms later than the line says, and not after it was read', () => {
  const clock = (wire: Wire): Wire => {
    for (let n = 0; n < 200; n++) wire.index.lineClock.observe(T0 - 10_000, T0 - 10_000 + 3);
    return wire;
  };
  // Answered at once, and the client took half a second to read.
  const slow = line(500, 500, { headerMs: 0, responseMs: 500 });
  const at = (t: number, readAt = 501) =>
    podOf(
      clock(trusted()).tick(-1).request(1, 1, 0, COUNTS).tick(t).request(2, 2, t, COUNTS).tick(900),
      slow,
      readAt,
    );
  const end = queriesOf(slow, T0 + 501, clock(trusted()).index)[0]!.window.end - T0;
  assert.equal(end, 12);
  assert.equal(at(end + 100), 'ambiguous');
  assert.equal(at(end + 100.1), '1');
  const quick = clock(trusted()).tick(-1).request(1, 1, 0, COUNTS).tick(7).request(2, 2, 7, COUNTS).tick(900);
  assert.equal(podOf(quick, line(5), 6), '1', 'it came after the line was read');
});

test('the rule has nothing to say without an answered attempt, counts, a Service or a complete record', () => {
  const wire = (): Wire => trusted().request(1, 1, 0, COUNTS).tick(200);
  assert.equal(podOf(wire()), '1');
  assert.equal(podOf(wire(), line(5, 10, NEVER_SENT)), undefined, 'it was not sent');
  assert.equal(podOf(wire(), line(5, 10, { bytesReceived: undefined })), undefined);
  assert.equal(podOf(wire(), line(5, 10, { ip: '10.96.0.99' })), undefined);
  assert.equal(podOf(wire().gap('tap', 100, 1)), undefined);
  const plain = new Wire().open(1, 1, -500_000).request(1, 1, 0).tick(200);
  assert.equal(verdict(plain), undefined, 'no counts were taken');
  const older = wire();
  older.index.blindSpots.setOlderClients(true, T0);
  const untimed = lineOf(undefined, { attempt: { bytesSent: 100, bytesReceived: 200, headerMs: 1 } });
  assert.equal(podOf(older, untimed), undefined, 'it may be of before the record');
  assert.equal(podOf(older), '1');
});

test('counts are evidence after more than twenty lines in a row have theirs on the wire', () => {
  const wire = new Wire().open(1, 1, -500_000).open(2, 2, -500_000);
  const say: (string | undefined)[] = [];
  for (let n = 0; n < 22; n++) {
    wire.request(1, 1, n * 1_000, COUNTS).tick(n * 1_000 + 500);
    say.push(podOf(wire, line(n * 1_000 + 5), n * 1_000 + 6));
  }
  assert.deepEqual(say, [...new Array(20).fill(undefined), '1', '1']);
});

test('a line without its counts on the wire takes the trust away, unless its exchange was reset', () => {
  const again = (wire: Wire): string | undefined =>
    podOf(wire.request(1, 1, 1_000, COUNTS).tick(1_200), line(1_005), 1_006);
  const reset = trusted().request(1, 1, 0, { sent: 100, received: 300, reset: true }).tick(200);
  assert.equal(podOf(reset), undefined, 'nginx has read less than came');
  assert.equal(again(reset), '1');
  const other = trusted().request(1, 1, 0, { sent: 100, received: 300 }).tick(200);
  podOf(other);
  assert.equal(again(other), undefined);
});

test('a request that was over before the window does not count', () => {
  const wire = trusted().tick(-31).request(2, 2, -30, COUNTS).tick(-1).request(1, 1, 0, COUNTS).tick(200);
  assert.equal(podOf(wire), '1');
  assert.equal(podOf(wire, line(5, 35)), 'ambiguous', 'the window of a longer request begins before it');
});

test('of the exchanges in a window 4,096 are looked at', () => {
  const many = (count: number): Wire => {
    const wire = trusted();
    for (let n = 0; n < count; n++) wire.request(1, 1, 0, COUNTS);
    return wire.tick(200);
  };
  assert.equal(podOf(many(4_096)), '1');
  assert.equal(podOf(many(4_097)), undefined);
});

test('an exchange of another connection that may hold the request contradicts, while it may have', () => {
  const hiding = (received = 800): Wire =>
    trusted().tick(-200).request(2, 2, -199, { sent: 500, received, severalSegments: true }).tick(-1);
  const wire = hiding().request(1, 1, 0, COUNTS).tick(200);
  assert.equal(podOf(wire), 'ambiguous');
  assert.equal(podOf(hiding(199).request(1, 1, 0, COUNTS).tick(200)), '1', 'it is too small for the answer');
  const over = hiding().request(2, 2, -6, { sent: 1, received: 1 }).request(1, 1, 0, COUNTS).tick(200);
  assert.equal(podOf(over), '1', 'its connection went on before the window began');
  const within = hiding().request(2, 2, -5, { sent: 1, received: 1 }).request(1, 1, 0, COUNTS).tick(200);
  assert.equal(podOf(within), 'ambiguous');
});

test('lines that come more than a minute behind the watermark are left alone', () => {
  const wire = trusted().request(1, 1, 0, COUNTS).tick(59_995);
  assert.equal(podOf(wire), '1');
  wire.tick(59_995.1);
  assert.equal(podOf(wire), 'ambiguous');
});

test('bytes that come later are added to the youngest exchange of the connection', () => {
  const wire = trusted().tick(-1).request(1, 1, 0, { sent: 100, received: 0 });
  const [tapped] = [wire.index.onPort(1)[0]!.latest!];
  wire.request(1, 1, 1, { ...COUNTS, update: true });
  assert.deepEqual(
    [tapped.sent, tapped.received, tapped.reset, tapped.singleSegment],
    [100, 200, false, true],
  );
  wire.request(1, 1, 1, { ...COUNTS, update: true, reset: true, severalSegments: true }).tick(200);
  assert.deepEqual([tapped.reset, tapped.singleSegment], [true, false]);
  wire.request(1, 2, 2, { sent: 9, received: 9, update: true });
  wire.request(1, 1, 2, { sent: 9, received: 9, update: true, src: '10.244.0.71' });
  assert.deepEqual([tapped.sent, tapped.received], [100, 200], 'of other ends');
  assert.equal(podOf(wire), '1');
});
