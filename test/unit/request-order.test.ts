import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newOrder, type RequestOrder, takeSegment } from '../../src/capture/tap/request-order.ts';
import type { PendingSegment } from '../../src/capture/tap/request-tap.ts';

const fresh = (): RequestOrder => newOrder(false);

interface Given {
  seq: number;
  length: number;
  ack: number;
  /** It begins like a request of that many bytes; null: its length is not told. */
  request?: number | null;
  upgrade?: boolean;
  chunked?: boolean;
}

function segment({ seq, length, ack, request, upgrade = false, chunked = false }: Given): PendingSegment {
  const flow = { src: '10.244.0.70', sport: 40000, ip: '10.244.1.64', port: 8080 };
  const seen = { kind: 'request', via: 'tap', t: 0, ...flow } as const;
  return {
    request: request === undefined ? { ...seen, midStream: true } : { ...seen, id: 'x', bytes: length },
    seq,
    ack,
    segmentEnd: (seq + length) >>> 0,
    requestEnd: typeof request === 'number' ? (seq + request) >>> 0 : undefined,
    upgrade,
    chunked,
    copied: undefined,
    protocol: 'tls',
    placed: true,
  };
}

/** What becomes of the segments of one connection. */
function told(...given: Given[]): string[] {
  const order = fresh();
  return given.map((one) => {
    const each = segment(one);
    const what = takeSegment(order, each);
    if (what !== 'request') return what;
    const id = each.request.id ?? 'without id';
    return each.request.midStream ? 'within' : each.request.afterChunks ? `${id}, after chunks` : id;
  });
}

test('each request on a connection is told once, and pieces of its body never', () => {
  const head = { seq: 100, length: 1000, ack: 1, request: 3000 };
  const rest = { seq: 1100, length: 2000, ack: 1 };
  const next = { seq: 3100, length: 200, ack: 500, request: 200 };
  assert.deepEqual(told(head, rest, next), ['x', 'repeated', 'x']);
  assert.deepEqual(told(head, head), ['x', 'repeated']);
});

test('a body that goes on after an answer has begun is no more than a body while its end is known', () => {
  assert.deepEqual(
    told(
      { seq: 100, length: 1000, ack: 1, request: 3000 },
      { seq: 1100, length: 1000, ack: 77 },
      { seq: 2100, length: 1000, ack: 77, request: 500 },
    ),
    ['x', 'repeated', 'repeated'],
  );
});

test('what reaches beyond the end of a body may hold a request, also what looks like one', () => {
  const head = { seq: 100, length: 1000, ack: 1, request: 3000 };
  assert.deepEqual(told(head, { seq: 1100, length: 2200, ack: 77 }), ['x', 'within']);
  assert.deepEqual(told(head, { seq: 1100, length: 2200, ack: 77, request: 100 }), ['x', 'within']);
});

test('behind a body of unknown length every segment after an answer may hold a request', () => {
  assert.deepEqual(
    told(
      { seq: 100, length: 1000, ack: 1, request: null },
      { seq: 1100, length: 1000, ack: 1 },
      { seq: 2100, length: 1000, ack: 77 },
      { seq: 3100, length: 1000, ack: 77 },
    ),
    ['x', 'repeated', 'within', 'within'],
  );
});

test('behind a body in chunks what looks like a request is told with the doubt, as a client may have written it', () => {
  assert.deepEqual(
    told(
      { seq: 100, length: 1000, ack: 1, request: null, chunked: true },
      { seq: 1100, length: 1000, ack: 77, request: 60 },
      { seq: 2100, length: 1000, ack: 77 },
      { seq: 3100, length: 200, ack: 99, request: 200 },
      { seq: 3100, length: 200, ack: 99, request: 200 },
    ),
    ['x', 'x, after chunks', 'repeated', 'x, after chunks', 'repeated'],
  );
});

test('what a client wrote into a body in chunks hides no request, whatever length it tells', () => {
  const upload = { seq: 100, length: 1000, ack: 1, request: null, chunked: true };
  const forged = { seq: 1100, length: 1000, ack: 77, request: 1_000_000 };
  assert.deepEqual(told(upload, forged, { seq: 2100, length: 200, ack: 99, request: 200 }), [
    'x',
    'x, after chunks',
    'x, after chunks',
  ]);
  // All of the answer had come before the body's end.
  assert.deepEqual(told(upload, forged, { seq: 2100, length: 200, ack: 77, request: 200 }), [
    'x',
    'x, after chunks',
    'within',
  ]);
});

test('sequence numbers go round', () => {
  const near = 2 ** 32 - 500;
  assert.deepEqual(
    told(
      { seq: near, length: 1000, ack: 1, request: 3000 },
      { seq: (near + 1000) >>> 0, length: 2000, ack: 9 },
      { seq: (near + 3000) >>> 0, length: 100, ack: 10, request: 100 },
    ),
    ['x', 'repeated', 'x'],
  );
});

test('a connection that has taken the port, unheard of so far, is not taken for the one before', () => {
  const before = { seq: 3_000_000_000, length: 200, ack: 5, request: 200 };
  assert.deepEqual(told(before, { seq: 2_000_000_000, length: 100, ack: 9, request: 100 }), ['x', 'x']);
  assert.deepEqual(told(before, { seq: 100, length: 100, ack: 9, request: 100 }), ['x', 'x']);
});

test('in a tunnel no id is believed, and nothing but what looks like a request is told', () => {
  assert.deepEqual(
    told(
      { seq: 100, length: 200, ack: 1, request: null, upgrade: true },
      { seq: 300, length: 50, ack: 9 },
      { seq: 350, length: 80, ack: 12, request: 80 },
    ),
    ['x', 'repeated', 'without id'],
  );
});

test('a connection whose first payload is no request is unreadable, once', () => {
  assert.deepEqual(told({ seq: 1, length: 500, ack: 1 }, { seq: 501, length: 500, ack: 9 }), [
    'unreadable',
    'repeated',
  ]);
});

test('content that a client may have written into a body or a tunnel is not told', () => {
  const contents = (...given: Given[]) => {
    const order = fresh();
    return given.map((one) => {
      const each = segment(one);
      each.request.content = [1];
      const what = takeSegment(order, each);
      return what === 'request' ? each.request.content : what;
    });
  };
  const first = { seq: 100, length: 200, ack: 1, request: null };
  const second = { seq: 900, length: 200, ack: 500, request: 200 };
  assert.deepEqual(contents(first, second), [[1], [1]]);
  assert.deepEqual(contents({ ...first, chunked: true }, second), [[1], undefined]);
  assert.deepEqual(contents({ ...first, upgrade: true }, second), [[1], undefined]);
  const body = { seq: 400, length: 300, ack: 500, request: 300 };
  assert.deepEqual(contents({ ...first, request: 500 }, body), [[1], undefined]);
});
