/** What the join remembers of endpoints, and until when. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Endpoints } from '../../src/join/index/endpoints.ts';
import type { EndpointPort } from '../../src/model/feed.ts';

const IP = '10.244.1.1';
const SHOP = { port: 8000, vip: '10.105.148.194', vport: 80 };
const BLOG = { port: 8000, vip: '10.105.148.195', vport: 80 };
const HOUR = 3_600_000;

function world(limits?: { addresses: number; perAddress: number }) {
  const endpoints = new Endpoints(limits);
  return {
    endpoints,
    set: (t: number, of: readonly EndpointPort[] | undefined, ip = IP) =>
      endpoints.set({ kind: 'endpoint', seq: 0, t, ip, ...(of ? { of } : {}) }),
    shop: (first: number, last = first, ip = IP) =>
      endpoints.mayLead(ip, 8000, SHOP.vip, SHOP.vport, first, last),
  };
}

test('records may come repeatedly, and older ones after later ones', () => {
  const { endpoints, set, shop } = world();
  set(2 * HOUR, [BLOG]);
  set(HOUR, [SHOP]);
  const { version } = endpoints;
  set(HOUR, [SHOP]);
  set(2 * HOUR, [{ ...BLOG }]);
  assert.equal(endpoints.version, version, 'nothing has changed');
  assert.deepEqual([shop(HOUR + 200_000), shop(2 * HOUR + 200_000), shop(0)], ['yes', 'no', 'unknown']);
  assert.equal(shop(-Infinity, 2 * HOUR), 'yes');
});

test('what was an endpoint of another Service only for a part of the time is not known', () => {
  const { set, shop } = world();
  set(HOUR, [BLOG]);
  set(2 * HOUR, undefined);
  assert.deepEqual(
    [shop(2 * HOUR - 130_000), shop(2 * HOUR - 110_000), shop(3 * HOUR)],
    ['no', 'unknown', 'unknown'],
  );
});

test('a past state is forgotten after ten minutes, and its Service with it', () => {
  const { endpoints, set, shop } = world();
  set(HOUR, [SHOP]);
  set(2 * HOUR, [BLOG]);
  endpoints.tick(2 * HOUR + 599_999);
  assert.equal(endpoints.hasService(SHOP.vip, SHOP.vport), true);
  endpoints.tick(2 * HOUR + 600_000);
  assert.equal(endpoints.hasService(SHOP.vip, SHOP.vport), false);
  assert.equal(endpoints.hasService(BLOG.vip, BLOG.vport), true);
  assert.equal(shop(HOUR + 200_000), 'unknown');
});

test('at its limits the oldest goes, and nothing is known of it then', () => {
  const { endpoints, set, shop } = world({ addresses: 2, perAddress: 4 });
  for (let n = 1; n <= 6; n++) set(n * HOUR, n % 2 ? [SHOP] : [BLOG]);
  assert.equal(shop(HOUR + 200_000), 'unknown');
  assert.equal(shop(5 * HOUR + 200_000), 'yes');
  set(1, [SHOP], '10.244.1.2');
  set(1, [SHOP], '10.244.1.3');
  assert.deepEqual([endpoints.size, endpoints.counters.dropped], [2, 1]);
  assert.equal(shop(5 * HOUR + 200_000), 'unknown');
  assert.equal(endpoints.hasService(BLOG.vip, BLOG.vport), false);
});

test('when the clock is set back, the current state stays and nothing is known of the time before', () => {
  const { endpoints, set, shop } = world();
  set(HOUR, [BLOG]);
  set(3 * HOUR, [SHOP]);
  endpoints.onClockRollback(2 * HOUR);
  assert.equal(shop(2 * HOUR), 'yes');
  assert.equal(shop(HOUR + 200_000), 'unknown');
  assert.equal(endpoints.hasService(BLOG.vip, BLOG.vport), false);
});
