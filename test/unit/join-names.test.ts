import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { NAME_LIMITS, Names } from '../../src/join/index/names.ts';
import type { NameRecord } from '../../src/model/feed.ts';

const IP = '10.0.0.7';

/** `pod` empty: the name no longer holds. */
function said(t: number, pod: string, ip = IP): NameRecord {
  const more = pod === '' ? { namespace: '', service: '' } : { namespace: 'a', service: 's' };
  return { kind: 'name', seq: 0, t, ip, pod, node: '', ...more };
}

function names(records: readonly NameRecord[], limits = NAME_LIMITS): Names {
  const names = new Names(limits);
  for (const record of records) names.set(record);
  return names;
}

/** Who a connection of this time led to, asked at `by`. */
const who = (names: Names, opened: number, by = opened, ip = IP) => names.of(ip, opened, opened, by)?.pod;

test('a deleted pod keeps its name for the connections that were opened to it', () => {
  const known = names([said(10, 'old'), said(50, '')]);
  assert.equal(who(known, 49, 9_999), 'old');
  assert.equal(who(known, 51, 9_999), undefined, 'nobody is known to have the address');
});

test('an address that another pod takes: old connections the old name, new ones the new', () => {
  const known = names([said(10, 'old'), said(50, ''), said(70, 'new')]);
  assert.equal(who(known, 20, 100), 'old');
  assert.equal(who(known, 70, 100), 'new');
  assert.equal(who(known, 60, 100), 'new', 'kube-proxy heard of it before the helper');
  assert.equal(who(known, 60, 69), undefined);
});

test('connections of two owners, or of an owner and of nobody, have no name', () => {
  const known = names([said(10, 'old'), said(50, 'new'), said(90, '')]);
  assert.equal(known.of(IP, 40, 60, 60), undefined);
  assert.equal(known.of(IP, 60, 80, 80)?.pod, 'new');
  assert.equal(known.of(IP, 60, 95, 95), undefined);
});

test('a connection from before the first name led to its pod, as long as nothing was forgotten', () => {
  const known = names([said(10, 'first')]);
  assert.equal(who(known, 5, 11), 'first');
  assert.equal(who(known, 5, 9), undefined);
});

test('a name that is withdrawn and comes back was there all the time, and one of another Service is the same pod', () => {
  const known = names([said(10, 'p'), said(50, ''), said(60, 'p')]);
  assert.equal(who(known, 55, 100), 'p');
  assert.equal(known.of(IP, 20, 70, 100)?.pod, 'p');
  known.set({ ...said(80, 'p'), service: 'other' });
  assert.equal(known.of(IP, 20, 90, 100)?.service, 'other');
  assert.equal(known.past, 1);
});

test('ClusterIPs have no pod: another Service is another name', () => {
  const service = (t: number, service: string) => ({ ...said(t, ''), namespace: 'a', service });
  const known = names([service(10, 'x'), service(50, 'y')]);
  assert.equal(known.at(IP, 20)?.service, 'x');
  assert.equal(known.at(IP, 60)?.service, 'y');
  assert.equal(known.of(IP, 20, 60, 60), undefined);
});

test('ten minutes after it ended a name is forgotten, and none is put in its place', () => {
  const known = names([said(10, 'old'), said(1_000, ''), said(2_000, 'new')]);
  known.forget(1_000 + 599_999);
  assert.equal(who(known, 20, 3_000), 'old');
  known.forget(2_000 + 600_000);
  assert.equal(who(known, 20, 3_000), undefined);
  assert.equal(who(known, 2_000, 3_000), 'new');
  assert.equal(known.past, 0);

  const gone = names([said(10, 'old'), said(1_000, '')]);
  gone.forget(1_000 + 600_000);
  assert.equal(gone.size, 0);
  gone.set(said(700_000, 'new'));
  assert.equal(who(gone, 20, 800_000), undefined, 'the connection of the pod that is forgotten');
  assert.equal(who(gone, 700_000, 800_000), 'new');
});

test('memory is bounded in addresses, in names of one address and in past names, and what goes is counted', () => {
  const limits = { addresses: 100, perAddress: 4, past: 50, rememberMs: 1e9 };
  const known = new Names(limits);
  for (let n = 0; n < 1_000; n++) known.set(said(n, `p${n}`, `10.0.${n >> 8}.${n & 255}`));
  assert.equal(known.size, 100);
  assert.equal(known.counters.dropped, 900);
  const one = new Names(limits);
  for (let n = 0; n < 1_000; n++) one.set(said(n, `p${n}`));
  one.forget(1_000);
  assert.equal(who(one, 999), 'p999');
  assert.equal(who(one, 500, 1_000), undefined);
  assert.ok(one.past <= 50);
  assert.ok(one.counters.dropped > 0);
});

test('whatever is forgotten or told again, no connection gets the name of another pod', () => {
  const ample = { ...NAME_LIMITS, perAddress: 99 };
  const step = fc.record({
    after: fc.integer({ min: 1, max: 50 }),
    pod: fc.constantFrom('', 'a', 'b', 'c', 'd'),
  });
  fc.assert(
    fc.property(
      fc.array(step, { minLength: 1, maxLength: 12 }),
      fc.nat(12),
      fc.nat(12),
      fc.integer({ min: 0, max: 700 }),
      fc.integer({ min: 3, max: 6 }),
      (steps, broken, again, forgetAt, perAddress) => {
        let t = 100;
        const records = steps.map(({ after, pod }) => {
          t += after;
          return said(t, pod);
        });
        const whole = names(records, ample);
        // The feed broke, and the names came again from one before that on.
        const told = [...records.slice(0, broken), ...records.slice(Math.min(again, broken))];
        const resumed = names(told, ample);
        const short = names(records, { ...NAME_LIMITS, perAddress, rememberMs: 100 });
        short.forget(forgetAt);
        const owner = (at: number): string => records.findLast((record) => record.t <= at)?.pod ?? '';
        const next = (at: number): string =>
          records.find((record) => record.t > at && record.pod !== '')?.pod ?? '';
        for (let opened = 90; opened < t + 20; opened += 3) {
          const pod = owner(opened) || next(opened) || undefined;
          assert.equal(who(whole, opened, t + 20), pod);
          assert.equal(who(resumed, opened, t + 20), pod);
          assert.ok([pod, undefined].includes(who(short, opened, t + 20)));
        }
      },
    ),
    { numRuns: 2_000 },
  );
});

test('names that come late, or twice, take their place by time', () => {
  const known = names([said(50, 'new'), said(10, 'old'), said(30, 'mid'), said(30, 'mid')]);
  for (const [at, pod] of [
    [10, 'old'],
    [29, 'old'],
    [30, 'mid'],
    [49, 'mid'],
    [50, 'new'],
  ] as const)
    assert.equal(who(known, at), pod, `${at}`);
  known.set(said(30, 'other'));
  assert.equal(who(known, 30), 'other', 'the later word of one instant counts');
  assert.equal(who(known, 29), 'old');
  known.set(said(40, 'new'));
  assert.equal(known.of(IP, 40, 60, 60)?.pod, 'new', 'it was there from then on');
});

test('what ends at the very instant that is asked for has ended, and what begins then has begun', () => {
  const known = names([said(10, 'old'), said(50, ''), said(70, 'new')]);
  assert.equal(known.of(IP, 49, 49, 49)?.pod, 'old');
  assert.equal(known.of(IP, 50, 50, 69), undefined);
  assert.equal(
    known.of(IP, 50, 50, 70)?.pod,
    'new',
    'announced in the very instant in which the exchange ended',
  );
  assert.equal(known.of(IP, 49, 50, 70), undefined);
  assert.equal(known.of(IP, 50, 70, 70)?.pod, 'new');
});

test('of more names of an address than are kept the oldest are forgotten, and the younger stay', () => {
  const limits = { ...NAME_LIMITS, perAddress: 4 };
  const known = names([said(10, 'a'), said(20, 'b'), said(30, 'c')], limits);
  assert.equal(known.counters.dropped, 0);
  assert.equal(who(known, 10), 'a');
  known.set(said(40, 'd'));
  assert.equal(known.counters.dropped, 1);
  assert.deepEqual(
    [10, 20, 30, 40].map((at) => who(known, at)),
    [undefined, 'b', 'c', 'd'],
  );
});

test('a past name goes ten minutes after its end, however many there are, and beyond the limit at once', () => {
  const known = names([said(10, 'a'), said(20, 'b'), said(30, 'c')], { ...NAME_LIMITS, past: 2 });
  assert.equal(known.past, 2);
  known.forget(600_019);
  assert.equal(known.past, 2);
  known.forget(600_020);
  assert.deepEqual([known.past, known.counters.dropped], [1, 0]);
  assert.deepEqual(
    [10, 20, 30].map((at) => who(known, at)),
    [undefined, 'b', 'c'],
  );
  const full = names([said(10, 'a'), said(20, 'b'), said(30, 'c')], { ...NAME_LIMITS, past: 1 });
  full.forget(0);
  assert.deepEqual([full.past, full.counters.dropped], [1, 1]);
});

test('an address given up for the limit had somebody, and of those so many are remembered', () => {
  const known = new Names({ ...NAME_LIMITS, addresses: 1, past: 1 });
  known.set(said(10, 'a', '10.0.0.1'));
  known.set(said(20, 'b', '10.0.0.2'));
  known.set(said(30, 'c', '10.0.0.1'));
  assert.equal(who(known, 5, 40, '10.0.0.1'), undefined, 'it led to the one who is forgotten');
  assert.equal(who(known, 30, 40, '10.0.0.1'), 'c');
  known.set(said(40, 'd', '10.0.0.3'));
  known.set(said(50, 'e', '10.0.0.2'));
  assert.equal(who(known, 5, 60, '10.0.0.2'), 'e', 'that it had one was forgotten, too');
});

test('a name that is withdrawn before any is known says nothing', () => {
  const known = names([said(10, '')]);
  assert.equal(known.size, 0);
  assert.equal(who(known, 10), undefined);
});

test('after the clock was set back the last name holds since then, and nobody is known before', () => {
  const known = names([said(10, 'a'), said(100, 'b')]);
  known.onClockRollback(100);
  assert.equal(who(known, 20), 'a', 'all that is known came before');
  known.onClockRollback(99);
  assert.equal(who(known, 20), undefined);
  assert.equal(who(known, 99), 'b');
});
