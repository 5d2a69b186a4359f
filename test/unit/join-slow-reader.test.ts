import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FlowIndex } from '../../src/join/index/flow-index.ts';
import { matchLine } from '../../src/join/match.ts';
import type { Observation } from '../../src/model/feed.ts';
import type { ParsedLine } from '../../src/model/line.ts';

const VIP = { vip: '10.105.148.194', vport: 10000 };
const START = 1_764_837_843_000;
const TOOK = 300_000;

/** A line without an id, of an answer that began at once and that nginx read for five minutes. */
const LINE: ParsedLine = {
  attempts: [
    {
      start: 0,
      end: 0,
      kind: 'ip',
      ip: VIP.vip,
      port: VIP.vport,
      connectMs: 0,
      headerMs: 2,
      responseMs: TOOK,
      status: 200,
      bytesSent: 100,
      bytesReceived: 4_000_000,
      localPort: undefined,
    },
  ],
  endMs: START + TOOK,
  endStepMs: 1,
  requestMs: TOOK,
  id: undefined,
  method: 'GET',
  path: '/download',
  status: 200,
};

/**
 * nginx's client is slow and `proxy_buffering` off: the backend has sent its end, conntrack forgets the connection 60 s
 * later (nf_conntrack_tcp_timeout_close_wait), and nginx goes on reading what its socket holds.
 */
function outcome(sources: readonly ('conntrack' | 'tap')[]) {
  const index = new FlowIndex();
  let seq = 0;
  const apply = (observation: Observation) => index.apply({ ...observation, seq: seq++ });
  for (const source of sources) apply({ kind: 'gap', source, t: START - 600_000 });
  apply({ kind: 'tick', t: START - 1 });
  const flow = (sport: number, ip: string) => ({ src: '10.244.0.70', sport, ...VIP, ip, port: 8000 });
  const mine = flow(33_454, '10.244.1.64');
  apply({ kind: 'open', t: START + 1, ...mine, via: 'conntrack' });
  apply({ kind: 'tick', t: START + 1 });
  apply({ kind: 'open', t: START + 60_000, ...flow(33_456, '10.244.1.65'), via: 'conntrack' });
  apply({ kind: 'close', t: START + 65_000, ...mine, via: 'conntrack' });
  apply({ kind: 'tick', t: START + TOOK + 20_000 });
  return matchLine(LINE, START + TOOK + 1, index).outcomes[0];
}

test('a connection that conntrack forgot while nginx read on still speaks against the others', () => {
  assert.deepEqual(outcome(['conntrack']), { reason: 'ambiguous' });
  assert.deepEqual(outcome(['conntrack', 'tap']), { reason: 'ambiguous' });
});
