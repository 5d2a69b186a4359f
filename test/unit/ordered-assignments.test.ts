import assert from 'node:assert/strict';
import { test } from 'node:test';
import { orderedAssignments } from '../../src/join/ordered-assignments.ts';
import { queriesOf } from '../../src/join/query.ts';
import type { Attempt } from '../../src/model/line.ts';
import { lineOf, T0, VIP, Wire } from '../model/wire.ts';

const ANSWERED: Partial<Attempt> = { headerMs: 1, responseMs: 1 };
const PERHAPS: Partial<Attempt> = { headerMs: null, responseMs: 1, status: 504 };
const NEVER: Partial<Attempt> = { connectMs: null, headerMs: null, responseMs: null, status: 502 };

/** For each attempt the pods of the requests that may be its own; request n goes to pod n, in the order of the wire. */
function assign(attempts: readonly Partial<Attempt>[], sizes: readonly number[]): string[] {
  const wire = new Wire();
  for (const pod of sizes.keys()) wire.open(pod, pod, -1_000);
  wire.tick(-1);
  for (const [pod, bytes] of sizes.entries()) wire.request(pod, pod, pod, { bytes });
  wire.tick(100);
  const queries = queriesOf(lineOf({ end: 50, took: 50 }, { attempts }), T0 + 51, wire.index);
  const seen = wire.index.service(VIP, 80)?.requests ?? [];
  return orderedAssignments(
    queries.map((query) => query!),
    seen,
  ).map((each) => each.map(({ connection }) => connection.sport).join());
}

test('as many requests as attempts that were sent: each has its own', () => {
  assert.deepEqual(assign([ANSWERED, ANSWERED, ANSWERED], [1, 1, 1]), ['0', '1', '2']);
});

test('one request more than attempts: the first of them is not the last request, and so on', () => {
  assert.deepEqual(assign([ANSWERED, ANSWERED], [1, 1, 1]), ['0,1', '1,2']);
});

test('fewer requests than attempts that were sent: no assignment is possible', () => {
  assert.deepEqual(assign([ANSWERED, ANSWERED], [1]), ['', '']);
});

test('an attempt that was perhaps not sent may have a request or none', () => {
  assert.deepEqual(assign([PERHAPS, ANSWERED], [1]), ['', '0']);
  assert.deepEqual(assign([PERHAPS, ANSWERED], [1, 1]), ['0', '0,1']);
  assert.deepEqual(assign([ANSWERED, PERHAPS], [1, 1]), ['0,1', '1']);
  assert.deepEqual(assign([PERHAPS, PERHAPS], [1]), ['0', '0']);
});

test('an attempt that never connected has none', () => {
  assert.deepEqual(assign([NEVER, ANSWERED], [1]), ['', '0']);
  assert.deepEqual(assign([ANSWERED, NEVER], [1]), ['0', '']);
  assert.deepEqual(assign([ANSWERED, NEVER, ANSWERED], [1, 1]), ['0', '', '1']);
});

test('a request that does not fit an attempt is left to another, and to those beside it', () => {
  const [small, big] = [
    { ...ANSWERED, bytesSent: 1 },
    { ...ANSWERED, bytesSent: 2 },
  ];
  assert.deepEqual(assign([small, big], [1, 2]), ['0', '1']);
  assert.deepEqual(assign([small, big], [2, 1]), ['', ''], 'they would have to be in the other order');
  assert.deepEqual(assign([small, big], [1, 1, 2, 2]), ['0,1', '2,3']);
  assert.deepEqual(assign([big, small], [2, 1, 2, 1]), ['0,2', '1,3']);
});

test('where an attempt fits no request that is left, those beside it keep theirs', () => {
  const big = { ...ANSWERED, bytesSent: 2 };
  assert.deepEqual(assign([ANSWERED, PERHAPS, big], [1, 1, 2]), ['0,1', '1', '2']);
  assert.deepEqual(assign([ANSWERED, PERHAPS, big], [1, 2]), ['0', '', '1']);
  assert.deepEqual(assign([big, PERHAPS, NEVER, ANSWERED], [2, 2, 1]), ['0,1', '1', '', '1,2']);
});

test('without any request nothing is assigned', () => {
  assert.deepEqual(assign([PERHAPS, NEVER], []), ['', '']);
});
