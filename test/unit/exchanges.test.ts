import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Exchanges } from '../../src/capture/tap/exchanges.ts';
import { TCP_FLAGS } from '../../src/capture/tap/packet.ts';

const { fin, syn, rst, psh } = TCP_FLAGS;
const ENDS = { src: '10.244.0.70', sport: 33454, ip: '10.244.0.64', port: 10000 };
/** Sequence numbers wrap within the first request and the first answer. */
const SEQ = 2 ** 32 - 50;
const ACK = 2 ** 32 - 100;

/** A connection whose segments are given as bytes from the beginning of each direction's stream. */
function connection(limit = 10) {
  const exchanges = new Exchanges(limit);
  let t = 0;
  const at = (base: number, offset: number) => (base + 1 + offset) >>> 0;
  return {
    exchanges,
    syn: () => exchanges.sent(ENDS, { seq: SEQ, ack: 0, flags: syn, length: 0 }, ++t),
    sent: (seq: number, length: number, ack: number, flags: number = psh) =>
      exchanges.sent(ENDS, { seq: at(SEQ, seq), ack: at(ACK, ack), flags, length }, ++t),
    answered: (seq: number, length: number, flags: number = psh, acked = 0) =>
      exchanges.answered(ENDS, { seq: at(ACK, seq), ack: at(SEQ, acked), flags, length }, ++t),
    /** `[sent, received, singleSegment]` of what was touched since the last call. */
    take: () =>
      [...exchanges.take()].map(({ sent, received, singleSegment, reset }) =>
        reset ? [sent, received, singleSegment, 'reset'] : [sent, received, singleSegment],
      ),
  };
}

test('requests on a kept connection have their counts, across the wrap of sequence numbers', () => {
  const c = connection();
  c.syn();
  c.sent(0, 120, 0);
  assert.deepEqual(c.take(), [[120, 0, true]]);
  c.answered(0, 300);
  c.answered(300, 50);
  assert.deepEqual(c.take(), [[120, 350, true]]);
  c.sent(120, 80, 350);
  c.answered(350, 1000);
  assert.deepEqual(c.take(), [[80, 1000, true]]);
});

test('segments without PSH count, though they are not seen', () => {
  const c = connection();
  c.syn();
  c.sent(0, 100, 0);
  c.answered(0, 10);
  // 1448 bytes went before, in a segment of their own.
  c.sent(1548, 200, 10);
  c.answered(5010, 10);
  assert.deepEqual(c.take(), [
    [100, 10, true],
    [1648, 5010, false],
  ]);
});

test('where a connection begins with segments without PSH, an answer may have come before the first that is seen', () => {
  const c = connection();
  c.syn();
  c.sent(1448, 200, 0);
  c.answered(5000, 10);
  assert.deepEqual(c.take(), [[undefined, 5010, false]]);
});

test('an answer to bytes that were not seen may be to another request', () => {
  const c = connection();
  c.syn();
  c.sent(0, 100, 0);
  c.answered(0, 10);
  c.answered(10, 20, psh, 1548);
  assert.deepEqual(c.take(), [[100, 30, false]]);
});

test("the end of an answer that was not pushed shows in the next request's acknowledgement", () => {
  const c = connection();
  c.syn();
  c.sent(0, 100, 0);
  c.answered(0, 300);
  c.sent(100, 100, 400);
  assert.deepEqual(c.take(), [
    [100, 400, true],
    [100, 0, true],
  ]);
});

test('a segment sent again changes nothing', () => {
  const c = connection();
  c.syn();
  c.sent(0, 100, 0);
  c.answered(0, 300);
  c.take();
  c.sent(0, 100, 0);
  c.answered(0, 300);
  c.sent(0, 100, 300);
  assert.deepEqual(c.take(), []);
});

test('a body in segments of its own belongs to its request, which is then not one segment', () => {
  const c = connection();
  c.syn();
  c.sent(0, 100, 0);
  c.sent(100, 20_000, 0);
  assert.deepEqual(c.take(), [[20_100, 0, false]]);
});

test('bytes after the beginning of the answer count as a request that follows', () => {
  const c = connection();
  c.syn();
  c.sent(0, 100, 0);
  c.answered(0, 200);
  c.sent(20_000, 500, 200);
  assert.deepEqual(c.take(), [
    [100, 200, true],
    [20_400, 0, false],
  ]);
});

test('a FIN of nginx makes the count final, with and without one of the backend before it', () => {
  for (const first of [true, false]) {
    const c = connection();
    c.syn();
    c.sent(0, 100, 0);
    c.answered(0, 200, first ? psh | fin : psh);
    c.sent(100, 0, first ? 201 : 200, fin);
    c.answered(200, 999);
    assert.deepEqual(c.take(), [[100, 200, true]]);
    assert.equal(c.exchanges.size, 0);
  }
});

test('a reset by either side is told', () => {
  for (const by of ['sent', 'answered'] as const) {
    const c = connection();
    c.syn();
    c.sent(0, 100, 0);
    c.answered(0, 200);
    if (by === 'sent') c.sent(100, 0, 100, rst);
    else c.answered(200, 0, rst);
    assert.deepEqual(c.take(), [[100, 200, true, 'reset']]);
  }
});

test('of a connection older than the tap, and after a loss, what was sent is not known at first', () => {
  const c = connection();
  c.sent(0, 100, 0);
  c.answered(0, 200);
  assert.deepEqual(c.take(), [[undefined, 200, false]]);
  c.sent(100, 100, 200);
  assert.deepEqual(c.take(), [[100, 0, true]]);
  c.exchanges.forget();
  c.answered(200, 100);
  c.sent(300, 100, 300);
  assert.deepEqual(c.take(), [[undefined, 0, false]]);
});

test('a packet without a length ends what is known of its connection', () => {
  const c = connection();
  c.syn();
  c.exchanges.sent(ENDS, { seq: 1, ack: 1, flags: psh, length: undefined }, 1);
  assert.equal(c.exchanges.size, 0);
});

test('beyond the limit the oldest connection is forgotten', () => {
  const exchanges = new Exchanges(2);
  for (const sport of [1, 2, 3]) {
    exchanges.sent({ ...ENDS, sport }, { seq: 0, ack: 0, flags: syn, length: 0 }, 1);
    exchanges.sent({ ...ENDS, sport }, { seq: 1, ack: 9, flags: psh, length: 10 }, 2);
  }
  assert.equal(exchanges.size, 2);
  exchanges.sent({ ...ENDS, sport: 1 }, { seq: 11, ack: 19, flags: psh, length: 10 }, 3);
  assert.deepEqual(
    [...exchanges.take()].map(({ sent }) => sent),
    [10, 10, 10, undefined],
  );
});
