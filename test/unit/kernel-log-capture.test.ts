import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Capture, CaptureSink, Subscription } from '../../src/capture/capture.ts';
import { CAPTURE_DEFAULTS } from '../../src/capture/capture.ts';
import { createCapture } from '../../src/capture/create.ts';
import { LoggedCapture } from '../../src/capture/kernel-log/capture.ts';
import { StampClock } from '../../src/capture/kernel-log/kmsg.ts';
import type { KernelMessageSource, MessageReading } from '../../src/capture/kernel-log/messages.ts';
import type { LogRecord } from '../../src/capture/kernel-log/record.ts';
import { Feed } from '../../src/feed/feed.ts';
import { helperMetrics } from '../../src/http/helper/metrics.ts';
import type { Flow, Observation } from '../../src/model/feed.ts';
import { parseMetrics } from './metrics-text.ts';

const VIP = { vip: '10.105.148.194', vport: 10000 };
const NGINX = '10.244.0.70';
const POD = '10.244.0.64';

/** As captured (test/fixtures/kernel-log), with another port. */
function syn(sport: number, dst = POD): string {
  return `backend-service: IN= OUT=cni0 PHYSIN=veth1 PHYSOUT=veth2 SRC=${NGINX} DST=${dst} LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=4014 DF PROTO=TCP SPT=${sport} DPT=10000 WINDOW=64240 RES=0x00 SYN URGP=0 `;
}

class World {
  /** A subscription takes 50 ms. */
  now = 950;
  monotonic = 0;
  readonly batches: { observations: Observation[]; watermark: number }[] = [];
  /** What the next reading brings. */
  next: Partial<MessageReading> = {};
  failure: Error | undefined;
  /** Connections in conntrack. */
  readonly flows: Required<Flow>[] = [];
  clockSets = 0;
  /** What happens before conntrack is asked again. */
  whileWaiting: () => void = () => {};
  inner!: CaptureSink;
  readonly capture: LoggedCapture;

  constructor() {
    const source: KernelMessageSource = {
      watch() {},
      read: async () => {
        if (this.failure) throw this.failure;
        const reading = {
          messages: [],
          lost: 0,
          incomplete: false,
          notKernel: 0,
          unknownLayout: 0,
          completeUntil: this.now,
          ...this.next,
        };
        this.next = {};
        return reading;
      },
      clockSet: () => {
        this.clockSets++;
      },
      close() {},
    };
    const others = (sink: CaptureSink) => {
      this.inner = sink;
      return {
        start: async () => {},
        subscribe: async (): Promise<Subscription> => ({ flows: [], completeSince: {} }),
        unsubscribe() {},
        flush: async () => sink.batch([], this.now),
        close: async () => {},
      } as unknown as Capture;
    };
    const find = (record: LogRecord, side: 'answers' | 'dialled') =>
      this.flows.find((flow) => {
        const [ip, port] = side === 'answers' ? [flow.ip, flow.port] : [flow.vip, flow.vport];
        return (
          flow.src === record.src && flow.sport === record.sport && ip === record.dst && port === record.dport
        );
      });
    this.capture = new LoggedCapture(
      others,
      {
        open: async () => ({
          source,
          answeredBy: async (record) => find(record, 'answers'),
          isVip: async (record) => find(record, 'dialled') !== undefined,
        }),
        clock: {
          wall: () => this.now,
          monotonic: () => this.monotonic,
          wait: async (ms) => {
            this.now += ms;
            this.monotonic += ms;
            this.whileWaiting();
          },
        },
        log() {},
      },
      { batch: (observations, watermark) => this.batches.push({ observations, watermark }) },
    );
  }

  static async open(): Promise<World> {
    const world = new World();
    await world.capture.start();
    await world.capture.subscribe([NGINX]);
    return world;
  }

  connect(sport: number, ip = POD): void {
    this.flows.push({ src: NGINX, sport, ...VIP, ip, port: 10000 });
  }

  /** Lets time pass, and reads these messages. */
  async read(texts: string[], more: Partial<MessageReading> = {}): Promise<Observation[]> {
    this.now += 10;
    this.monotonic += 10;
    this.next = { messages: texts.map((text) => ({ text, t: this.now - 1 })), ...more };
    const from = this.batches.length;
    await this.capture.flush();
    return this.batches.slice(from).flatMap(({ observations }) => observations);
  }
}

test('a record after DNAT is told with what was dialled, and once', async () => {
  const world = await World.open();
  world.connect(33454);
  const told = await world.read([syn(33454), syn(33454), 'veth1: left promiscuous mode']);
  assert.deepEqual(told, [
    { kind: 'open', t: 1009, src: NGINX, sport: 33454, ...VIP, ip: POD, port: 10000, via: 'kernel-log' },
  ]);
  const { opened, repeated, notRecords } = world.capture.kernelLog;
  assert.deepEqual({ opened, repeated, notRecords }, { opened: 1, repeated: 1, notRecords: 1 });
});

test('a subscription is complete from the time of its answer, not from a later one', async () => {
  const world = await World.open();
  const { completeSince } = await world.capture.subscribe([NGINX]);
  // A reader refuses records of the future.
  assert.equal(completeSince['kernel-log'], world.now);
});

test('the metrics count every message of the kernel log by what became of it', async () => {
  const world = await World.open();
  world.connect(33454);
  const texts = [syn(33454), syn(33454), syn(33454, VIP.vip), 'veth1: left promiscuous mode'];
  await world.read(texts, { lost: 3, incomplete: true });
  const { kernelLog } = world.capture;
  const { stats: capture } = createCapture({ ...CAPTURE_DEFAULTS, log() {} }, { batch() {} });
  const routes = { cutOff: 0, refused: 0 };
  const feed = new Feed(() => 0);
  const cluster = { names: undefined, reviewer: undefined };
  const refusals = { connections: 0, requests: 0, hosts: 0 };
  const metrics = helperMetrics({ capture, kernelLog, feed, routes, refusals, cluster, clock: () => 0 });
  const read = parseMetrics(metrics.text());
  const value = (name: string, label?: string) =>
    read.get(name)!.samples.find(({ labels }) => label === undefined || Object.values(labels).includes(label))
      ?.value;
  assert.deepEqual(
    {
      messages: value('realpod_helper_events_total', 'kernel-log'),
      records: value('realpod_helper_records_total', 'kernel-log'),
      notRecords: value('realpod_helper_unused_total', 'kernel-log-not-a-record'),
      repeated: value('realpod_helper_unused_total', 'kernel-log-repeated'),
      beforeDnat: value('realpod_helper_unused_total', 'kernel-log-before-dnat'),
      lost: value('realpod_helper_kernel_log_lost_total'),
      gaps: value('realpod_helper_gaps_total'),
    },
    { messages: 4, records: 1, notRecords: 1, repeated: 1, beforeDnat: 1, lost: 3, gaps: 1 },
  );
});

test('a record before DNAT tells nothing', async () => {
  const world = await World.open();
  world.connect(33454);
  assert.deepEqual(await world.read([syn(33454, VIP.vip)]), []);
  assert.equal(world.capture.kernelLog.beforeDnat, 1);
});

test('a connection that conntrack does not know is told without the dialled address', async () => {
  const world = await World.open();
  const told = await world.read([syn(33454)]);
  assert.deepEqual(told, [
    { kind: 'open', t: 1009, src: NGINX, sport: 33454, ip: POD, port: 10000, via: 'kernel-log' },
  ]);
});

test('a record that comes before its connection is in conntrack is asked for again', async () => {
  const world = await World.open();
  world.whileWaiting = () => world.connect(33454);
  const [open] = await world.read([syn(33454)]);
  assert.ok(open?.kind === 'open' && open.vip === VIP.vip);
});

test('records of addresses that nobody has subscribed are left out', async () => {
  const world = await World.open();
  world.connect(33454);
  world.capture.unsubscribe([NGINX]);
  assert.deepEqual(await world.read([syn(33454)]), []);
});

test('lost messages become a gap that says how many, since the last reading', async () => {
  const world = await World.open();
  await world.read([]);
  const told = await world.read([], { lost: 7, incomplete: true });
  assert.deepEqual(told, [{ kind: 'gap', source: 'kernel-log', t: 1020, from: 1010, lost: 7 }]);
});

test('the watermark is that of the slower of the sources', async () => {
  const world = await World.open();
  await world.read([], { completeUntil: 1004 });
  assert.equal(world.batches[0]!.watermark, 1004);
  await world.read([]);
  assert.equal(world.batches.at(-1)!.watermark, 1020);
});

test('observations of other sources are passed on in order', async () => {
  const world = await World.open();
  const tick: Observation = { kind: 'gap', source: 'tap', t: 1 };
  world.inner.batch([tick], 990);
  const told = await world.read([]);
  assert.deepEqual(told, [tick]);
});

test('a log that cannot be read any more leaves a gap up to every watermark', async () => {
  const world = await World.open();
  world.failure = new Error('cannot read the kernel log');
  for (let i = 0; i < 2; i++) {
    const told = await world.read([]);
    assert.ok(told.length > 0 && told.every(({ kind }) => kind === 'gap'));
  }
});

test('when the wall clock is set, everything before is void', async () => {
  const world = await World.open();
  await world.read([]);
  world.now -= 5000;
  const [gap] = await world.read([]);
  assert.deepEqual(gap, { kind: 'gap', source: 'kernel-log', t: -3980 });
  assert.equal(world.clockSets, 1);
  assert.equal(world.batches.at(-1)!.watermark, -3980);
});

test('kernel stamps become wall times that are never early and follow a drift', () => {
  const stamps = new StampClock();
  // The kernel's clock began at 5000 and loses 1 ms in ten minutes; reading is late by 0 to 40 ms.
  for (let minute = 0; minute < 600; minute++) {
    for (let i = 0; i < 10; i++) {
      const happened = 5000 + minute * 60_000 + i * 6_000;
      const stamp = happened - 5000 - (happened - 5000) / 600_000;
      const readAt = happened + ((i * 13) % 41);
      const t = stamps.wallTime(stamp, readAt);
      assert.ok(t >= happened && t <= readAt, `minute ${minute}: ${t - happened}`);
      if (minute > 0) assert.ok(t - happened <= 2, `minute ${minute}: ${t - happened} ms late`);
    }
  }
});
