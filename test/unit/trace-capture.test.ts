import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Capture, CaptureSink, Subscription } from '../../src/capture/capture.ts';
import { TracedCapture } from '../../src/capture/trace/capture.ts';
import { parseTracedLine } from '../../src/capture/trace/line.ts';
import type { Loader, LoaderCounts, LoaderParts } from '../../src/capture/trace/loader.ts';
import { localAddresses, type RunningBinary } from '../../src/capture/trace/processes.ts';
import type { Observation } from '../../src/model/feed.ts';
import { executable } from './nginx-executable.ts';

const NGINX = '10.244.0.70';
/** As the loader writes it. */
const LINE = `line 1764837843001.250 4711 86 90 305419896 1 0 ${NGINX} 0 33454 10.105.148.194 10000 1764837843000.500`;

test('what the loader says of a line is its record', () => {
  assert.deepEqual(parseTracedLine(LINE), {
    kind: 'line',
    t: 1764837843001.25,
    src: NGINX,
    via: 'trace',
    ino: '4711',
    offset: 86,
    length: 90,
    check: 305419896,
    states: 1,
    attempts: [[0, 33454, '10.105.148.194', 10000, 1764837843000.5]],
  });
  const unclear = parseTracedLine(LINE.replace(` 1 0 ${NGINX}`, ` 1 1 ${NGINX}`));
  assert.equal(unclear?.attempts, undefined);
  const six = parseTracedLine('line 1 2 3 4 5 1 0 fd00::1 0 6 fd00::2 80 7');
  assert.deepEqual(six?.attempts, [[0, 6, 'fd00::2', 80, 7]]);
  for (const bad of [
    '',
    'line',
    LINE.slice(5),
    `${LINE} 1`,
    LINE.replace(NGINX, 'x'),
    LINE.replace('4711', '-1'),
    LINE.replace('86', 'x'),
  ])
    assert.equal(parseTracedLine(bad), undefined, bad);
});

test('a namespace’s own addresses, as the kernel lists them', () => {
  const trie = `Local:
  +-- 0.0.0.0/0 3 0 5
     |-- 10.244.0.0
        /24 link UNICAST
     |-- 10.244.0.70
        /32 host LOCAL
     |-- 10.244.0.255
        /32 link BROADCAST
     |-- 127.0.0.0
        /8 host LOCAL
`;
  const six =
    'fd0010244000000000000000000070ff 04 40 00 82     eth0\n00000000000000000000000000000001 01 80 10 80       lo\n';
  assert.deepEqual(
    localAddresses(trie, six),
    ['10.244.0.70', 'fd00:1024:4000:0:0:0:0:70ff']
      .map((each) => each.replace(':0:0:0:0:', '::'))
      .concat('::1'),
  );
  assert.deepEqual(localAddresses('', ''), []);
});

/** A loader and other sources by hand. */
class World {
  now = 1_000;
  parts!: LoaderParts;
  starts = 0;
  counts: LoaderCounts = { lost: 0, contradicted: 0, unexpected: 0, lines: 0 };
  /** Called at each sync, before its answer. */
  whileSyncing: () => void = () => {};
  binaries: RunningBinary[] = [];
  file = Buffer.alloc(0);
  /** Of an attempt to attach. */
  failure: string | undefined;
  readonly said: string[] = [];
  readonly batches: { observations: Observation[]; watermark: number }[] = [];
  inner!: CaptureSink;
  readonly capture: TracedCapture;

  constructor() {
    const loader: Loader = {
      watch: (change, { namespace, address }) => this.said.push(`${change} ${namespace} ${address}`),
      attach: async (id) => {
        this.said.push(`attach ${id}`);
        return this.failure;
      },
      detach: (id) => this.said.push(`detach ${id}`),
      sync: async () => {
        await undefined;
        this.whileSyncing();
        return { ...this.counts };
      },
      close: () => this.said.push('close'),
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
    this.capture = new TracedCapture(
      others,
      {
        start: async (parts) => {
          this.starts++;
          this.parts = parts;
          return loader;
        },
        find: (addresses) => ({
          binaries: addresses.size > 0 ? this.binaries : [],
          places: [...addresses].map((address) => ({ namespace: '9', address })),
        }),
        read: () => this.file,
        clock: { wall: () => this.now },
        log: (level, message) => this.said.push(`${level}: ${message}`),
      },
      { batch: (observations, watermark) => this.batches.push({ observations, watermark }) },
    );
  }

  async begin(): Promise<this> {
    await this.capture.start();
    const { completeSince } = await this.capture.subscribe([NGINX]);
    assert.equal(completeSince.trace, 1_000);
    // Places that are new have a gap.
    await this.capture.flush();
    this.batches.length = 0;
    return this;
  }

  /** The gaps of the trace in the batches so far, and forgets those. */
  gaps(): Observation[] {
    return this.batches
      .splice(0)
      .flatMap(({ observations }) => observations.filter(({ kind }) => kind === 'gap'));
  }
}

test('where the program or another source cannot start, neither stays', async () => {
  const closed: string[] = [];
  const make = (program: boolean, source: boolean): TracedCapture =>
    new TracedCapture(
      () =>
        ({
          start: async () => {
            if (!source) throw new Error('no source');
          },
          close: async () => void closed.push('source'),
        }) as unknown as Capture,
      {
        start: async () => {
          if (!program) throw new Error('no program');
          return { close: () => void closed.push('program') } as unknown as Loader;
        },
        find: () => ({ binaries: [], places: [] }),
        read: () => Buffer.alloc(0),
        clock: { wall: () => 0 },
        log() {},
      },
      { batch() {} },
    );
  await assert.rejects(make(false, true).start(), /no program/);
  await assert.rejects(make(true, false).start(), /no source/);
  assert.deepEqual(closed, ['source', 'program']);
});

test('a watermark goes on when all lines up to it are there', async () => {
  const world = await new World().begin();
  world.now = 1_100;
  world.whileSyncing = () => {
    world.parts.onLine(LINE);
    // Of a later reading: what the loader says now may not be all of it.
    world.whileSyncing = () => {};
    world.inner.batch([], 1_150);
  };
  await world.capture.flush();
  assert.deepEqual(
    world.batches.map(({ observations, watermark }) => [observations.map(({ kind }) => kind), watermark]),
    [
      [['line'], 1_100],
      [[], 1_150],
    ],
  );
  await world.capture.close();
});

test('a line of an address that nobody subscribed is left out', async () => {
  const world = await new World().begin();
  world.whileSyncing = () => world.parts.onLine(LINE.replace(NGINX, '10.244.0.71'));
  await world.capture.flush();
  assert.deepEqual(
    world.batches.flatMap(({ observations }) => observations),
    [],
  );
  await world.capture.close();
});

test('what was lost, contradicted or not understood since the last watermark is a gap', async () => {
  const world = await new World().begin();
  const gap = { kind: 'gap', source: 'trace', t: 1_200, from: 1_000 };
  world.now = 1_200;
  world.counts = { ...world.counts, lost: 3 };
  await world.capture.flush();
  assert.deepEqual(world.gaps(), [{ ...gap, lost: 3 }]);
  await world.capture.flush();
  assert.deepEqual(world.gaps(), [], 'once');
  world.counts = { ...world.counts, contradicted: 1 };
  await world.capture.flush();
  assert.deepEqual(world.gaps(), [{ ...gap, from: 1_200 }]);
  world.whileSyncing = () => {
    world.parts.onLine('line nonsense');
    world.whileSyncing = () => {};
  };
  await world.capture.flush();
  assert.deepEqual(world.gaps(), [{ ...gap, from: 1_200, lost: 1 }]);
  assert.deepEqual(
    [world.capture.trace.lost, world.capture.trace.contradicted, world.capture.trace.malformed],
    [3, 1, 1],
  );
  await world.capture.close();
});

test('while the loader is gone there is a gap, and it is started again', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
  const world = await new World().begin();
  world.now = 1_300;
  world.parts.onEnd('it ended with SIGKILL');
  await world.capture.flush();
  assert.deepEqual(world.gaps(), [{ kind: 'gap', source: 'trace', t: 1_300, from: 1_000 }]);
  world.now = 1_400;
  await world.capture.flush();
  assert.deepEqual(world.gaps(), [{ kind: 'gap', source: 'trace', t: 1_400, from: 1_300 }]);
  assert.equal(world.starts, 1);
  context.mock.timers.tick(200);
  for (let i = 0; i < 20; i++) await Promise.resolve();
  assert.equal(world.starts, 2);
  assert.equal(
    world.said.filter((text) => text === `add 9 ${NGINX}`).length,
    2,
    'it knows nothing of the one before',
  );
  world.now = 1_500;
  await world.capture.flush();
  const [last] = world.gaps();
  assert.equal(last?.kind, 'gap');
  await world.capture.flush();
  assert.deepEqual(world.gaps(), []);
  await world.capture.close();
});

test('an executable that is no nginx of a known kind is left alone, once', async () => {
  const world = await new World().begin();
  world.binaries = [
    { key: '1:2', path: '/proc/5/exe', named: '/usr/sbin/nginx (process 5)', addresses: new Set([NGINX]) },
  ];
  await world.capture.subscribe(['10.244.0.71']);
  await world.capture.subscribe(['10.244.0.72']);
  const about = world.said.filter((text) => text.includes('process 5'));
  assert.deepEqual(about, [
    'warn: /usr/sbin/nginx (process 5) is not traced: it is not nginx, or does not say which version',
  ]);
  assert.ok(!world.said.some((text) => text.startsWith('attach')));
  await world.capture.close();
});

test('the sidecars beside an nginx that is left alone are told so, and again for those that come later', async () => {
  const world = await new World().begin();
  const addresses = new Set([NGINX, '10.244.0.99']);
  world.binaries = [{ key: '1:2', path: '/proc/5/exe', named: 'nginx (process 5)', addresses }];
  world.file = executable({ version: 'Angie/1.8.0' });
  const told = async (now: number): Promise<Observation[]> => {
    world.now = now;
    world.batches.length = 0;
    // Looks for processes, as it does each second.
    world.capture.unsubscribe(['10.244.0.71']);
    await world.capture.subscribe([NGINX]);
    await world.capture.flush();
    return world.batches.flatMap(({ observations }) =>
      observations.filter(({ kind }) => kind === 'untraced'),
    );
  };
  const why = 'it is Angie 1.8.0, which was never tried';
  assert.deepEqual(await told(2_000), [{ kind: 'untraced', t: 2_000, src: NGINX, via: 'trace', why }]);
  assert.deepEqual(await told(61_999), []);
  assert.equal((await told(62_000)).length, 1);
  world.binaries = [];
  assert.deepEqual(await told(200_000), []);
  await world.capture.close();
});

test('a process that ends before it can be attached to is not the executable’s end', async () => {
  const world = await new World().begin();
  world.binaries = [
    { key: '1:2', path: '/proc/5/exe', named: 'nginx (process 5)', addresses: new Set([NGINX]) },
  ];
  world.file = executable();
  world.failure = 'No such file or directory';
  await world.capture.subscribe(['10.244.0.71']);
  await world.capture.subscribe(['10.244.0.72']);
  world.failure = undefined;
  await world.capture.subscribe(['10.244.0.73']);
  await world.capture.subscribe(['10.244.0.74']);
  assert.deepEqual(
    world.said.filter((text) => /attach|process 5/.test(text)),
    [
      'attach 1',
      'warn: nginx (process 5) cannot be traced yet: No such file or directory',
      'attach 2',
      'attach 3',
      'info: nginx (process 5), nginx 1.22.1, is traced',
    ],
  );
  await world.capture.close();
});

test('an address that is not subscribed any more is not watched any more', async () => {
  const world = await new World().begin();
  world.capture.unsubscribe([NGINX]);
  for (let i = 0; i < 20; i++) await Promise.resolve();
  assert.equal(world.said.at(-1), `remove 9 ${NGINX}`);
  await world.capture.close();
});
