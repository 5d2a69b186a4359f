/** A helper that comes back with other sources: what it does not read must not count as absent. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RecordDecoder } from '../../src/feed/codec.ts';
import { Feed } from '../../src/feed/feed.ts';
import { FlowIndex } from '../../src/join/index/flow-index.ts';
import { matchLine } from '../../src/join/match.ts';
import type { Observation, Source } from '../../src/model/feed.ts';
import type { ParsedLine } from '../../src/model/line.ts';
import { isResolved } from '../../src/model/outcome.ts';
import { lineOf, NGINX, podIp, T0, VIP } from '../model/wire.ts';

const flow = (sport: number, pod: number) => ({
  src: NGINX,
  sport,
  vip: VIP,
  vport: 80,
  ip: podIp(pod),
  port: 8000,
});
const open = (sport: number, pod: number, at: number): Observation => ({
  kind: 'open',
  t: T0 + at,
  ...flow(sport, pod),
  via: 'conntrack',
});
const request = (sport: number, pod: number, at: number): Observation => ({
  kind: 'request',
  t: T0 + at,
  ...flow(sport, pod),
  singleSegment: true,
  via: 'tap',
});
const response = (sport: number, pod: number, at: number): Observation => ({
  kind: 'response',
  t: T0 + at,
  ...flow(sport, pod),
  via: 'tap',
});

/** A sidecar's index, and one helper after another, each with its own feed. */
function world() {
  const index = new FlowIndex();
  const time = { now: T0 };
  return {
    index,
    async helper(
      sources: readonly Source[],
      at: number,
      flows: readonly { sport: number; pod: number }[] = [],
    ) {
      time.now = T0 + at;
      const feed = new Feed(() => time.now);
      const decoder = new RecordDecoder();
      feed.connect({
        subscribe: async () => ({
          flows: flows.map(({ sport, pod }) => ({
            ...open(sport, pod, at),
            preexisting: true as const,
          })) as never,
          completeSince: Object.fromEntries(sources.map((source) => [source, T0 + at])),
        }),
        unsubscribe() {},
        readPromptly() {},
        gather() {},
        flush: async () => {},
      });
      await feed.open([NGINX], undefined, (text) => {
        for (const record of decoder.push(Buffer.from(text)).records) index.apply(record);
      });
      const tell = (to: number, ...observations: Observation[]): void => {
        time.now = T0 + to;
        feed.batch(observations, T0 + to);
      };
      tell(at + 1);
      return { tell, end: () => feed.close() };
    },
    says(line: ParsedLine, readAt: number): string {
      const [outcome] = matchLine(line, T0 + readAt, index).outcomes;
      return outcome && isResolved(outcome)
        ? `${outcome.ip.split('.')[3]} ${outcome.evidence}`
        : outcome!.reason;
    },
  };
}

const line = (end: number): ParsedLine => lineOf({ end, took: 5 });

test('without the tap of before, requests are not taken for absent', async () => {
  const { helper, says, index } = world();
  const first = await helper(['conntrack', 'tap'], 0);
  // Two connections under keepalive, whose only requests are long over; the second one serves the line.
  first.tell(100, open(1, 1, 50), request(1, 1, 51), response(1, 1, 60));
  first.tell(200, open(2, 2, 150), request(2, 2, 151), response(2, 2, 160));
  assert.equal(says(line(155), 156), '2 request-window');
  first.end();
  const second = await helper(['conntrack'], 1_000, [
    { sport: 1, pod: 1 },
    { sport: 2, pod: 2 },
  ]);
  // A third connection opens; the request of the line goes over the second, and nobody sees it.
  second.tell(20_000, open(3, 1, 19_990));
  assert.equal(says(line(19_999), 19_999), 'ambiguous');
  second.tell(20_100, { kind: 'close', t: T0 + 20_050, ...flow(2, 2), via: 'conntrack' });
  assert.equal(says(line(19_999), 20_000), 'ambiguous');
  assert.ok(index.coverage.isComplete('tap', T0 + 150, T0 + 160), 'what the tap saw before stays true');
  assert.deepEqual(index.coverage.sources(), ['conntrack']);
});

test('without the conntrack of before, connections are not taken for absent', async () => {
  const { helper, says } = world();
  const first = await helper(['conntrack', 'tap'], 0);
  first.tell(10_000, open(1, 1, 50));
  assert.equal(says(line(9_000), 9_000), '1 sole-backend');
  first.end();
  const second = await helper(['kernel-log'], 20_000);
  // A connection to another pod opens, and nobody sees it.
  second.tell(40_000);
  assert.equal(says(line(39_000), 39_000), 'gap');
  second.end();
  const third = await helper(['conntrack', 'tap'], 50_000, [{ sport: 1, pod: 1 }]);
  third.tell(70_000);
  assert.equal(says(line(39_000), 39_000), 'gap', 'nothing tells of the time between');
  assert.equal(says(line(69_000), 69_000), '1 sole-backend');
});

test('a feed that breaks off while it begins does not lend its sources to the next one', async () => {
  const { helper, says, index } = world();
  const first = await helper(['conntrack', 'tap'], 0);
  first.tell(10_000, open(1, 1, 50));
  first.end();
  for (const source of ['conntrack', 'tap'] as const)
    index.apply({ kind: 'gap', seq: 0, source, t: T0 + 11_000 });
  const second = await helper(['conntrack'], 12_000, [{ sport: 1, pod: 1 }]);
  second.tell(30_000, open(2, 2, 29_000));
  assert.deepEqual(index.coverage.sources(), ['conntrack']);
  assert.equal(says(line(29_995), 29_995), 'ambiguous');
});
