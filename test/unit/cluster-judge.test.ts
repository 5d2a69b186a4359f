import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compare, judge, totals, truthOf } from '../cluster/kit/judge.ts';

/** As a sidecar wrote it in a cluster. */
const LINE =
  '10.244.1.7 - - [26/Nov/2026:22:59:54 +0000] "GET /r/16881 HTTP/1.1" 200 10.244.1.17:10000 41 "-" "-" "-" "ac55826f11177284d8e4d333d2e1f524" 1795733994.314 0.032 "0.000" "0.032" "0.032" "200" "88" pod=realpod-example/backend-765cf4b9-jn6xx evidence=request-id';
const PLAIN = LINE.replace(/ pod=.*/, '').replace('10.244.1.17', '10.96.12.34');
const LEFT = `${PLAIN} pod=- evidence=-:gap`;
const TRUTH = truthOf(['16881 200 backend-765cf4b9-jn6xx 10.244.1.17:10000', '16882 502 -']);

test('a line is right where pod and address are those that answered', () => {
  const judged = judge('nginx-1', LINE, TRUTH)!;
  assert.deepEqual([judged.answered, judged.named, judged.wrong], [true, true, false]);
});

test('another pod, or another address, is wrong', () => {
  assert.equal(judge('nginx-1', LINE.replace('jn6xx', 'other'), TRUTH)!.wrong, true);
  assert.equal(judge('nginx-1', LINE.replace('1.17:', '1.18:'), TRUTH)!.wrong, true);
});

test('a line that was left alone is not named, and not wrong', () => {
  const judged = judge('nginx-1', LEFT, TRUTH)!;
  assert.deepEqual([judged.named, judged.wrong, judged.evidence], [false, false, '-:gap']);
});

test('of several attempts the last one answered', () => {
  const line = LINE.replace('10.244.1.17:10000', '10.96.12.34:10000, 10.244.1.17:10000')
    .replace('"200" "88"', '"502, 200" "0, 88"')
    .replace('pod=', 'pod=realpod-example/gone-1,')
    .replace('evidence=', 'evidence=source-port,');
  const judged = judge('nginx-1', line, TRUTH)!;
  assert.deepEqual([judged.answered, judged.named, judged.wrong], [true, true, false]);
});

test('a line that the sidecar lost, repeated or changed is counted', () => {
  assert.deepEqual(compare({ nginx: [PLAIN], realpod: [LINE] }), { lost: 0, repeated: 0, changed: 0 });
  assert.deepEqual(compare({ nginx: [PLAIN], realpod: [LEFT, LINE] }), { lost: 0, repeated: 1, changed: 0 });
  assert.deepEqual(compare({ nginx: [PLAIN], realpod: [] }), { lost: 1, repeated: 0, changed: 0 });
  const changed = LINE.replace('0.032 ', '0.033 ');
  assert.deepEqual(compare({ nginx: [PLAIN], realpod: [changed] }), { lost: 1, repeated: 0, changed: 1 });
});

test('the longest stretch goes from a line that was left alone to the next named one of the same nginx', () => {
  const at = (nginx: string, line: string, ms: number) => ({ ...judge(nginx, line, TRUTH)!, at: ms });
  const lines = [
    at('a', LEFT, 0),
    at('b', LINE, 100),
    at('a', LEFT, 200),
    at('a', LINE, 250),
    at('a', LEFT, 300),
  ];
  assert.equal(totals(lines).unnamedMs, 250);
});
