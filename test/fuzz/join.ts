/** The join, fed with records and asked with lines that a program of bytes makes up. */
import assert from 'node:assert/strict';
import { FlowIndex } from '../../src/join/index/flow-index.ts';
import { matchLine } from '../../src/join/match.ts';
import type { FeedRecord, Source } from '../../src/model/feed.ts';
import type { Attempt, ParsedLine } from '../../src/model/line.ts';
import type { Target } from './target.ts';

const LIMITS = { connections: 12, requests: 8, matchedRequests: 4, services: 3 };
const T0 = 1_795_418_146_000;
const SOURCES: readonly Source[] = ['conntrack', 'tap', 'kernel-log'];

/** Three bytes a step: what happens, and two numbers for it. Some steps ask; what is named has to have been told. */
function play(program: Buffer): void {
  const index = new FlowIndex(LIMITS);
  const told = new Set<string>();
  let t = T0;
  let seq = 0;
  const apply = (record: object): void => index.apply({ ...record, seq: ++seq, t } as FeedRecord);
  for (let at = 0; at + 2 < program.length; at += 3) {
    const [what, a, b] = [program[at]!, program[at + 1]!, program[at + 2]!];
    t += (a & 15) / 4;
    const known = (a & 1) === 0;
    const flow = {
      src: '10.244.0.70',
      sport: 1000 + (a & 7),
      ...(known ? { vip: `10.105.0.${b & 3}`, vport: 80 } : {}),
      ip: `10.244.1.${(b >> 2) & 3}`,
      port: 8080,
    };
    const id = (b & 16) === 0 ? { id: `id-${(b >> 5) & 3}` } : {};
    switch (what & 7) {
      case 0:
        apply({ kind: 'open', via: 'conntrack', ...(b & 128 ? { preexisting: true } : {}), ...flow });
        told.add(`${flow.ip}:${flow.port}`);
        break;
      case 1:
        apply({ kind: 'close', via: 'conntrack', ...flow });
        break;
      case 2:
      case 3:
        apply({
          kind: 'request',
          via: 'tap',
          ...flow,
          ...id,
          bytes: 100 + (a >> 6),
          ...(what & 8 ? { singleSegment: true } : {}),
          ...(what & 16 ? { idBeforeHost: true } : {}),
          ...(what & 32 ? { cut: true } : {}),
          ...(what & 64 ? { midStream: true } : {}),
        });
        told.add(`${flow.ip}:${flow.port}`);
        break;
      case 4:
        apply({ kind: 'tick' });
        break;
      case 5:
        apply({ kind: 'gap', source: SOURCES[a % 3], ...(b & 1 ? { from: t - b } : {}) });
        if (b === 255) t -= 5_000;
        break;
      case 6:
        apply({ kind: 'open', via: 'kernel-log', ...flow });
        told.add(`${flow.ip}:${flow.port}`);
        break;
      default: {
        apply({ kind: 'tick' });
        const attempts = Array.from({ length: 1 + (a & 1) }, (_, k): Attempt => attempt(what, a, b + k));
        const line: ParsedLine = {
          attempts,
          endMs: what & 8 ? t : undefined,
          endStepMs: what & 16 ? 1 : 1_000,
          requestMs: what & 32 ? a : undefined,
          id: (b & 16) === 0 ? `id-${(b >> 5) & 3}` : undefined,
          method: 'GET',
          path: '/',
          status: 200,
        };
        const match = matchLine(line, t + 1, index);
        assert.equal(match.outcomes.length, attempts.length);
        for (const outcome of match.outcomes) {
          assert.ok(outcome, 'an attempt without an outcome');
          if ('evidence' in outcome)
            assert.ok(told.has(`${outcome.ip}:${outcome.port}`), `${outcome.ip} was never told of`);
        }
        index.markMatched(match.matched);
        const { open, closed } = index.sizes;
        assert.ok(open + closed <= LIMITS.connections, 'more connections than the limit');
      }
    }
  }
}

function attempt(what: number, a: number, b: number): Attempt {
  const maybe = (bit: number, value: number): number | null | undefined =>
    (what & bit) === 0 ? undefined : (a & bit) === 0 ? value : null;
  return {
    start: 0,
    end: 0,
    kind: 'ip',
    ip: `10.105.0.${b & 3}`,
    port: 80,
    connectMs: maybe(32, 0),
    headerMs: maybe(32, a >> 4),
    responseMs: maybe(64, a),
    status: maybe(128, b & 4 ? 200 : 502),
    bytesSent: maybe(64, 100 + (a >> 6)),
    bytesReceived: undefined,
    localPort: what & 128 && b & 8 ? 1000 + (a & 7) : undefined,
  };
}

const program = (length: number, step: number): Buffer =>
  Buffer.from(Array.from({ length }, (_, n) => (n * step + (n >> 3) * 7) & 255));

export const joinTarget: Target = {
  name: 'join',
  corpus: [program(90, 37), program(150, 101), program(240, 13), program(60, 251)],
  words: ['\x00\x00\x00', '\x02\x08\x10', '\x04\x01\x01', '\x07\xf8\x00', '\x05\x00\x01'],
  weight: 0.5,
  run: play,
};
