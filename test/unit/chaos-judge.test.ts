/** The random world's judge finds what it is there to find. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { judgeRound, type RoundFiles } from '../chaos/judge.ts';
import { drawRound } from '../chaos/plan.ts';

const KEYS = ['a', 'b', 'c'].map((letter) => letter.repeat(32));
const VIP = '10.105.148.194:10000';
const POD = '10.244.1.64:10000';
const OTHER = '10.244.1.65:10000';
const line = (key: string, address: string) => `- "GET / HTTP/1.1" 200 ${address} 40 "${key}"`;
const ended = (lines: readonly string[]) => Buffer.from(lines.map((text) => `${text}\n`).join(''));
const INPUT = KEYS.map((key) => line(key, VIP));

function judged(output: readonly string[], more: Partial<RoundFiles> = {}) {
  const truth = ended(KEYS.map((key) => `${key}\t${VIP}\t${POD}\t-`));
  return judgeRound({ inputs: [ended(INPUT)], output: ended(output), truth, served: [], ...more });
}
const named = (key: string, pod: string) => `${line(key, pod)} pod=${pod} evidence=request-id`;

test('right lines are right, and evidence and reasons are counted', () => {
  const seen = judged([named(KEYS[0]!, POD), named(KEYS[1]!, POD), `${INPUT[2]} pod=- evidence=-:ambiguous`]);
  assert.deepEqual(seen.evidence, { 'request-id': 2 });
  assert.deepEqual(seen.reasons, { ambiguous: 1 });
  const { right, wrong, lost, repeated, altered, reordered } = seen;
  assert.deepEqual([right, wrong, lost, repeated, altered, reordered], [2, 0, 0, 0, 0, 0]);
});

test('a wrong pod, a lost, a repeated, an altered and a moved line are found', () => {
  assert.equal(judged([named(KEYS[0]!, OTHER), ...INPUT.slice(1)]).wrong, 1);
  assert.equal(judged(INPUT.slice(1)).lost, 1);
  assert.equal(judged([...INPUT, INPUT[2]!]).repeated, 1);
  assert.equal(judged([INPUT[0]!.replace('200', '201'), ...INPUT.slice(1)]).altered, 1);
  assert.equal(judged([INPUT[1]!, INPUT[0]!, INPUT[2]!]).reordered, 1);
});

test('of several attempts each is held against what the pods logged, in their order', () => {
  const two = `${VIP}, ${VIP}`;
  const files = {
    inputs: [ended([line(KEYS[0]!, two)])],
    truth: ended([`${KEYS[0]}\t${two}\t-:-\t-`]),
    served: [ended([`${KEYS[0]} ${OTHER} - - - 1.000 0.000`, `${KEYS[0]} ${POD} - - - 2.000 0.000`])],
  };
  assert.equal(judged([line(KEYS[0]!, `${OTHER}, ${POD}`)], files).right, 2);
  assert.equal(judged([line(KEYS[0]!, `${POD}, ${OTHER}`)], files).wrong, 2);
});

test('a round is the same whenever it is drawn', () => {
  assert.deepEqual(drawRound(7, 3, ['debian']), drawRound(7, 3, ['debian']));
  assert.notDeepEqual(drawRound(7, 3, ['debian']), drawRound(7, 4, ['debian']));
});
