import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lineFilter } from '../../src/http/sidecar/line-filter.ts';
import { type LineOutlet, LineStream } from '../../src/http/sidecar/line-stream.ts';
import { RecentLines, type ShownLine } from '../../src/http/sidecar/recent.ts';
import { FlowIndex } from '../../src/join/index/flow-index.ts';
import type { BlockLine } from '../../src/join/pending.ts';
import { appOf, PODS, servedDemo } from './serve-app.ts';
import { demoLog, parseDemo, settledDemo } from './serve-demo.ts';

const textLines = demoLog.toString().split('\n').slice(0, -1);

async function get(app: ReturnType<typeof servedDemo>['app'], url: string) {
  const response = await app.inject({ url });
  return { status: response.statusCode, body: response.json() };
}

test('the youngest lines come first, each as nginx wrote it and with the real pod', async () => {
  const { app } = servedDemo();
  const { status, body } = await get(app, '/lines?limit=3');
  assert.equal(status, 200);
  assert.deepEqual(
    body.lines.map(({ line }: ShownLine) => line),
    textLines.slice(-3).reverse(),
  );
  const { line, enriched, attempts } = body.lines[0] as ShownLine;
  const { upstream, ip, port } = attempts[0]!;
  assert.equal(enriched, line.replace(upstream, `${ip}:${port}`));
  assert.notEqual(enriched, line);
});

test('lines are found by status, class of status, path and pod, and by all of them at once', async () => {
  const { app } = servedDemo();
  const withStatus = (wanted: RegExp) => textLines.filter((text) => wanted.test(text)).length;
  const count = async (query: string) => (await get(app, `/lines?limit=1000${query}`)).body.lines.length;
  assert.equal(await count('&status=503'), withStatus(/" 503 /));
  assert.equal(await count('&status=5xx'), withStatus(/" 5\d\d /));
  assert.equal(await count('&status=4xx'), withStatus(/" 4\d\d /));
  assert.equal(await count('&path=search'), withStatus(/"GET [^ ]*search/));
  const all = await count('');
  assert.equal(all, textLines.length);
  let sum = 0;
  for (const [ip, pod] of PODS) {
    const own = await count(`&pod=${pod}`);
    assert.equal(await count(`&pod=shop/${pod}`), own);
    assert.equal(await count(`&pod=${ip}`), own);
    sum += own;
  }
  assert.ok(PODS.size > 1);
  assert.equal(sum, all);
  assert.equal((await count('&pod=orders-5d8f7c9b4')) + (await count('&pod=catalog-7b6cf5d8d9')), all);
  assert.equal(await count('&pod=orders-5d8f7'), 0, 'a name is not cut inside a part of it');
  assert.equal(await count('&status=404&path=orders'), 0);
});

test('a parameter that does not exist or cannot be is refused by name', async () => {
  const { app } = servedDemo();
  for (const [url, name] of [
    ['/lines?sttaus=500', 'sttaus'],
    ['/lines?status=6xx', 'status'],
    ['/lines?limit=0', 'limit'],
    ['/pods?window=5', 'window'],
    ['/lookup?port=70000', 'port'],
    ['/lookup?port=80&time=noon', 'time'],
    ['/lookup?port=80&upstream=nowhere', 'upstream'],
    ['/lookup', 'port'],
  ] as const) {
    const { status, body } = await get(app, url);
    assert.equal(status, 400, url);
    assert.equal(body.error.code, 'bad-parameter', url);
    assert.match(body.error.message, new RegExp(`^${name}: `), url);
    assert.notEqual(body.error.next, '', url);
  }
});

test('a request id leads to its line, an unknown one to an error that says where to look', async () => {
  const { app } = servedDemo();
  const id = /"([0-9a-f]{32})"/.exec(textLines[0]!)![1]!;
  const found = await get(app, `/lookup?request_id=${id}`);
  assert.equal(found.body.line, textLines[0]);
  assert.equal(found.body.attempts[0].evidence, 'request-id');
  const missing = await get(app, '/lookup?request_id=none');
  assert.equal(missing.status, 404);
  assert.equal(missing.body.error.code, 'no-line');
});

test('a source port leads to the pod that the attempt on it was resolved to', async () => {
  const { app } = servedDemo();
  const [{ attempts }] = (await get(app, '/lines?limit=1')).body.lines as ShownLine[] as [ShownLine];
  const { sport, ip, port, pod } = attempts[0]!;
  const { body } = await get(app, `/lookup?port=${sport}`);
  assert.deepEqual(
    body.matches.map((match: Record<string, unknown>) => [match.ip, match.port, match.pod]),
    [[ip, port, pod]],
  );
});

test('a source port leads to the last connection that LOG records tell of by then', async () => {
  const { app, index } = servedLog();
  const at = (t: number) => get(app, `/lookup?port=33454&time=${t}`);
  const pods = async (t: number) =>
    (await at(t)).body.matches?.map((match: Record<string, unknown>) => [
      match.ip,
      match.from,
      match.to,
      match.via,
    ]);
  assert.deepEqual(await pods(LOGGED + 5_000), [['10.244.1.64', LOGGED, null, 'kernel-log']]);
  assert.deepEqual(await pods(LOGGED + 65_000), [['10.244.1.65', LOGGED + 60_000, null, 'kernel-log']]);
  assert.deepEqual((await get(app, '/lookup?port=33454')).body.matches.length, 1);
  const before = await at(LOGGED - 500);
  assert.deepEqual([before.status, before.body.error.code], [404, 'no-flow']);
  const elsewhere = await get(app, '/lookup?port=33454&upstream=10.105.148.199:80');
  assert.equal(elsewhere.status, 404);
  // Where conntrack is read it alone is believed.
  index.apply({ kind: 'gap', seq: 9, source: 'conntrack', t: LOGGED });
  assert.equal((await at(LOGGED + 5_000)).status, 404);
});

const LOGGED = 1_764_837_843_000;

/** An application behind which two LOG records of one port stand, a minute apart. */
function servedLog() {
  const index = new FlowIndex();
  index.apply({ kind: 'gap', seq: 0, source: 'kernel-log', t: LOGGED - 1_000 });
  index.apply({ kind: 'tick', seq: 1, t: LOGGED - 10 });
  const flow = { src: '10.244.0.70', sport: 33454, vip: '10.105.148.194', vport: 10000, port: 8000 };
  for (const [i, ip] of ['10.244.1.64', '10.244.1.65'].entries()) {
    const t = LOGGED + i * 60_000;
    index.apply({ kind: 'open', seq: 2 * i + 2, t, ...flow, ip, via: 'kernel-log' });
    index.apply({ kind: 'tick', seq: 2 * i + 3, t: t + 30_000 });
  }
  const { numbers } = servedDemo();
  const app = appOf({ ...numbers, index, clock: () => LOGGED + 90_000 });
  return { app, index };
}

test('readiness follows the outputs, not the helper', async () => {
  const { app, numbers } = servedDemo();
  assert.equal((await get(app, '/readyz')).status, 200);
  numbers.sink.stalled = 1;
  const { status, body } = await get(app, '/readyz');
  assert.equal(status, 503);
  assert.equal(body.error.code, 'output-stalled');
});

class Outlet implements LineOutlet {
  readonly got: string[] = [];
  missed = 0;
  unread = 0;
  closed = false;
  lines(lines: readonly ShownLine[]): void {
    this.got.push(...lines.map(({ line }) => line));
  }
  skipped(count: number): void {
    this.missed += count;
  }
  cutOff(): void {
    this.closed = true;
  }
}

function world(perBlock: number) {
  const { blocks } = settledDemo(perBlock);
  const recent = new RecentLines(1e9, parseDemo);
  const time = { now: 0 };
  const stream = new LineStream(recent, () => time.now);
  const everything = lineFilter({}, () => undefined);
  return { blocks, recent, stream, everything, time };
}

test('kept lines are read again only where somebody asks for them', () => {
  const { blocks } = settledDemo(10);
  let read = 0;
  const recent = new RecentLines(1e9, (bytes, start, end) => {
    read++;
    return parseDemo(bytes, start, end);
  });
  for (const block of blocks) recent.add(block);
  assert.equal(read, 0);
  assert.equal(recent.list(12, () => true).length, 12);
  assert.equal(read, 20);
  read = 0;
  const { id } = recent.list(1, () => true)[0]!;
  assert.equal(recent.byRequestId(id!)?.id, id);
  assert.equal(recent.byRequestId('0'.repeat(32)), undefined);
  assert.equal(read, 20);
});

test('of more bytes than are kept the oldest blocks go, one by one, and never the youngest', () => {
  const recent = new RecentLines(500, parseDemo);
  for (let n = 1; n <= 50; n++) {
    const size = n === 40 ? 600 : 100;
    const bytes = Buffer.from(String(n).padEnd(size, '.'));
    recent.add({ bytes, readAt: 0, lines: [{ start: 0, end: 2, parsed: 'format' }], outcomes: [[]] });
    const kept = recent.list(99, () => true).map(({ line }) => Number(line.replace('.', '')));
    const oldest = n < 40 ? Math.max(1, n - 4) : n < 45 ? Math.max(40, n === 40 ? 40 : 41) : n - 4;
    assert.deepEqual(
      kept,
      Array.from({ length: n - oldest + 1 }, (_, i) => n - i),
    );
    assert.equal(recent.bytes, n === 40 ? 600 : 100 * kept.length);
  }
});

test('lines that were not read stay what they were', () => {
  const recent = new RecentLines(1e9, parseDemo);
  const add = (text: string, lines: BlockLine[]): void =>
    recent.add({ bytes: Buffer.from(text), readAt: 0, lines, outcomes: lines.map(() => []) });
  add('\nnot a line\n', [
    { start: 0, end: 0, parsed: 'empty' },
    { start: 1, end: 11, parsed: 'format' },
  ]);
  add('long', [{ start: 0, end: 4, parsed: 'too-long' }]);
  assert.deepEqual(
    recent.list(9, () => true).map(({ line, unparsed }) => [line, unparsed]),
    [
      ['long', 'too-long'],
      ['not a line', 'format'],
      ['', 'empty'],
    ],
  );
});

test('a client that joins gets the youngest lines once, then every new one, in order', () => {
  const { blocks, recent, stream, everything } = world(10);
  const early = new Outlet();
  stream.open(everything, 0, early);
  const late = new Outlet();
  blocks.forEach((block, i) => {
    recent.add(block);
    stream.add(block);
    // Between two rounds: what is pending must reach each of them once.
    if (i === 3) stream.open(everything, 15, late);
    if (i % 2 === 1) stream.round();
  });
  stream.round();
  assert.deepEqual(early.got, textLines);
  assert.deepEqual(late.got, textLines.slice(40 - 15));
  assert.equal(early.missed + late.missed, 0);
  stream.close();
  assert.ok(early.closed && late.closed);
});

test('of a rush a client gets the youngest lines, and the number of those left out', () => {
  const { blocks, recent, stream, everything } = world(50);
  const outlet = new Outlet();
  stream.open(everything, 0, outlet);
  for (const block of blocks) {
    recent.add(block);
    stream.add(block);
  }
  stream.round();
  assert.ok(outlet.got.length < textLines.length);
  assert.deepEqual(outlet.got, textLines.slice(-outlet.got.length));
  assert.equal(outlet.got.length + outlet.missed, textLines.length);
  stream.close();
});

test('a client that takes nothing is skipped, told how much it missed, and cut off in the end', () => {
  const { blocks, stream, everything, time } = world(10);
  const slow = new Outlet();
  const quick = new Outlet();
  stream.open(everything, 0, slow);
  stream.open(everything, 0, quick);
  slow.unread = 10_000_000;
  stream.add(blocks[0]!);
  stream.round();
  assert.equal(slow.got.length, 0);
  assert.equal(quick.got.length, 10);
  slow.unread = 0;
  stream.add(blocks[1]!);
  stream.round();
  assert.equal(slow.missed, 10);
  assert.equal(slow.got.length, 10);
  slow.unread = 10_000_000;
  for (time.now = 1_000; time.now <= 40_000; time.now += 13_000) {
    stream.add(blocks[2]!);
    stream.round();
  }
  assert.ok(slow.closed);
  assert.ok(!quick.closed);
  assert.equal(stream.clients, 1);
  stream.close();
});

test('clients are bounded, and without one nothing is kept', () => {
  const { blocks, stream, everything } = world(10);
  stream.add(blocks[0]!);
  const closers = [];
  for (;;) {
    const close = stream.open(everything, 0, new Outlet());
    if (!close) break;
    closers.push(close);
    assert.ok(closers.length < 1_000);
  }
  assert.equal(stream.counters.refused, 1);
  closers[0]!();
  const outlet = new Outlet();
  assert.ok(stream.open(everything, 0, outlet));
  stream.round();
  assert.deepEqual(outlet.got, []);
  stream.close();
});
