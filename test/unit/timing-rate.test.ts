import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TIMING_LIMITS, Timing } from '../../src/inferred/timing.ts';
import { compileLogFormat } from '../../src/parse/log-format.ts';

const T0 = 1_764_837_843_000;
const format = compileLogFormat(
  '$upstream_addr $msec $request_time "$upstream_connect_time" "$upstream_header_time" "$upstream_response_time"',
);

test('a log that is faster than what is remembered costs one decision for many lines', () => {
  const timing = new Timing({ ...TIMING_LIMITS, attempts: 1_000 });
  timing.apply({ kind: 'gap', source: 'conntrack', t: T0 - 60_000, seq: 1 });
  const lines = Array.from({ length: 7_000 }, (_, i) => {
    const msec = ((T0 + i / 7) / 1000).toFixed(3);
    const bytes = Buffer.from(`10.105.148.194:80 ${msec} 0.002 "0.000" "0.002" "0.002"`);
    const line = format.parse(bytes, 0, bytes.length);
    assert.ok(typeof line !== 'string');
    timing.observe(line, T0 + i / 7 + 1);
    return line;
  });
  timing.apply({ kind: 'tick', t: T0 + 60_000, seq: 2 });
  for (const line of lines) timing.backend(line, 0);
  assert.ok(timing.counters.decisions <= 2, `${timing.counters.decisions} decisions`);
});

test('while more attempts come than are remembered, few are decided, and later ones are again', () => {
  const timing = new Timing({ ...TIMING_LIMITS, attempts: 1_000 });
  timing.apply({ kind: 'gap', source: 'conntrack', t: T0 - 60_000, seq: 1 });
  let seq = 1;
  const second = (from: number, rate: number): number => {
    const before = timing.counters.decisions;
    for (let step = 0; step < 20; step++) {
      const at = from + step * 50;
      for (let n = 0; n < rate / 20; n++) {
        const msec = ((T0 + at) / 1000).toFixed(3);
        const bytes = Buffer.from(`10.105.148.194:80 ${msec} 0.002 "0.000" "0.002" "0.002"`);
        const line = format.parse(bytes, 0, bytes.length);
        assert.ok(typeof line !== 'string');
        timing.observe(line, T0 + at + 1);
        late.push(line);
      }
      timing.apply({ kind: 'tick', t: T0 + at, seq: ++seq });
      while (late[0] && (late[0].endMs ?? 0) < T0 + at - 1_500) timing.backend(late.shift()!, 0);
    }
    return timing.counters.decisions - before;
  };
  const late: Parameters<Timing['backend']>[0][] = [];
  second(0, 400);
  let decisions = 0;
  for (let n = 1; n < 6; n++) decisions += second(n * 1_000, 400);
  assert.ok(decisions <= 8, `${decisions}`);
  for (let n = 6; n < 9; n++) second(n * 1_000, 20);
  assert.ok(second(9_000, 20) > 0, 'the load is over');
});
