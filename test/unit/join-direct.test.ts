import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FlowIndex } from '../../src/join/index/flow-index.ts';
import { matchLine } from '../../src/join/match.ts';
import type { FeedRecord } from '../../src/model/feed.ts';
import { compileLogFormat } from '../../src/parse/log-format.ts';

const T0 = 1_764_837_843_000;
const POD = { ip: '10.244.1.69', port: 8000 };

/** What a line that nginx wrote for a pod's own address leads to, after these names. */
function outcomeOf(names: readonly Omit<Extract<FeedRecord, { kind: 'name' }>, 'seq'>[]) {
  const index = new FlowIndex();
  let seq = 0;
  const apply = (record: object) => index.apply({ ...record, seq: ++seq } as FeedRecord);
  for (const source of ['conntrack', 'tap']) apply({ kind: 'gap', source, t: T0 - 60_000 });
  apply({ kind: 'tick', t: T0 - 59_000 });
  for (const name of names) apply(name);
  const flow = { src: '10.244.0.70', sport: 33454, ...POD };
  apply({ kind: 'open', t: T0, ...flow, vip: POD.ip, vport: POD.port, via: 'conntrack' });
  apply({ kind: 'request', t: T0 + 1, ...flow, id: 'f00', method: 'GET', path: '/', bytes: 100, via: 'tap' });
  apply({ kind: 'tick', t: T0 + 1000 });
  const line = Buffer.from(`${(T0 + 5) / 1000} 0.005 ${POD.ip}:${POD.port} f00`);
  const format = compileLogFormat('$msec $request_time $upstream_addr $request_id');
  const parsed = format.parse(line, 0, line.length);
  assert.ok(typeof parsed !== 'string');
  return matchLine(parsed, T0 + 6, index).outcomes[0];
}

test('a pod that nginx addressed itself keeps its address and gets its name', () => {
  const name = { pod: 'catalog-1', namespace: 'shop', node: 'n1', service: 'catalog' };
  assert.deepEqual(outcomeOf([{ kind: 'name', t: T0 - 30_000, ip: POD.ip, ...name }]), {
    reason: 'direct',
    name,
  });
  assert.deepEqual(outcomeOf([]), { reason: 'direct' });
});

test('its name is that of the time when the connection was opened', () => {
  const old = { pod: 'catalog-1', namespace: 'shop', node: 'n1', service: 'catalog' };
  const later = { ...old, pod: 'catalog-2' };
  const outcome = outcomeOf([
    { kind: 'name', t: T0 - 30_000, ip: POD.ip, ...old },
    { kind: 'name', t: T0 + 500, ip: POD.ip, ...later },
  ]);
  assert.deepEqual(outcome, { reason: 'direct', name: old });
});
