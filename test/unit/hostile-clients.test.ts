import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FlowIndex } from '../../src/join/index/flow-index.ts';
import { matchLine } from '../../src/join/match.ts';
import type { FeedRecord, Observation } from '../../src/model/feed.ts';
import { compileLogFormat, type LogFormatOptions } from '../../src/parse/log-format.ts';

/** Times of the tests are ms after this. */
const T0 = 1_764_837_843_000;
const FIELDS =
  '$upstream_addr "$request" $msec $request_time "$upstream_status" "$upstream_header_time" "$upstream_response_time" "$upstream_bytes_sent"';
const A = '10.244.1.1';
const B = '10.244.1.2';

interface Seen {
  id?: string;
  idBeforeHost?: true;
  afterChunks?: true;
  bytes?: number;
  singleSegment?: true;
  midStream?: true;
  method?: string;
  path?: string;
}

/** The feed of a Service with two pods and one connection to each, from the source ports 1001 (A) and 1002 (B). */
function world() {
  const index = new FlowIndex();
  let seq = 0;
  const tell = (record: Observation): void => index.apply({ ...record, seq: ++seq } as FeedRecord);
  const flow = (ip: string) => ({
    src: '10.244.0.70',
    sport: ip === A ? 1001 : 1002,
    vip: '10.105.148.194',
    vport: 80,
    ip,
    port: 8080,
  });
  tell({ kind: 'gap', source: 'conntrack', t: T0 - 60_000 });
  tell({ kind: 'gap', source: 'tap', t: T0 - 60_000 });
  for (const ip of [A, B]) tell({ kind: 'open', via: 'conntrack', t: T0 - 20_000, ...flow(ip) });
  return {
    /** A request seen at `at`. */
    seen(at: number, ip: string, rest: Seen = {}): void {
      tell({ kind: 'tick', t: T0 + at - 1 });
      tell({ kind: 'request', via: 'tap', t: T0 + at, bytes: 100, ...flow(ip), ...rest });
    },
    /** Requests that are looked through for a line. */
    get listed(): number {
      const { requests, requestsWithoutId } = index.service('10.105.148.194', 80)!;
      return requests.length + requestsWithoutId.length;
    },
    /** What becomes of the line of a request from `begun` to `over`, answered after 1 ms. */
    settle(id: string, begun: number, over: number, options: LogFormatOptions = {}, bytesSent = 100): string {
      const field = options.requestIdField ?? 'request_id';
      const format = compileLogFormat(`${FIELDS} "$${field}"`, options);
      const seconds = ((over - begun) / 1000).toFixed(3);
      const text = `10.105.148.194:80 "GET /item HTTP/1.1" ${((T0 + over) / 1000).toFixed(3)} ${seconds} "200" "0.001" "${seconds}" "${bytesSent}" "${id}"`;
      const bytes = Buffer.from(text);
      const line = format.parse(bytes, 0, bytes.length);
      assert.ok(typeof line !== 'string', `the line is taken for ${String(line)}`);
      tell({ kind: 'tick', t: T0 + over + 60_000 });
      const match = matchLine(line, T0 + over + 1, index);
      index.markMatched(match.matched);
      const outcome = match.outcomes[0]!;
      return 'evidence' in outcome ? outcome.ip : outcome.reason;
    },
  };
}

test("a client's own X-Request-ID through a location that sets none does not rule its request out", () => {
  const { seen, settle } = world();
  seen(10, A, { id: 'the-clients', singleSegment: true });
  seen(11, B, { singleSegment: true });
  assert.equal(settle('nginxs-own', 9, 20), 'ambiguous');
});

test("another request's id, sent through a location that sets none, names no pod where other locations set it", () => {
  const { seen, settle } = world();
  seen(5, A, { id: 'elsewhere', idBeforeHost: true, singleSegment: true });
  // The client was told the first request's id in time to send it with the second.
  seen(10, A, { id: 'the-clients', singleSegment: true });
  seen(11, B, { id: 'nginxs-own', singleSegment: true });
  assert.equal(settle('nginxs-own', 9, 20), 'ambiguous');
});

test('the same where no id stands before Host, but requests without any tell of a location that sets none', () => {
  const { seen, settle } = world();
  seen(1, A, { singleSegment: true });
  seen(10, A, { id: 'the-clients', singleSegment: true });
  seen(11, B, { id: 'nginxs-own', singleSegment: true });
  assert.equal(settle('nginxs-own', 9, 20), 'ambiguous');
});

test('an id that stands before Host is believed beside one that a client may have sent, if the target is the line’s', () => {
  for (const [target, pod] of [
    ['/item', B],
    ['/asked', 'ambiguous'],
  ] as const) {
    const { seen, settle } = world();
    seen(10, A, { id: 'the-clients', singleSegment: true });
    seen(11, B, { id: 'nginxs-own', idBeforeHost: true, singleSegment: true, method: 'GET', path: target });
    assert.equal(settle('nginxs-own', 9, 20), pod);
  }
});

test('an id in what may be a piece of a body in chunks is believed where no request carries an id of a client', () => {
  const { seen, settle } = world();
  seen(10, A, { id: 'nginxs-own', idBeforeHost: true, afterChunks: true, singleSegment: true });
  seen(11, B, { id: 'another', idBeforeHost: true, singleSegment: true });
  assert.equal(settle('nginxs-own', 9, 20), A);
});

test("an id that a client wrote into its body in chunks names no pod for its other request, sent with the client's id", () => {
  const { seen, settle } = world();
  seen(10, A, { id: 'nginxs-own', idBeforeHost: true, afterChunks: true, singleSegment: true });
  seen(11, B, { id: 'the-clients', singleSegment: true });
  assert.equal(settle('nginxs-own', 9, 20), 'ambiguous');
});

test('where no id stands before Host, ids are believed as they are', () => {
  const { seen, settle } = world();
  seen(10, A, { id: 'one', singleSegment: true });
  seen(11, B, { id: 'two', singleSegment: true });
  assert.equal(settle('two', 9, 20), B);
});

test('a line whose id was not seen on a Service that carries ids is left alone', () => {
  const { seen, settle } = world();
  seen(10, A, { id: 'first', singleSegment: true });
  assert.equal(settle('first', 9, 20), A);
  seen(11, B, { singleSegment: true });
  assert.equal(settle('second', 9, 20), 'ambiguous');
});

test('what a client writes into its tunnel does not end the tunnel: the line of it is left alone', () => {
  const { seen, settle } = world();
  // Two tunnels. In each the client writes a request, in the second with the first one's id.
  seen(10, A, { id: 'tunnel' });
  seen(11, B, { id: 'other' });
  seen(12, A, { id: 'anything' });
  seen(13, B, { id: 'tunnel' });
  assert.equal(settle('tunnel', 9, 5_000, {}, 5_000), 'ambiguous');
});

test('a request that is whole is over when the next one begins', () => {
  const { seen, settle } = world();
  seen(10, A, { id: 'twice', singleSegment: true });
  seen(12, A, { id: 'next', singleSegment: true });
  seen(13, B, { id: 'twice', singleSegment: true });
  assert.equal(settle('twice', 9, 5_000), B);
});

test('an id proves nothing while a request may have begun within another’s body', () => {
  const hiding = world();
  hiding.seen(5, B, { id: 'upload', bytes: 1_000 });
  hiding.seen(7, B, { midStream: true });
  hiding.seen(10, A, { id: 'same', singleSegment: true });
  assert.equal(hiding.settle('same', 6, 20), 'ambiguous');
  // Over before the line's request began.
  assert.equal(hiding.settle('same', 9, 20), A);
});

test('an upload of many packets is remembered as one request that may have begun in any of them', () => {
  const hiding = world();
  hiding.seen(5, B, { id: 'upload', bytes: 1_000 });
  for (let n = 0; n < 10_000; n++) hiding.seen(7 + n / 1_000, B, { midStream: true });
  assert.ok(hiding.listed < 500, `${hiding.listed} are listed`);
  hiding.seen(18, A, { id: 'same', singleSegment: true });
  assert.equal(hiding.settle('same', 15, 20), 'ambiguous');
  assert.equal(hiding.settle('same', 17.5, 20), A);
});

test('an id is believed beside an upload', () => {
  const { seen, settle } = world();
  seen(5, B, { id: 'upload', bytes: 1_000 });
  seen(10, A, { id: 'unique', singleSegment: true });
  assert.equal(settle('unique', 9, 20), A);
});

test('an id repeated at will costs its own lines, and none that come after', () => {
  const { seen, settle } = world();
  for (let n = 0; n < 500; n++)
    seen(10 + n / 100, n % 2 === 0 ? A : B, { id: 'repeated', singleSegment: true });
  seen(16, A, { id: 'unique', singleSegment: true });
  assert.equal(settle('repeated', 9, 20), 'ambiguous');
  assert.equal(settle('unique', 15.5, 20), A);
});
