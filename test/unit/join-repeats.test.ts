import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FlowIndex } from '../../src/join/index/flow-index.ts';
import { matchLine } from '../../src/join/match.ts';
import type { Observation } from '../../src/model/feed.ts';
import type { ParsedLine } from '../../src/model/line.ts';

const VIP = { vip: '10.105.148.194', vport: 10000 };
const START = 1_764_837_843_000;

/** Requests of these ids, 1 ms apart, each on a connection of its own to the pod of this number. */
function indexOf(requests: readonly [id: string, pod: number][]): FlowIndex {
  const index = new FlowIndex();
  let seq = 0;
  const apply = (observation: Observation) => index.apply({ ...observation, seq: seq++ });
  for (const source of ['conntrack', 'tap'] as const) apply({ kind: 'gap', source, t: START - 60_000 });
  apply({ kind: 'tick', t: START - 1 });
  requests.forEach(([id, pod], i) => {
    const flow = { src: '10.244.0.70', sport: 33_000 + i, ...VIP, ip: `10.244.1.${pod}`, port: 8000 };
    apply({ kind: 'open', t: START + i, ...flow, via: 'conntrack' });
    apply({ kind: 'request', t: START + i, ...flow, via: 'tap', id, bytes: 100, singleSegment: true });
    apply({ kind: 'tick', t: START + i });
  });
  apply({ kind: 'tick', t: START + 10_000 });
  return index;
}

function lineOf(id: string): ParsedLine {
  const attempt = {
    start: 0,
    end: 0,
    kind: 'ip',
    ip: VIP.vip,
    port: VIP.vport,
    connectMs: 0,
    headerMs: 900,
    responseMs: 900,
    status: 200,
    bytesSent: 100,
    bytesReceived: 100,
    localPort: undefined,
  } as const;
  const end = { endMs: START + 1_000, endStepMs: 1, requestMs: 1_000 };
  return { attempts: [attempt], ...end, id, method: 'GET', path: '/', status: 200 };
}

const many = (id: string, pod: number, count: number) =>
  Array.from({ length: count }, (): [string, number] => [id, pod]);
const outcome = (index: FlowIndex, id: string) => matchLine(lineOf(id), START + 1_001, index).outcomes[0];

test('an id that is repeated without end casts no doubt on lines with another', () => {
  const index = indexOf([...many('same', 64, 700), ['own', 65]]);
  assert.deepEqual(outcome(index, 'own'), {
    evidence: 'request-id',
    ip: '10.244.1.65',
    port: 8000,
    flow: { src: '10.244.0.70', sport: 33_700, ...VIP, ip: '10.244.1.65', port: 8000 },
  });
});

test('what is too often repeated to be told apart still speaks against its own lines', () => {
  const index = indexOf([...many('same', 64, 70), ['same', 65]]);
  assert.deepEqual(outcome(index, 'same'), { reason: 'ambiguous' });
  const agreed = outcome(indexOf(many('same', 64, 70)), 'same');
  assert.ok(agreed && 'evidence' in agreed && agreed.ip === '10.244.1.64', JSON.stringify(agreed));
});

test('what is repeated goes with the memory of it', () => {
  const index = indexOf(many('same', 64, 200));
  const service = index.service(VIP.vip, VIP.vport)!;
  assert.equal(service.requestsWithRepeatedId.get('same')?.length, 136);
  for (let i = 0; i < 70_000; i++)
    index.apply({
      kind: 'request',
      seq: i,
      t: START + 10_000,
      src: '10.244.0.70',
      sport: 33_000 + (i % 200),
      ...VIP,
      ip: '10.244.1.64',
      port: 8000,
      via: 'tap',
      id: `${i}`,
    });
  assert.equal(service.requestsWithRepeatedId.size, 0);
});

test('a connection that was refused speaks against lines without times only as long as a connect can take', () => {
  const refusedAndThen = (later: number) => {
    const index = indexOf([['first', 65]]);
    let seq = 100;
    const apply = (observation: Observation) => index.apply({ ...observation, seq: seq++ });
    const flow = (sport: number, pod: number) => ({
      src: '10.244.0.70',
      sport,
      ...VIP,
      ip: `10.244.1.${pod}`,
      port: 8000,
    });
    const refused = START + 20_000;
    apply({ kind: 'open', t: refused, ...flow(40_000, 64), via: 'conntrack' });
    apply({ kind: 'close', t: refused, ...flow(40_000, 64), via: 'conntrack', end: 'refused' });
    apply({ kind: 'tick', t: refused + later - 1 });
    apply({ kind: 'open', t: refused + later, ...flow(40_001, 66), via: 'conntrack' });
    const request = { id: 'later', bytes: 100, singleSegment: true } as const;
    apply({ kind: 'request', t: refused + later, ...flow(40_001, 66), via: 'tap', ...request });
    apply({ kind: 'tick', t: refused + later + 10_000 });
    const untimed = { connectMs: undefined, headerMs: undefined, responseMs: undefined, status: undefined };
    const line = lineOf('later');
    return matchLine(
      {
        ...line,
        endMs: undefined,
        requestMs: undefined,
        attempts: [{ ...line.attempts[0]!, ...untimed, bytesSent: undefined, bytesReceived: undefined }],
      },
      refused + later + 100,
      index,
    ).outcomes[0];
  };
  assert.deepEqual(refusedAndThen(60_000), { reason: 'ambiguous' });
  const named = refusedAndThen(140_000);
  assert.ok(named && 'evidence' in named && named.ip === '10.244.1.66', JSON.stringify(named));
});
