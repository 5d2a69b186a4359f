import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compare, countBy, readMetrics } from './kit/check.ts';
import { readServed, type Served } from './kit/truth.ts';

/** Lines that nginx wrote in the lab (FORMATS.full). */
const SERVED =
  '10.244.0.9 - - [23/Nov/2026:04:16:46 +0000] "GET /a/x HTTP/1.1" 200 10.105.148.194:10000 41 "-" "-" "-" "71c0af58d612e3dc735cc3ffb148a8e7" 1795407406.866 0.012 "0.005" "0.012" "0.012" "200" "101" "10.244.1.64" "10000" "33886"';
const OTHER =
  '10.244.0.9 - - [23/Nov/2026:04:16:44 +0000] "HEAD /odd/?drip=5,20 HTTP/1.1" 200 10.105.148.196:90 0 "-" "-" "-" "6c2e04e72a1b69672c60adda0c243c25" 1795407404.701 0.005 "0.001" "0.005" "0.005" "200" "115" "10.244.1.65" "10090" "35292"';
const ABORTED =
  '10.244.0.9 - - [23/Nov/2026:04:16:44 +0000] "GET /odd/?delay=300 HTTP/1.1" 499 10.105.148.196:90 0 "-" "-" "-" "601ff82e0acf656e50c6f627492bad4d" 1795407404.790 0.096 "0.000" "-" "0.095" "-" "114" "-" "-" "-"';
const RETRIED =
  '10.244.0.9 - - [23/Nov/2026:04:16:51 +0000] "GET /odd/?do=reset HTTP/1.1" 502 10.105.148.196:90, 10.105.148.196:90 157 "-" "-" "-" "4480b27643cec5bb367e7f9f0dbfb582" 1795407411.643 0.005 "0.000, 0.001" "-, -" "0.004, 0.001" "502, 502" "94, 94" "-" "-" "-"';

const log = (...lines: string[]) => Buffer.from(lines.map((line) => `${line}\n`).join(''), 'latin1');
const named = (line: string, ...pods: string[]) => {
  let k = 0;
  return line.replaceAll(/10\.105\.148\.\d+:\d+/g, (vip) => pods[k++] ?? vip);
};
const figures = (input: Buffer, output: Buffer, served?: ReturnType<typeof readServed>) => {
  const { findings: _, ...rest } = compare(input, output, served);
  return Object.fromEntries(Object.entries(rest).filter(([, n]) => n > 0));
};

test('lines left as they were count as left alone', () => {
  assert.deepEqual(figures(log(SERVED, OTHER), log(SERVED, OTHER)), { lines: 2, attempts: 2, leftAlone: 2 });
});

test('the pod that answered is right, another one is wrong', () => {
  const input = log(SERVED, OTHER);
  const right = log(named(SERVED, '10.244.1.64:10000'), OTHER);
  assert.deepEqual(figures(input, right), { lines: 2, attempts: 2, right: 1, leftAlone: 1 });
  const pod = log(named(SERVED, '10.244.1.65:10000'), OTHER);
  assert.deepEqual(figures(input, pod), { lines: 2, attempts: 2, wrong: 1, leftAlone: 1 });
  const port = log(named(SERVED, '10.244.1.64:10001'), OTHER);
  assert.deepEqual(figures(input, port), { lines: 2, attempts: 2, wrong: 1, leftAlone: 1 });
});

test("a line without an answer is judged by the backends' own logs, and unverified without them", () => {
  const input = log(ABORTED);
  const output = log(named(ABORTED, '10.244.1.64:10090'));
  const entry = (pod: string) =>
    `601ff82e0acf656e50c6f627492bad4d ${pod} 10.244.0.70:33000 GET /odd/?delay=300 1795407404.789\n`;
  assert.deepEqual(figures(input, output), { lines: 1, attempts: 1, unverified: 1 });
  assert.deepEqual(figures(input, output, readServed([entry('10.244.1.64:10090')])), {
    lines: 1,
    attempts: 1,
    right: 1,
  });
  assert.deepEqual(figures(input, output, readServed([entry('10.244.1.65:10090')])), {
    lines: 1,
    attempts: 1,
    wrong: 1,
  });
});

test('each attempt of a retried request is judged by itself', () => {
  const entry = (pod: string, at: string) =>
    `4480b27643cec5bb367e7f9f0dbfb582 ${pod} 10.244.0.70:33000 GET /odd/?do=reset ${at}\n`;
  const input = log(RETRIED);
  const both = log(named(RETRIED, '10.244.1.64:10090', '10.244.1.65:10090'));
  const swapped = log(named(RETRIED, '10.244.1.65:10090', '10.244.1.64:10090'));
  const last = log(named(RETRIED, '10.105.148.196:90', '10.244.1.65:10090'));
  const apart = readServed([
    entry('10.244.1.65:10090', '1795407411.642'),
    entry('10.244.1.64:10090', '1795407411.640'),
  ]);
  assert.deepEqual(figures(input, both, apart), { lines: 1, attempts: 2, right: 2 });
  assert.deepEqual(figures(input, swapped, apart), { lines: 1, attempts: 2, wrong: 2 });
  assert.deepEqual(figures(input, last, apart), { lines: 1, attempts: 2, right: 1, leftAlone: 1 });
  const atOnce = readServed([
    entry('10.244.1.65:10090', '1795407411.642'),
    entry('10.244.1.64:10090', '1795407411.642'),
  ]);
  assert.deepEqual(figures(input, swapped, atOnce), { lines: 1, attempts: 2, unverified: 2 });
  const other = log(named(RETRIED, '10.244.1.66:10090', '10.244.1.65:10090'));
  assert.deepEqual(figures(input, other, atOnce), { lines: 1, attempts: 2, unverified: 1, wrong: 1 });
});

test('an attempt that failed takes no truth from the pod that answered the next one', () => {
  const id = '4480b27643cec5bb367e7f9f0dbfb582';
  const line = RETRIED.replace('502, 502', '502, 200').replace(
    /"-" "-" "-"$/,
    '"10.244.1.65" "10090" "33000"',
  );
  const input = log(line);
  const output = log(named(line, '10.244.1.64:10090', '10.244.1.65:10090'));
  const sighting = (pod: string, at: number) => ({ pod, uri: '/odd/?do=reset', at });
  const answered = sighting('10.244.1.65:10090', 1795407411.642);
  const refused = sighting('10.244.1.64:10090', 1795407411.64);
  const judged = (served: Served, changed = line) =>
    figures(
      log(changed),
      changed === line ? output : log(named(changed, '10.244.1.64:10090', '10.244.1.65:10090')),
      served,
    );
  // The pods' own logs know nothing of a request that their kernel refused.
  assert.deepEqual(figures(input, output, { byId: new Map([[id, [answered]]]) }), {
    lines: 1,
    attempts: 2,
    right: 1,
    unverified: 1,
  });
  const both = { byId: new Map([[id, [refused, answered]]]), knocks: [] };
  assert.deepEqual(judged(both), { lines: 1, attempts: 2, right: 2 });
  const elsewhere = { ...refused, pod: '10.244.1.66:10090' };
  assert.deepEqual(judged({ byId: new Map([[id, [elsewhere, answered]]]), knocks: [] }), {
    lines: 1,
    attempts: 2,
    right: 1,
    wrong: 1,
  });
  // Nothing was sent, so the truth is where a connection came and carried nothing.
  const unsent = line.replace('94, 94', '0, 94');
  const knocked = (pod: string, at: number) => ({ byId: new Map([[id, [answered]]]), knocks: [{ pod, at }] });
  assert.deepEqual(judged(knocked('10.244.1.64:10090', 1795407411.639), unsent), {
    lines: 1,
    attempts: 2,
    right: 2,
  });
  for (const served of [
    knocked('10.244.1.66:10090', 1795407411.639),
    knocked('10.244.1.64:10090', 1795407400),
  ])
    assert.deepEqual(judged(served, unsent), { lines: 1, attempts: 2, right: 1, wrong: 1 });
});

test('a missing line is lost', () => {
  assert.deepEqual(figures(log(SERVED, OTHER, ABORTED), log(SERVED, ABORTED)), {
    lines: 3,
    attempts: 2,
    leftAlone: 2,
    lost: 1,
  });
  assert.equal(compare(log(SERVED, OTHER), log(SERVED)).lost, 1);
});

test('a second copy is repeated, also with another address', () => {
  const output = log(SERVED, named(SERVED, '10.244.1.64:10000'), OTHER);
  assert.equal(compare(log(SERVED, OTHER), output).repeated, 1);
  assert.equal(compare(log(SERVED, OTHER), output).lost, 0);
});

test('a line that moved is reordered', () => {
  const { reordered, lost, repeated } = compare(log(SERVED, OTHER, ABORTED), log(OTHER, SERVED, ABORTED));
  assert.deepEqual([reordered > 0, lost, repeated], [true, 0, 0]);
});

test('one changed byte outside the addresses is altered, and not lost as well', () => {
  for (const at of [0, 30, SERVED.length - 20, SERVED.length - 1]) {
    const changed = `${SERVED.slice(0, at)}~${SERVED.slice(at + 1)}`;
    const result = compare(log(SERVED, OTHER), log(changed, OTHER));
    assert.deepEqual([result.altered, result.lost, result.repeated], [1, 0, 0], `byte ${at}`);
  }
});

test('a changed separator, a dropped attempt and a changed name are altered', () => {
  assert.equal(compare(log(RETRIED), log(RETRIED.replace(':90, 10', ':90 : 10'))).altered, 1);
  assert.equal(compare(log(RETRIED), log(RETRIED.replace(':90, 10.105.148.196:90', ':90'))).altered, 1);
  const group = RETRIED.replace('10.105.148.196:90, 10.105.148.196:90', 'svc_odd');
  assert.equal(compare(log(group), log(group.replace('svc_odd', '10.244.1.64:10090'))).altered, 1);
});

test('lines that fit no format must be the same byte for byte', () => {
  const odd = Buffer.concat([Buffer.from([0, 255, 254, 10, 10, 0x22, 13, 10]), log(SERVED)]);
  assert.deepEqual(figures(odd, odd), { lines: 4, attempts: 1, leftAlone: 1 });
  const changed = Buffer.from(odd);
  changed[1] = 253;
  assert.equal(compare(odd, changed).altered, 1);
});

test('an unfinished line at the end of the output is altered', () => {
  assert.equal(compare(log(SERVED), Buffer.concat([log(SERVED), Buffer.from('10.2')])).altered, 1);
});

test("an address that was the pod's own is right as it is", () => {
  const direct = named(SERVED, '10.244.1.64:10000');
  assert.deepEqual(figures(log(direct), log(direct)), { lines: 1, attempts: 1, right: 1 });
});

test('an IPv6 address is judged like any other', () => {
  const line = SERVED.replace('10.105.148.194:10000', '[fd00:10:105::1]:80').replace(
    '"10.244.1.64"',
    '"fd00:10:244:1::64"',
  );
  const right = line.replace('[fd00:10:105::1]:80', '[fd00:10:244:1::64]:10000');
  assert.deepEqual(figures(log(line), log(right)), { lines: 1, attempts: 1, right: 1 });
  const wrong = line.replace('[fd00:10:105::1]:80', '[fd00:10:244:1::65]:10000');
  assert.deepEqual(figures(log(line), log(wrong)), { lines: 1, attempts: 1, wrong: 1 });
});

test('metrics are summed by evidence and by reason', () => {
  const page = [
    '# HELP realpod_attempts_total x',
    'realpod_attempts_total{evidence="request-id"} 12',
    'realpod_attempts_total{evidence="sole-backend",service="a"} 3',
    'realpod_attempts_total{evidence="sole-backend",service="b"} 4',
    'realpod_unresolved_total{reason="ambiguous"} 5 1795407406866',
    'process_cpu_seconds_total 0.5',
  ].join('\n');
  const samples = readMetrics(page);
  assert.deepEqual(countBy(samples, 'evidence'), { 'request-id': 12, 'sole-backend': 7 });
  assert.deepEqual(countBy(samples, 'reason'), { ambiguous: 5 });
});
