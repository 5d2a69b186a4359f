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
