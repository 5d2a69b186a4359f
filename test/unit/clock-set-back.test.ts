import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Directory } from '../../src/cluster/directory.ts';
import type { LogBlock } from '../../src/follow/follower.ts';
import { beginning } from '../../src/follow/position.ts';
import { FlowIndex } from '../../src/join/index/flow-index.ts';
import type { FeedRecord, Observation } from '../../src/model/feed.ts';
import { isResolved } from '../../src/model/outcome.ts';
import { compileLogFormat } from '../../src/parse/log-format.ts';
import { Pipeline } from '../../src/pipeline.ts';
import { createStyle } from '../../src/rewrite/create.ts';

const HOUR = 3_600_000;
const T0 = 1_795_418_146_000;
const VIP = '10.105.148.194';
const [A, B] = ['10.244.1.64', '10.244.1.65'] as const;
const TIMES = '$upstream_addr $msec $request_time "$request_id" "$upstream_status"';
const FULL = `${TIMES} "$upstream_response_time"`;

/** A sidecar's pipeline on a clock that the test sets. */
function sidecar(text = FULL) {
  const format = compileLogFormat(text);
  const index = new FlowIndex();
  const said: string[] = [];
  let now = T0;
  let seq = 0;
  let next: ((block: LogBlock | undefined) => void) | undefined;
  const blocks: (LogBlock | undefined)[] = [];
  const pipeline = new Pipeline({
    follower: {
      next: () =>
        new Promise((resolve) => {
          if (blocks.length > 0) resolve(blocks.shift());
          else next = resolve;
        }),
      hasten: () => {},
      gather: () => {},
      lookNow: () => {},
    },
    parse: (bytes, start, end) => format.parse(bytes, start, end),
    index,
    style: createStyle('replace', format),
    write: async () => {},
    requestTick() {},
    onSettled({ outcomes }) {
      for (const [outcome] of outcomes)
        said.push(!outcome ? 'none' : isResolved(outcome) ? outcome.ip : outcome.reason);
    },
    limits: { maxWaitMs: 2_000, maxBytes: 1e6, maxUnwrittenBytes: 1e6 },
    batchMs: 0,
    clock: () => now,
  });
  const give = (block: LogBlock | undefined): void => {
    if (next) next(block);
    else blocks.push(block);
    next = undefined;
  };
  const tell = (...records: Observation[]): void => {
    for (const record of records) index.apply({ ...record, seq: ++seq } as FeedRecord);
    pipeline.settle();
  };
  const running = pipeline.run();
  return {
    said,
    index,
    /** The clock then shows this. */
    set(time: number): void {
      now = time;
    },
    tell,
    tick: () => tell({ kind: 'tick', t: now }),
    begin(t = now): void {
      tell({ kind: 'gap', source: 'conntrack', t }, { kind: 'gap', source: 'tap', t }, { kind: 'tick', t });
    },
    async line(line: string): Promise<void> {
      give({ bytes: Buffer.from(`${line}\n`), readAt: now, end: beginning(now) });
      for (let turns = 0; turns < 3; turns++) await new Promise((resolve) => setImmediate(resolve));
    },
    async end(): Promise<string[]> {
      now += 10;
      tell({ kind: 'tick', t: now });
      give(undefined);
      await running;
      return said;
    },
  };
}

const flow = (sport: number, ip: string) => ({
  src: '10.244.0.70',
  sport,
  vip: VIP,
  vport: 80,
  ip,
  port: 80,
});
const open = (t: number, sport: number, ip: string): Observation => {
  return { kind: 'open', t, via: 'conntrack', ...flow(sport, ip) };
};
const request = (t: number, sport: number, ip: string, id?: string): Observation => {
  return { kind: 'request', t, via: 'tap', singleSegment: true, ...flow(sport, ip), ...(id ? { id } : {}) };
};
const lineOf = (at: number, id: string, seconds = '0.010', upstream = ''): string =>
  `${VIP}:80 ${(at / 1000).toFixed(3)} ${seconds} "${id}" "200"${upstream && ` "${upstream}"`}`;

test('lines that waited as the clock was set back leave at once, and not an hour later', async () => {
  const { begin, set, line, tick, said, end } = sidecar();
  begin();
  set(T0 + 500);
  await line(lineOf(T0 + 500, 'a', '0.010', '0.010'));
  set(T0 + 500 - HOUR);
  tick();
  assert.deepEqual(said, ['late']);
  await line(lineOf(T0 + 500 - HOUR, 'b', '0.010', '0.010'));
  assert.deepEqual(await end(), ['late', 'gap']);
});

test('before the helper says that the clock was set back, no line is compared with the hour before', async () => {
  const { begin, tell, set, line, end } = sidecar();
  begin(T0 - 2 * HOUR);
  // An hour ago the Service had another backend, and a request that nobody has claimed.
  tell(open(T0 - HOUR - 20, 1001, A), request(T0 - HOUR - 20, 1001, A, 'unlogged'));
  tell({ kind: 'tick', t: T0 - HOUR });
  set(T0);
  tell({ kind: 'tick', t: T0 - 21 });
  tell(open(T0 - 20, 1002, B), request(T0 - 20, 1002, B, 'a'), { kind: 'tick', t: T0 });
  set(T0 - HOUR);
  await line(lineOf(T0 - HOUR, 'a', '0.025', '0.020'));
  assert.deepEqual(await end(), ['late']);
});

for (const [name, format, upstream] of [
  ['with the times of the upstream', FULL, '5.000'],
  ['without', TIMES, ''],
] as const)
  test(`a request that ran as the clock was set back is not compared with those beside its line, ${name}`, async () => {
    const { begin, tell, set, line, tick, end } = sidecar(format);
    begin(T0 - 10_000);
    tell(open(T0 - 20, 1001, A), request(T0 - 20, 1001, A, 'long'), { kind: 'tick', t: T0 });
    const back = T0 - HOUR;
    set(back);
    begin();
    tell(open(back + 4_000, 1002, B), request(back + 5_000, 1002, B, 'other'));
    set(back + 5_001);
    tick();
    // nginx says that it took no time.
    await line(lineOf(back + 5_000, 'long', '0.000', upstream));
    assert.deepEqual(await end(), ['gap']);
  });

test('a second after the clock was set back, lines are exact again, also on connections from before', async () => {
  const { begin, tell, set, line, tick, end } = sidecar();
  begin(T0 - 10_000);
  tell(open(T0 - 20, 1001, A), { kind: 'tick', t: T0 });
  const back = T0 - HOUR;
  set(back);
  begin();
  tell({ kind: 'open', t: back, via: 'conntrack', preexisting: true, ...flow(1001, A) });
  set(back + 2_000);
  tell(request(back + 1_990, 1001, A, 'a'));
  tick();
  await line(lineOf(back + 2_000, 'a', '0.010', '0.010'));
  assert.deepEqual(await end(), [A]);
});

test('after the clock was set back an address goes by the name that it had last', () => {
  const index = new FlowIndex();
  const name = (t: number, pod: string): FeedRecord => {
    return { kind: 'name', seq: 1, t, ip: A, pod, namespace: 'shop', node: 'n', service: 's' };
  };
  index.apply(name(T0 - 2 * HOUR, 'old'));
  index.apply(name(T0 - HOUR / 2, 'new'));
  index.onClockRollback(T0 - HOUR);
  assert.equal(index.names.at(A, T0 - HOUR + 1)?.pod, 'new');
  assert.equal(index.names.at(A, T0 - 2 * HOUR), undefined);

  let now = T0 - 2 * HOUR;
  const directory = new Directory(
    () => {},
    () => now,
  );
  const slice = (pod: string) => ({
    metadata: { name: 's', namespace: 'shop' },
    endpoints: [{ addresses: [A], targetRef: { kind: 'Pod', name: pod, namespace: 'shop' } }],
  });
  directory.slices().upsert(slice('old'));
  now = T0;
  directory.slices().upsert(slice('new'));
  now = T0 - HOUR;
  assert.deepEqual(
    [...directory.history(A)].map(({ t, pod }) => [t, pod]),
    [[0, 'new']],
  );
  directory.slices().upsert(slice('newest'));
  assert.deepEqual(
    [...directory.history(A)].map(({ t, pod }) => [t, pod]),
    [
      [0, 'new'],
      [T0 - HOUR, 'newest'],
    ],
  );
});
