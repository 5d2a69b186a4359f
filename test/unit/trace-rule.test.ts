import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DEFAULT_LIMITS } from '../../src/join/index/limits.ts';
import { placeOf } from '../../src/join/index/traced-lines.ts';
import { PendingBlocks } from '../../src/join/pending.ts';
import type { Observation, TracedAttempt } from '../../src/model/feed.ts';
import type { Attempt } from '../../src/model/line.ts';
import { isResolved } from '../../src/model/outcome.ts';
import { lineOf, NGINX, T0, VIP, Wire } from '../model/wire.ts';

const SOURCES = ['conntrack', 'tap', 'trace'] as const;
const ADDRESS = `${VIP}:80`;
const INO = '4711';

/** Two pods, so that nothing but the port tells them apart. */
const wire = () => new Wire(undefined, SOURCES).open(1, 1, -50_000).open(2, 2, -50_000);

/** Lines of a log that begins at byte 0, each with the ends of its addresses; what the join says of each attempt. */
class Log {
  readonly wire: Wire;
  #size = 0;
  readonly #blocks: PendingBlocks<undefined>;

  constructor(wire: Wire) {
    this.wire = wire;
    this.#blocks = new PendingBlocks(wire.index, { maxWaitMs: 2_000, maxBytes: 1e6 });
  }

  /** nginx writes `line` at the ports; `offset`: where the file ended then. */
  traced(
    line: string,
    attempts: readonly TracedAttempt[] | undefined,
    more: Partial<Observation & { states: number; offset: number; t: number }> = {},
  ): this {
    const bytes = Buffer.from(`${line}\n`);
    const { length, check } = placeOf(bytes, 0, bytes.length, INO, 0);
    const base = {
      kind: 'line',
      src: NGINX,
      via: 'trace',
      ino: INO,
      offset: this.#size,
      length,
      check,
    } as const;
    const used = attempts === undefined ? {} : { attempts };
    this.wire.apply({ ...base, t: T0, states: attempts?.length ?? 1, ...used, ...more } as Observation);
    return this;
  }

  says(line: string, readAt = 10, at = true): string[] {
    const bytes = Buffer.from(`${line}\n`);
    const attempts: Partial<Attempt>[] = [];
    for (const { index } of line.matchAll(new RegExp(ADDRESS, 'g')))
      attempts.push({ start: index, end: index + ADDRESS.length });
    const place = at ? { ino: INO, offset: this.#size } : undefined;
    this.#size += bytes.length;
    const lines = [{ start: 0, end: bytes.length - 1, parsed: lineOf(undefined, { attempts }) }];
    this.#blocks.push(bytes, T0 + readAt, lines, undefined, place);
    this.wire.tick(readAt);
    return this.#blocks
      .take(T0 + readAt + 5_000)
      .flatMap(({ outcomes }) => outcomes.flat())
      .map((outcome) =>
        isResolved(outcome) ? `${outcome.ip.split('.')[3]} ${outcome.evidence}` : outcome.reason,
      );
  }
}

const used = (state: number, sport: number, at = 0): TracedAttempt => [state, sport, VIP, 80, T0 + at];

test('a line without anything of use has the pod behind the port that nginx used', () => {
  const log = new Log(wire()).traced(`x ${ADDRESS} y`, [used(0, 2)]);
  assert.deepEqual(log.says(`x ${ADDRESS} y`), ['2 source-port']);
  assert.deepEqual(log.says(`x ${ADDRESS} y`, 20), ['ambiguous'], 'one record is one line’s');
});

test('without a place in the file, or with other bytes, the trace says nothing', () => {
  assert.deepEqual(new Log(wire()).traced(`x ${ADDRESS} y`, [used(0, 2)]).says(`x ${ADDRESS} y`, 10, false), [
    'ambiguous',
  ]);
  assert.deepEqual(new Log(wire()).traced(`x ${ADDRESS} y`, [used(0, 2)]).says(`x ${ADDRESS} z`), [
    'ambiguous',
  ]);
});

test('each attempt has its own port, also behind an internal redirect; one that wrote nothing has none', () => {
  const line = `${ADDRESS}, ${ADDRESS} : ${ADDRESS} end`;
  const log = new Log(wire()).traced(line, [used(0, 2), used(3, 1)], { states: 4 });
  assert.deepEqual(log.says(line), ['2 source-port', 'ambiguous', '1 source-port']);
});

test('nothing is named by a record that contradicts the line', () => {
  const line = `${ADDRESS} end`;
  const says = (...args: Parameters<Log['traced']> extends [string, ...infer Rest] ? Rest : never) =>
    new Log(wire()).traced(line, ...args).says(line);
  assert.deepEqual(says([used(0, 2)], { states: 2 }), ['ambiguous'], 'another number of attempts');
  assert.deepEqual(says([[0, 2, VIP, 81, T0]], { states: 1 }), ['ambiguous'], 'another port of the Service');
  assert.deepEqual(says([[0, 2, '10.105.148.195', 80, T0]], { states: 1 }), ['ambiguous'], 'another address');
  assert.deepEqual(says([used(1, 2)], { states: 1 }), ['ambiguous'], 'another attempt');
  assert.deepEqual(says(undefined), ['ambiguous'], 'nginx’s memory was not clear');
  assert.deepEqual(says([used(0, 3)]), ['ambiguous'], 'a port without a connection');
});

test('a colon behind the last address is no redirect', () => {
  const line = `${ADDRESS} : end`;
  assert.deepEqual(new Log(wire()).traced(line, [used(0, 2)]).says(line), ['2 source-port']);
});

test('two workers that wrote equal lines at once: named where both used one pod', () => {
  const line = `${ADDRESS} end`;
  const apart = new Log(wire()).traced(line, [used(0, 1)]).traced(line, [used(0, 2)]);
  assert.deepEqual(apart.says(line), ['ambiguous']);
  assert.deepEqual(apart.says(line, 20), ['ambiguous'], 'the other record is as likely the first line’s');
  const together = new Log(wire().open(3, 2, -50_000)).traced(line, [used(0, 3)]).traced(line, [used(0, 2)]);
  assert.deepEqual(together.says(line), ['2 source-port']);
  assert.deepEqual(together.says(line, 20), ['2 source-port']);
});

test('a port that comes round: the connection that was open when nginx wrote', () => {
  const line = `${ADDRESS} end`;
  const again = () =>
    wire().tick(-1_100).close(2, 2, -1_000).tick(-900).tick(-500).open(2, 3, -400).tick(-300);
  assert.deepEqual(new Log(again()).traced(line, [used(0, 2, -100)]).says(line), ['3 source-port']);
  assert.deepEqual(new Log(again()).traced(line, [used(0, 2, -2_000)]).says(line), ['2 source-port']);
  // Its opening was read late: by the record the one before may have lasted until then.
  const late = wire().tick(-1_100).close(2, 2, -1_000).tick(-900).open(2, 3, 5);
  assert.deepEqual(new Log(late).traced(line, [used(0, 2, -100)]).says(line), ['3 source-port']);
});

test('a port that comes round within moments: by the kernel’s own times', () => {
  const line = `${ADDRESS} end`;
  const exact = { kernelTime: true } as const;
  // Everything was read together at 6, so that the closing of the first is known to be before that.
  const read = () =>
    new Wire(undefined, SOURCES)
      .open(1, 1, -50_000)
      .tick(-5)
      .open(2, 2, -4, exact)
      .close(2, 2, 5)
      .open(2, 3, 4, exact);
  const says = (at: number) => new Log(read()).traced(line, [used(0, 2, at)]).says(line);
  assert.deepEqual(says(-3), ['2 source-port'], 'the second was not open yet');
  assert.deepEqual(says(3.9), ['2 source-port']);
  assert.deepEqual(says(4.1), ['3 source-port'], 'the first was over when the second was opened');
  assert.deepEqual(says(4), ['ambiguous'], 'no clock is read that exactly');
  const bound = new Wire(undefined, SOURCES)
    .open(1, 1, -50_000)
    .tick(-5)
    .open(2, 2, -4)
    .close(2, 2, 5)
    .open(2, 3, 5);
  assert.deepEqual(
    new Log(bound).traced(line, [used(0, 2, 3)]).says(line),
    ['ambiguous'],
    'bounds are no times',
  );
});

test('nothing is named across a gap of the trace or of conntrack, nor within a second after one of the trace', () => {
  const line = `${ADDRESS} end`;
  const says = (source: 'trace' | 'conntrack', at: number, t = 0) =>
    new Log(wire().gap(source, at, at - 5)).traced(line, [used(0, 2, t)], { t: T0 + t }).says(line, t + 10);
  assert.deepEqual(says('trace', 2), ['ambiguous']);
  assert.deepEqual(says('trace', -990), ['ambiguous']);
  assert.deepEqual(says('trace', -1_010), ['2 source-port']);
  assert.deepEqual(says('conntrack', 2), ['gap']);
});

test('without the source nothing is computed of a line', () => {
  const log = new Log(wire());
  log.says(`${ADDRESS} end`);
  assert.equal(log.wire.index.traced.active, false);
});

test('nothing is named within a second after a record that was forgotten', () => {
  const line = `${ADDRESS} end`;
  const says = (t: number) => {
    const log = new Log(wire())
      .traced('another', [], { t: T0 - 200_000 })
      .traced('another', [], { t: T0 - t });
    log.wire.index.traced.forgottenUntil = T0 - t;
    return log.traced(line, [used(0, 2)]).says(line);
  };
  assert.deepEqual(says(1_001), ['2 source-port']);
  assert.deepEqual(says(1_000), ['ambiguous']);
});

test('a connection that was closed before nginx wrote may be forgotten, one that may have been open may not', () => {
  const forgetful = () =>
    new Wire({ ...DEFAULT_LIMITS, connections: 2 }, SOURCES)
      .open(9, 1, -50_000)
      .open(1, 1, -40_000)
      .close(9, 1, -20)
      .open(2, 2, -18);
  const line = `x ${ADDRESS} y`;
  assert.deepEqual(new Log(forgetful()).traced(line, [used(0, 2, -10)]).says(line), ['2 source-port']);
  assert.deepEqual(new Log(forgetful()).traced(line, [used(0, 2, -16)]).says(line), ['gap']);
});
