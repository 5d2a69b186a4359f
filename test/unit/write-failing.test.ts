/** What the sink does with an output that fails: tries again, gives it up, or ends without it. */
import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { beginning } from '../../src/follow/position.ts';
import type { Output } from '../../src/write/output.ts';
import { Sink, type SinkStats } from '../../src/write/sink.ts';

const T0 = 1_764_837_843_000;
let notices: string[];

beforeEach(() => {
  notices = [];
});

/** An output that fails with these codes, one after another, and then takes what it is given in pieces of 3 bytes. `ok`: takes one of them. */
class Failing {
  readonly name: string;
  readonly taken: string[] = [];
  readonly #codes: string[];
  closed = false;

  constructor(name: string, ...codes: string[]) {
    this.name = name;
    this.#codes = codes;
  }

  async put(chunks: readonly Buffer[]): Promise<number> {
    const code = this.#codes.shift();
    if (code !== undefined && code !== 'ok') throw Object.assign(new Error(code), { code });
    const piece = Buffer.concat(chunks).subarray(0, 3);
    this.taken.push(piece.toString());
    return piece.length;
  }

  mark(): undefined {}

  close(): void {
    this.closed = true;
  }
}

function failing(outputs: Failing[]) {
  const waits: number[] = [];
  const stats = { bytes: 0, writes: 0, retries: 0, stalled: 0 } as SinkStats;
  const sink = new Sink(
    {
      outputs: [],
      log: '/none/access.log',
      clock: () => T0,
      onNotice: (level, text) => notices.push(`${level}: ${text}`),
      delay: async (ms) => void waits.push(ms),
    },
    outputs as unknown as Output[],
    { source: beginning(T0), feed: undefined },
    stats,
  );
  return { sink, waits, stats };
}

test('what an output takes in part is given to it from there, to the byte', async () => {
  const output = new Failing('a');
  const { sink } = failing([output]);
  await sink.write([Buffer.from('ab'), Buffer.from('cdef'), Buffer.from('g')]);
  assert.deepEqual(output.taken, ['abc', 'def', 'g']);
  await sink.close();
  assert.equal(output.closed, true);
});

test('a write that fails is tried again after 100 ms, twice as long each time, and from 100 ms after one that went', async () => {
  const { sink, waits, stats } = failing([new Failing('a', ...'EIO EIO ENOSPC ok EIO EIO'.split(' '))]);
  await sink.write([Buffer.from('abcdefg')]);
  assert.deepEqual(waits, [100, 200, 400, 100, 200]);
  assert.deepEqual([stats.retries, stats.stalled], [5, 0]);
  assert.match(notices[0]!, /^warn: a: .*\(EIO\).*nothing is lost/);
  assert.match(notices[1]!, /^info: a: /);
  assert.deepEqual(
    notices.map((text) => text.slice(0, 4)),
    ['warn', 'info', 'info'],
    'a failure once a minute, its end each time',
  );
});

test('what helps is named by the error', async () => {
  for (const [code, remedy] of [
    ['ENOSPC', /free space/i],
    ['EDQUOT', /free space/i],
    ['EROFS', /mount/i],
    ['EIO', /^(?!.*(?:free space|mount)).*volume/i],
  ] as const) {
    notices = [];
    await failing([new Failing('a', code)]).sink.write([Buffer.from('x')]);
    assert.match(notices[0]!.slice(notices[0]!.indexOf(`(${code})`)), remedy, code);
  }
});

test('a full pipe is no failure: it is given the rest every 5 ms', async () => {
  const { sink, waits, stats } = failing([new Failing('a', 'EAGAIN', 'EAGAIN')]);
  await sink.write([Buffer.from('x')]);
  assert.deepEqual([waits, stats.retries, stats.stalled, notices], [[5, 5], 0, 0, []]);
});

test('an output without a reader is given up, the others go on, and the last one is missed', async () => {
  const outputs = [new Failing('a', 'EPIPE'), new Failing('b'), new Failing('c')];
  const { sink } = failing(outputs);
  await sink.write([Buffer.from('x')]);
  assert.deepEqual(notices, ['error: a: its reader is gone; going on with b, c']);
  await sink.write([Buffer.from('y')]);
  assert.deepEqual(
    outputs.map(({ taken }) => taken.join('')),
    ['', 'xy', 'xy'],
  );
  const alone = failing([new Failing('a', 'EPIPE')]);
  await assert.rejects(alone.sink.write([Buffer.from('x')]), {
    code: 'EPIPE',
    message: 'a: its reader is gone, and there is no other output',
  });
});

test('an output that hangs in the kernel delays the end by two seconds, and that is said', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const output = new Failing('a');
  output.put = () => new Promise(() => {});
  const { sink } = failing([output]);
  void sink.write([Buffer.from('x')]);
  const closed = sink.close();
  context.mock.timers.tick(1_999);
  assert.deepEqual(notices, []);
  context.mock.timers.tick(1);
  await closed;
  assert.deepEqual(notices, ['warn: an output is blocked; closing without flushing it']);
  assert.equal(output.closed, false);
});

test('an end that waited for nothing leaves no timer behind', async () => {
  const timers = (): number => process.getActiveResourcesInfo().filter((each) => each === 'Timeout').length;
  const before = timers();
  const { sink } = failing([new Failing('a')]);
  await sink.close();
  assert.equal(timers(), before);
});
