import assert from 'node:assert/strict';
import { test } from 'node:test';
import { matchLine } from '../../src/join/match.ts';
import { lineOf, NGINX, podIp, T0, VIP, Wire } from '../model/wire.ts';

/** Requests of these ids, 1 ms apart, each on a connection of its own to the pod of this number. */
function wireOf(requests: readonly [id: string, pod: number][]): Wire {
  const wire = new Wire().tick(-1);
  requests.forEach(([id, pod], i) => {
    wire.open(i, pod, i).request(i, pod, i, { id, bytes: 100 }).tick(i);
  });
  return wire.tick(10_000);
}

const line = (id: string) =>
  lineOf({ end: 1_000, took: 1_000 }, { id, attempt: { headerMs: 900, responseMs: 900, bytesSent: 100 } });
const many = (id: string, pod: number, count: number) =>
  Array.from({ length: count }, (): [string, number] => [id, pod]);

test('an id that is repeated without end casts no doubt on lines with another', () => {
  const { index } = wireOf([...many('same', 4, 700), ['own', 5]]);
  const backend = { ip: podIp(5), port: 8000 };
  assert.deepEqual(matchLine(line('own'), T0 + 1_001, index).outcomes[0], {
    evidence: 'request-id',
    ...backend,
    flow: { src: NGINX, sport: 700, vip: VIP, vport: 80, ...backend },
  });
});

test('what is too often repeated to be told apart still speaks against its own lines', () => {
  assert.equal(wireOf([...many('same', 4, 70), ['same', 5]]).says(line('same'), 1_001), 'ambiguous');
  assert.match(wireOf(many('same', 4, 70)).says(line('same'), 1_001), /^4 /);
});

test('what is repeated goes with the memory of it', () => {
  const wire = wireOf(many('same', 4, 200));
  const service = wire.index.service(VIP, 80)!;
  assert.equal(service.requestsWithRepeatedId.get('same')?.length, 136);
  for (let i = 0; i < 70_000; i++) wire.request(i % 200, 4, 10_000, { id: `${i}`, severalSegments: true });
  assert.equal(service.requestsWithRepeatedId.size, 0);
});

test('a connection that was refused speaks against lines without times only as long as a connect can take', () => {
  const untimed = lineOf(undefined, { id: 'later', attempt: { status: undefined } });
  const refusedAndThen = (laterMs: number): string => {
    const at = 20_000 + laterMs;
    const flow = { src: NGINX, sport: 1_000, vip: VIP, vport: 80, ip: podIp(4), port: 8000 };
    return wireOf([['first', 5]])
      .open(1_000, 4, 20_000)
      .apply({ kind: 'close', t: T0 + 20_000, ...flow, via: 'conntrack', end: 'refused' })
      .tick(at - 1)
      .open(1_001, 6, at)
      .request(1_001, 6, at, { id: 'later', bytes: 100 })
      .tick(at + 10_000)
      .says(untimed, at + 100);
  };
  assert.equal(refusedAndThen(60_000), 'ambiguous');
  assert.match(refusedAndThen(140_000), /^6 /);
});
