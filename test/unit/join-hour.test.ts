import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FlowIndex } from '../../src/join/index/flow-index.ts';
import { PendingBlocks } from '../../src/join/pending.ts';
import type { FeedRecord, Observation } from '../../src/model/feed.ts';
import { compileLogFormat } from '../../src/parse/log-format.ts';

const T0 = 1_764_837_843_000;
const HOUR = 3_600_000;
const format = compileLogFormat(
  '$upstream_addr $msec $request_time "$request_id" "$upstream_status" "$upstream_header_time" "$upstream_response_time"',
);
const SERVICE = { src: '10.244.0.70', vip: '10.105.148.194', vport: 10000, port: 10000 };

function lineOf(id: string, begun: number, over: number): string {
  const took = ((over - begun) / 1000).toFixed(3);
  return `10.105.148.194:10000 ${(over / 1000).toFixed(3)} ${took} "${id}" "200" "0.004" "${took}"`;
}

test('an hour of traffic leaves no more behind than ten minutes, and a download that took all of it is resolved', () => {
  const index = new FlowIndex({ connections: 6_000, requests: 3_000, matchedRequests: 1_000, services: 100 });
  const waiting = new PendingBlocks<string>(index, { maxWaitMs: 2_000, maxBytes: 1e6 });
  let seq = 0;
  const feed = (...records: Observation[]): void => {
    for (const record of records) index.apply({ ...record, seq: ++seq } as FeedRecord);
  };
  const push = (text: string, readAt: number): void => {
    const bytes = Buffer.from(`${text}\n`);
    waiting.push(
      bytes,
      readAt,
      [{ start: 0, end: text.length, parsed: format.parse(bytes, 0, text.length) }],
      text,
    );
  };
  const settled = { right: 0, other: 0 };
  const take = (now: number): void => {
    for (const { tag, outcomes } of waiting.take(now)) {
      const outcome = outcomes[0]![0]!;
      // The id says which pod the simulation chose.
      const truth = /"pod-(\d+)-/.exec(tag)![1];
      if ('evidence' in outcome) {
        assert.equal(outcome.ip, `10.244.1.${truth}`, tag);
        settled.right++;
      } else {
        settled.other++;
      }
    }
  };
  feed(
    { kind: 'gap', source: 'conntrack', t: T0 - 60_000 },
    { kind: 'gap', source: 'tap', t: T0 - 60_000 },
    { kind: 'open', via: 'conntrack', t: T0, ...SERVICE, sport: 1_000, ip: '10.244.1.9' },
    {
      kind: 'request',
      via: 'tap',
      t: T0 + 1,
      ...SERVICE,
      sport: 1_000,
      ip: '10.244.1.9',
      id: 'pod-9-download',
    },
  );
  const sizes: number[] = [];
  let n = 0;
  for (let now = T0 + 10; now < T0 + HOUR; now += 100) {
    // Half of the requests on new connections, half on ten that are kept; some are never logged.
    for (let i = 0; i < 6; i++) {
      const id = `pod-${n % 5}-${n}`;
      const ip = `10.244.1.${n % 5}`;
      const kept = n % 2 === 0;
      const sport = kept ? 2_000 + (n % 10) : 10_000 + (n % 20_000);
      const flow = { ...SERVICE, sport, ip };
      if (!kept || index.onPort(sport).length === 0)
        feed({ kind: 'open', via: 'conntrack', t: now, ...flow });
      feed({ kind: 'request', via: 'tap', t: now + 1, ...flow, id });
      if (!kept) feed({ kind: 'close', via: 'conntrack', t: now + 8, ...flow });
      if (n % 7 !== 0) push(lineOf(id, now, now + 6), now + 9);
      n++;
    }
    feed({ kind: 'tick', t: now + 10 });
    take(now + 10);
    if ((now - T0 - 10) % 60_000 === 0) {
      const { open, closed, requests, services, backends } = index.sizes;
      sizes.push(open + closed + requests + services + backends + waiting.blocks);
    }
  }
  const early = Math.max(...sizes.slice(10, 20));
  const late = Math.max(...sizes.slice(50));
  assert.ok(late <= early * 1.05, `remembered: ${sizes.join(' ')}`);
  assert.equal(settled.other, 0);
  push(lineOf('pod-9-download', T0, T0 + HOUR + 5), T0 + HOUR + 8);
  feed({ kind: 'close', via: 'conntrack', t: T0 + HOUR + 7, ...SERVICE, sport: 1_000, ip: '10.244.1.9' });
  feed({ kind: 'tick', t: T0 + HOUR + 20 });
  const before = settled.right;
  take(T0 + HOUR + 20);
  assert.equal(settled.right, before + 1);
});
