/** What the rules by tapped requests (request-id, request-window) return, and how far they look. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { matchLine } from '../../src/join/match.ts';
import { queriesOf } from '../../src/join/query.ts';
import { matchByRequestId } from '../../src/join/rules/request-id.ts';
import { matchByRequestWindow } from '../../src/join/rules/request-window.ts';
import type { ParsedLine } from '../../src/model/line.ts';
import { lineOf, NGINX, podIp, T0, VIP, Wire } from '../model/wire.ts';

const A = { id: 'a' } as const;
const line = (more: Parameters<typeof lineOf>[1] = A, end = 10, took = 10) => lineOf({ end, took }, more);
const PERHAPS = { headerMs: null, status: 504 };
const byId = (wire: Wire, of: ParsedLine = line(), readAt = 11) =>
  matchByRequestId(queriesOf(of, T0 + readAt, wire.index)[0]!, wire.index);
const byWindow = (wire: Wire, of: ParsedLine = line({}), readAt = 11) =>
  matchByRequestWindow(queriesOf(of, T0 + readAt, wire.index)[0]!, wire.index);
const podOf = (verdict: ReturnType<typeof byId>): string | undefined =>
  verdict && ('evidence' in verdict.outcome ? verdict.outcome.ip.split('.')[3] : verdict.outcome.reason);

/** Two pods with a connection each that has carried a request with an id. */
const two = (old: object = {}): Wire =>
  new Wire()
    .open(1, 1, -500_000)
    .open(2, 2, -500_000)
    .request(1, 1, -400_000, { id: 'old1', ...old })
    .request(2, 2, -400_000, { id: 'old2', ...old })
    .tick(-1);

test('the request with the id of the line names its pod, and belongs to the line', () => {
  const wire = two().request(1, 1, 0, A).request(2, 2, 1, { id: 'b' }).tick(100);
  const verdict = byId(wire)!;
  assert.equal(podOf(verdict), '1');
  assert.equal(verdict.final, true);
  assert.equal(verdict.hasCounterpart, true);
  assert.equal(verdict.retryAtNextWatermark, false, 'nothing is waited for');
  assert.equal(verdict.matched, wire.index.onPort(1)[0]!.latest);
  assert.equal(byId(wire, line({ id: 'c' })), undefined, 'not seen');
  assert.equal(byId(wire, line({})), undefined, 'no id is logged');
  assert.equal(byId(wire, line({ ...A, attempt: { localPort: 1 } })), undefined, 'the port says more');
});

test('two requests with the id on one pod name it, and neither belongs to the line; on two pods they are ambiguous', () => {
  const same = two().request(1, 1, 0, A).request(1, 1, 1, A).tick(100);
  assert.deepEqual([podOf(byId(same)), byId(same)!.matched], ['1', undefined]);
  const verdict = byId(two().request(1, 1, 0, A).request(2, 2, 1, A).tick(100))!;
  assert.deepEqual([podOf(verdict), verdict.final, verdict.matched], ['ambiguous', true, undefined]);
});

test('where the record is not complete the reason stands, and another rule may still find the pod', () => {
  const verdict = byId(two().request(1, 1, 0, A).gap('tap', 5, 4).tick(100))!;
  assert.deepEqual([podOf(verdict), verdict.final, verdict.matched], ['gap', false, undefined]);
});

test('the id on the pod’s own address is direct, whatever else is tried', () => {
  const wire = new Wire().open(1, 1, -500_000).tick(-1);
  const flow = { src: '10.244.0.70', sport: 9, ip: '10.244.1.1', port: 8000, via: 'tap' } as const;
  const dialed = { vip: '10.244.1.1', vport: 8000 };
  wire.apply({ kind: 'open', t: T0 - 1_000, ...flow, ...dialed });
  wire.apply({ kind: 'request', t: T0, ...flow, ...dialed, ...A, singleSegment: true }).tick(100);
  const verdict = byId(wire, line({ ...A, attempt: { ip: '10.244.1.1', port: 8000 } }))!;
  assert.deepEqual([podOf(verdict), verdict.final], ['direct', true]);
});

test('a line without times needs the tap from 250 ms before the id was first seen', () => {
  const at = (gapTo: number): string | undefined =>
    podOf(
      byId(
        two()
          .gap('tap', gapTo, gapTo - 10)
          .request(1, 1, 0, A)
          .tick(100),
        lineOf(undefined, A),
        11,
      ),
    );
  // The request was seen after the tick at -1.
  assert.deepEqual([at(-251), at(-251.1)], ['gap', '1']);
});

test('an attempt that was perhaps not sent may have been on an unused connection, if that opened when a connect can have begun', () => {
  const say = (opened: number, of: ParsedLine, readAt = 11): string | undefined =>
    podOf(
      byId(
        two()
          .tick(opened - 1)
          .open(3, 2, opened)
          .tick(-1)
          .request(1, 1, 0, A)
          .tick(300),
        of,
        readAt,
      ),
    );
  const perhaps = line({ ...A, attempt: PERHAPS });
  assert.deepEqual([say(-1, perhaps), say(0, perhaps)], ['1', 'ambiguous']);
  assert.equal(say(0, line()), '1', 'it was answered, so it was sent');
  const untimed = lineOf(undefined, { ...A, attempt: { headerMs: undefined, status: 504 } });
  assert.deepEqual([say(-130_002, untimed), say(-130_001, untimed)], ['1', 'ambiguous']);
});

test('such a connection that opened just now asks for another look, and conntrack has to be complete', () => {
  const perhaps = line({ ...A, attempt: PERHAPS });
  const young = byId(two().request(1, 1, 0, A).open(3, 2, 1).tick(100), perhaps)!;
  assert.deepEqual([podOf(young), young.retryAtNextWatermark], ['ambiguous', true]);
  const gap = two().request(1, 1, 0, A).gap('conntrack', 5, 4).tick(100);
  assert.deepEqual([podOf(byId(gap, perhaps)), podOf(byId(gap))], ['gap', '1']);
});

test('requests that carry no readable id contradict, as far as 512 are looked at', () => {
  const many = (count: number, pod: number): Wire => {
    const wire = two().request(1, 1, 0, A);
    for (let n = 0; n < count; n++) wire.request(pod, pod, 1, { cut: true });
    return wire.tick(100);
  };
  assert.equal(podOf(byId(many(1, 2))), 'ambiguous');
  assert.equal(podOf(byId(many(512, 1))), '1');
  assert.equal(podOf(byId(many(513, 1))), 'ambiguous');
});

test('how far back requests without an id reach: to the beginning of the window', () => {
  const at = (t: number): string | undefined =>
    podOf(
      byId(
        two()
          .tick(t - 1)
          .request(2, 2, t, { cut: true })
          .request(2, 2, t, { id: 'x' })
          .tick(-1)
          .request(1, 1, 0, A)
          .tick(100),
      ),
    );
  assert.deepEqual([at(-10), at(0)], ['1', 'ambiguous']);
});

test('an id that a client may have written is believed where no request with an id of a client, or with none, contradicts', () => {
  const say = (own: object, other: object): string | undefined =>
    podOf(
      byId(
        two({ idBeforeHost: true })
          .request(2, 2, -400_000, { id: 'of a client' })
          .request(1, 1, 0, { ...A, method: 'GET', path: '/', ...own })
          .request(2, 2, 1, other)
          .tick(100),
      ),
    );
  assert.equal(say({}, { id: 'b' }), 'ambiguous', 'nginx puts its own before Host');
  assert.equal(say({ idBeforeHost: true }, { id: 'b' }), '1');
  assert.equal(say({ idBeforeHost: true }, { id: 'b', idBeforeHost: true }), '1');
  assert.equal(say({ idBeforeHost: true, afterChunks: true }, { id: 'b' }), 'ambiguous');
  assert.equal(say({}, { id: 'b', idBeforeHost: true }), '1');
});

test('an id before Host is a subrequest’s, perhaps, if method or target are not the line’s and a client’s id may be its own', () => {
  const asked = (method: string | undefined, path: string | undefined, other: object = { id: 'b' }) => {
    const wire = two({ idBeforeHost: true }).request(2, 2, -400_000, { id: 'of a client' }).tick(-1);
    const own = { ...A, idBeforeHost: true as const, method, path } as object;
    return podOf(byId(wire.request(1, 1, 0, own).request(2, 2, 1, other).tick(100)));
  };
  assert.equal(asked('GET', '/'), '1');
  assert.equal(asked('GET', '/asked'), 'ambiguous');
  assert.equal(asked('HEAD', '/'), 'ambiguous');
  assert.equal(asked(undefined, undefined), 'ambiguous');
  assert.equal(asked('GET', '/asked', { id: 'b', idBeforeHost: true }), '1', 'that is of another line');
  const none = two({ idBeforeHost: true }).request(1, 1, 0, { ...A, idBeforeHost: true, path: '/asked' });
  assert.equal(podOf(byId(none.request(2, 2, 1, { id: 'b', idBeforeHost: true }).tick(100))), '1');
});

test('a target of more than 256 characters is not compared', () => {
  const at = (length: number): string | undefined => {
    const path = '/'.padEnd(length, 'x');
    const wire = two({ idBeforeHost: true }).request(2, 2, -400_000, { id: 'of a client' }).tick(-1);
    wire.request(1, 1, 0, { ...A, idBeforeHost: true, method: 'GET', path }).request(2, 2, 1, { id: 'b' });
    return podOf(byId(wire.tick(100), { ...line(), path }));
  };
  assert.deepEqual([at(256), at(257)], ['1', 'ambiguous']);
});

test('beside a subrequest, of two attempts one may have the id of the client: then neither is in order', () => {
  const answered = { headerMs: 3, responseMs: 3 };
  const of = lineOf({ end: 10, took: 10 }, { ...A, attempts: [answered, answered] });
  const wire = (last: object): Wire => {
    const own = { ...A, idBeforeHost: true, method: 'GET' } as const;
    return two({ idBeforeHost: true })
      .request(2, 2, -400_000, { id: 'of a client' })
      .tick(-1)
      .request(1, 1, 1, { ...own, path: '/asked' })
      .request(2, 2, 3, { ...own, path: '/' })
      .request(1, 1, 6, { method: 'GET', path: '/', ...last })
      .tick(100);
  };
  const outcomes = (last: object) =>
    matchLine(of, T0 + 11, wire(last).index).outcomes.map((outcome) =>
      'evidence' in outcome ? outcome.ip.split('.')[3] : outcome.reason,
    );
  assert.deepEqual(outcomes({ id: 'b' }), ['ambiguous', 'ambiguous']);
  const untimed = lineOf(undefined, { ...A, attempts: [{ status: undefined }, { status: undefined }] });
  assert.equal(
    wire({ id: 'b' }).says(untimed, 11),
    'ambiguous',
    'where the line does not say what was sent, too',
  );
});

test('of several attempts that were answered none is named where fewer requests have the id', () => {
  const answered = { headerMs: 3, responseMs: 3 };
  const of = (...attempts: object[]): ParsedLine => lineOf({ end: 10, took: 10 }, { ...A, attempts });
  const both = two().request(1, 1, 2, A).request(2, 2, 6, A).tick(100);
  assert.equal(podOf(byId(both, of(answered, answered))), '1');
  // The other one went out with the id of its client, by a location that passes it on.
  const one = two()
    .request(1, 1, 2, A)
    .request(2, 2, 6, { id: 'b' })
    .open(3, 1, -400_000)
    .request(3, 1, 1, { cut: true })
    .tick(100);
  assert.equal(podOf(byId(one, of(answered, answered))), 'ambiguous');
});

test('a request that another line has found is not the one a client wrote', () => {
  const wire = two({ idBeforeHost: true }).request(1, 1, 0, A).request(2, 2, 1, { id: 'b' }).tick(100);
  wire.index.markMatched([wire.index.requestsWithId('b')!]);
  assert.equal(podOf(byId(wire)), '1');
});

test('where no id stands before Host, an hour after the last request without an id a client’s no longer counts', () => {
  const at = (bare: number): string | undefined => {
    const wire = new Wire().open(1, 1, -4_000_000).open(2, 2, -4_000_000);
    wire.request(1, 1, -4_000_000, { id: 'x' }).request(2, 2, bare).tick(-1);
    return podOf(byId(wire.request(1, 1, 0, A).request(2, 2, 0.5, { id: 'b' }).tick(100)));
  };
  assert.deepEqual([at(-3_599_988), at(-3_599_989)], ['ambiguous', '1']);
});

test('attempts of one line on one Service: each request is one attempt’s, in order', () => {
  const both = line(
    {
      ...A,
      attempts: [
        { headerMs: 1, responseMs: 1 },
        { headerMs: 1, responseMs: 1 },
      ],
    },
    10,
    10,
  );
  const pods = (wire: Wire): string[] =>
    matchLine(both, T0 + 11, wire.index).outcomes.map((outcome) =>
      'evidence' in outcome ? outcome.ip.split('.')[3]! : outcome.reason,
    );
  const wire = two().request(1, 1, 0, A).request(2, 2, 1, A).tick(100);
  assert.deepEqual(pods(wire), ['1', '2']);
  assert.equal(matchLine(both, T0 + 11, wire.index).matched.length, 2);
  // One without a readable id may be either's, and shifts the other.
  assert.deepEqual(
    pods(two().request(1, 1, 0, A).request(2, 2, 1, A).request(2, 2, 2, { cut: true }).tick(100)),
    ['ambiguous', 'ambiguous'],
  );
  assert.deepEqual(pods(two().request(1, 1, 0, A).request(2, 2, 1, A).gap('tap', 5, 4).tick(100)), [
    'gap',
    'gap',
  ]);
});

test('attempts of one Service need the whole record of each: one that was missed shifts the others', () => {
  const both = line(
    {
      ...A,
      attempts: [
        { headerMs: 1, responseMs: 1 },
        { headerMs: 500, responseMs: 500 },
      ],
    },
    1_010,
    1_010,
  );
  const wire = two().request(1, 1, 0, A).request(2, 2, 1, A).tick(2_000);
  wire.index.service(VIP, 80)!.requestsKnownSince = T0 + 100;
  assert.deepEqual(
    matchLine(both, T0 + 1_011, wire.index).outcomes.map((outcome) => 'reason' in outcome && outcome.reason),
    ['gap', 'gap'],
  );
});

test('attempts on different addresses have requests of their own', () => {
  const both = line({ ...A, attempts: [{ ip: '10.96.0.9' }, {}] });
  const wire = two().open(3, 3, -1_000, { vip: '10.96.0.9' });
  wire
    .request(3, 3, 0, { ...A, vip: '10.96.0.9' })
    .request(1, 1, 1, A)
    .tick(100);
  assert.deepEqual(
    matchLine(both, T0 + 11, wire.index).outcomes.map((outcome) => 'evidence' in outcome && outcome.ip),
    ['10.244.1.3', '10.244.1.1'],
  );
});

test('the requests of the window, if all lead to one pod, name it', () => {
  const wire = two().request(1, 1, 0).request(1, 1, 5).tick(100);
  const verdict = byWindow(wire)!;
  assert.deepEqual([podOf(verdict), verdict.hasCounterpart, verdict.matched], ['1', true, undefined]);
  assert.equal(podOf(byWindow(wire.request(2, 2, 101).tick(200), line({}, 110, 10), 111)), '2');
  assert.equal(byWindow(two().tick(100))!.hasCounterpart, false, 'nothing that was seen can have served it');
});

test('the window rule has nothing to say without an answered attempt, a Service or a complete record', () => {
  const wire = (): Wire => two().request(1, 1, 0).tick(100);
  assert.equal(byWindow(wire(), line({ attempt: PERHAPS })), undefined);
  assert.equal(byWindow(wire(), line({ attempt: { ip: '10.96.0.9' } })), undefined);
  assert.equal(byWindow(wire().gap('tap', 5, 4)), undefined);
  const older = wire();
  older.index.blindSpots.setOlderClients(true, T0);
  assert.equal(byWindow(older, lineOf(undefined)), undefined);
});

test('where only TCP headers are seen, the window names by time alone, whatever the counts', () => {
  const counts = { sent: 10, received: 20 };
  const logged = line({ attempt: { bytesSent: 100, bytesReceived: 200 } });
  const counted = (): Wire => two(counts).request(1, 1, 0, counts);
  assert.equal(podOf(byWindow(counted().tick(100), logged)), '1');
  assert.equal(podOf(byWindow(counted().request(2, 2, 1, counts).tick(100), logged)), 'ambiguous');
  assert.equal(podOf(byWindow(counted().open(3, 2, 1).tick(100), logged)), 'ambiguous', 'without a request');
  const long = (bytesSent?: number) => line({ attempt: { bytesSent } });
  assert.equal(podOf(byWindow(counted().tick(100), long(8_192))), '1');
  assert.equal(byWindow(counted().tick(100), long(8_193)), undefined, 'answered before it was seen, perhaps');
  assert.equal(byWindow(counted().tick(100), long()), undefined, 'its length is not logged');
});

test('an exchange of several segments may hide the request of a later line', () => {
  const counts = { sent: 10, received: 20 };
  const hiding = { ...counts, severalSegments: true } as const;
  const begun = (of: object): Wire =>
    two(counts).request(2, 2, -1_000, of).tick(-900).request(1, 1, 0, counts).tick(100);
  const sent = { attempt: { bytesSent: 100 } };
  assert.equal(podOf(byWindow(begun(counts), line(sent))), '1');
  assert.equal(podOf(byWindow(begun(hiding), line(sent))), 'ambiguous');
  const over = begun(hiding).request(2, 2, 150, counts).tick(155).request(1, 1, 165, counts).tick(300);
  assert.equal(podOf(byWindow(over, line(sent, 170, 10), 171)), '1', 'it ended before');
});

test('of the requests of a window 512 are looked at, of any pod and any time in it', () => {
  const many = (count: number): Wire => {
    const wire = two();
    for (let n = 0; n < count; n++) wire.request(1, 1, 0);
    return wire.tick(100);
  };
  assert.equal(podOf(byWindow(many(512))), '1');
  assert.equal(podOf(byWindow(many(513))), undefined);
  const cost = two().request(2, 2, -0.5);
  for (let n = 0; n < 600; n++) cost.request(1, 1, 20);
  assert.equal(podOf(byWindow(cost.request(1, 1, 0).tick(100))), undefined, 'also those that do not fit');
});

test('a request that was forgotten, or has found its own line, is not the one', () => {
  const wire = two().request(2, 2, 0, { id: 'b' }).request(1, 1, 1, { id: 'c' }).tick(100);
  assert.equal(podOf(byWindow(wire)), 'ambiguous');
  wire.index.markMatched([wire.index.requestsWithId('b')!]);
  assert.equal(podOf(byWindow(wire)), '1');
  assert.equal(podOf(byWindow(wire, line({ id: 'b' }))), 'ambiguous', 'of a line with its own id it is');
  const forgotten = two().request(2, 2, 0).request(1, 1, 1).tick(100);
  forgotten.index.onPort(2)[0]!.latest!.forgotten = true;
  assert.equal(podOf(byWindow(forgotten)), '1');
});

test('a connection that opened just now may carry the request yet', () => {
  const wire = two().request(1, 1, 0).tick(2).open(3, 2, 3).tick(100);
  const verdict = byWindow(wire)!;
  assert.deepEqual([podOf(verdict), verdict.retryAtNextWatermark], ['ambiguous', true]);
  const old = byWindow(two().open(3, 2, -100_000).request(1, 1, 0).tick(200), line({}, 110, 110), 111)!;
  assert.deepEqual([podOf(old), old.retryAtNextWatermark], ['ambiguous', false]);
});

test('a line that a rule finds ambiguous for what is missing is not named by a later rule', () => {
  const wire = new Wire().open(1, 1, -500_000).request(1, 1, 0, { id: 'x' }).tick(100);
  assert.equal(wire.says(line({}), 11), '1 sole-backend');
  assert.equal(wire.says(line({ id: 'y' }), 11), 'ambiguous');
  assert.equal(wire.portBelieved().says(line({ id: 'y', attempt: { localPort: 1 } }), 11), '1 source-port');
  const service = wire.index.service(VIP, 80)!;
  service.trust.seen(false, T0 - 10_000);
  assert.equal(wire.says(line({}), 11), 'ambiguous');
});

test('a connection that never was needs no evidence, and a pod that refused is named', () => {
  const never = line({ attempt: { connectMs: null, headerMs: null, responseMs: null, status: 502 } });
  assert.equal(two().tick(100).says(never, 11), 'unconnected');
  assert.equal(two().open(3, 1, 1).tick(100).says(never, 11), '1 sole-backend');
  assert.equal(two().gap('conntrack', 5, 4).tick(100).says(never, 11), 'gap', 'what would help is said');
});

test('by the window nothing is named while a connection without a request was forgotten', () => {
  const said = (connections: number): string | undefined => {
    const wire = new Wire({ connections, requests: 10, matchedRequests: 10, services: 10 });
    wire.open(2, 2, -500_000).open(1, 1, -400_000).tick(-1).request(1, 1, 0).tick(100);
    return podOf(byWindow(wire));
  };
  assert.deepEqual([said(2), said(1)], ['ambiguous', undefined]);
});

test('where nothing tells which Service a request was of, one with a client’s id is a candidate, too', () => {
  const wire = new Wire(undefined, ['tap']);
  const seen = (pod: number, at: number, extra: { id: string; idBeforeHost?: true }): void => {
    const flow = { src: NGINX, sport: pod, ip: podIp(pod), port: 8000, via: 'tap' } as const;
    wire
      .tick(at - 1)
      .apply({ kind: 'request', t: T0 + at, ...flow, bytes: 100, singleSegment: true, ...extra });
  };
  seen(3, -2_000, { id: 'elsewhere', idBeforeHost: true });
  seen(1, 5, { id: 'the-clients' });
  seen(2, 7, A);
  assert.equal(podOf(byId(wire.tick(100), line({ ...A, attempt: { bytesSent: 100 } }))), 'ambiguous');
});

/** A line without times; `recurs`: its id is not nginx's own. */
const untimed = (recurs: boolean, attempts: object[] = [{}]): ParsedLine => ({
  ...lineOf(undefined, { ...A, attempts }),
  idRecurs: recurs,
});
/** What is named by an id that was seen on pod 2 at 0, a second after the record began; `older`: a client has been there since before. */
const younger = (of: ParsedLine, older: boolean): string | undefined => {
  const wire = new Wire()
    .open(2, 2, -500_000)
    .gap('tap', -1_000, -2_000)
    .tick(-1)
    .request(2, 2, 0, A)
    .tick(50_000);
  wire.index.blindSpots.setOlderClients(older, T0 - 1_000);
  return podOf(byId(wire, of, 20_000));
};

test('a request with an id that may recur is not taken for one from before the record', () => {
  assert.equal(younger(untimed(false), true), '2', 'no other request has nginx’s own id');
  assert.equal(younger(untimed(true), true), 'gap', 'a client has sent the trace’s first request before');
  assert.equal(younger(untimed(true), false), '2');
});

test('the request of a second attempt is not taken for that of a first from before the record', () => {
  const retried = untimed(false, [{ status: 504 }, { status: 200 }]);
  assert.equal(younger(retried, true), 'gap');
});

test('a request with an id that may recur may have been forgotten before its line is read', () => {
  const limits = { connections: 100, requests: 2, matchedRequests: 2, services: 10 };
  const wire = new Wire(limits).open(1, 1, -500_000).open(2, 2, -500_000).tick(-1).request(1, 1, 0, A);
  for (let i = 1; i < 5; i++) wire.tick(10 * i - 1).request(1, 1, 10 * i, { id: `${i}` });
  wire.tick(999).request(2, 2, 1_000, A).tick(50_000);
  assert.equal(podOf(byId(wire, untimed(true), 2_000)), 'gap');
});
