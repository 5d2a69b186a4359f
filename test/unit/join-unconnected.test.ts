import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FlowIndex } from '../../src/join/index/flow-index.ts';
import { matchLine } from '../../src/join/match.ts';
import type { FeedRecord } from '../../src/model/feed.ts';
import { compileLogFormat } from '../../src/parse/log-format.ts';

const T0 = 1_764_837_843_000;
const VIP = { vip: '10.105.148.194', vport: 10000 };
const format = compileLogFormat(
  '$upstream_addr $msec $request_time "$request_id" "$upstream_connect_time" "$upstream_header_time" "$upstream_response_time" "$upstream_status" "$upstream_bytes_sent"',
);

/** What a 502 leads to, on a Service with other connections, if these times were logged. */
function outcomeOf(connect: string, refusals: readonly object[]) {
  const index = new FlowIndex();
  let seq = 0;
  const apply = (record: object) => index.apply({ ...record, seq: ++seq } as FeedRecord);
  for (const source of ['conntrack', 'tap']) apply({ kind: 'gap', source, t: T0 - 60_000 });
  apply({ kind: 'tick', t: T0 - 59_000 });
  for (const record of refusals) apply(record);
  apply({ kind: 'tick', t: T0 + 1_000 });
  const line = Buffer.from(
    `10.105.148.194:10000 ${((T0 + 5) / 1000).toFixed(3)} 0.001 "f00" "${connect}" "-" "0.001" "502" "0"`,
  );
  const parsed = format.parse(line, 0, line.length);
  assert.ok(typeof parsed !== 'string');
  return matchLine(parsed, T0 + 6, index).outcomes[0];
}

test('an attempt that nginx got no connection for has a reason of its own', () => {
  assert.deepEqual(outcomeOf('-', []), { reason: 'unconnected' });
});

test('a pod that was seen to refuse the connection is still named', () => {
  const flow = { src: '10.244.0.70', sport: 33454, ...VIP, ip: '10.244.0.64', port: 10000, via: 'conntrack' };
  const outcome = outcomeOf('-', [
    { kind: 'open', t: T0 + 4.5, ...flow },
    { kind: 'close', t: T0 + 4.6, ...flow, end: 'refused' },
  ]);
  assert.ok(outcome && 'evidence' in outcome);
  assert.equal(outcome.ip, '10.244.0.64');
});

test('an attempt that was connected has not', () => {
  assert.deepEqual(outcomeOf('0.000', []), { reason: 'no-flow' });
});
