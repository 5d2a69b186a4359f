/** The rule `only-answer`: what lines that say nothing can have had. `test/model/only-answer.test.ts` plays whole worlds. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { matchLine, settleLine } from '../../src/join/match.ts';
import type { Compared, ContentHashes } from '../../src/model/content.ts';
import type { ParsedLine } from '../../src/model/line.ts';
import { isResolved } from '../../src/model/outcome.ts';
import { lineOf, podIp, type RequestExtra, T0, VIP, Wire } from '../model/wire.ts';

/** As nginx's default format says it, with the upstream's address: whole seconds, and the status that the client got. */
function plain(
  end: number,
  more: { status?: number; upstreamStatus?: number; attempts?: number } = {},
): ParsedLine {
  const attempt = { status: more.upstreamStatus, connectMs: undefined };
  return {
    ...lineOf(undefined, { attempts: Array.from({ length: more.attempts ?? 1 }, () => attempt) }),
    endMs: T0 + Math.floor(end / 1000) * 1000,
    endStepMs: 1000,
    status: more.status ?? 200,
  };
}

class Traffic extends Wire {
  #sport = 40_000;

  constructor(compared?: Compared) {
    super(undefined, undefined, compared);
    this.quiet(-1);
    // Two pods: no other rule names a line.
    this.kept(1, -500_000).kept(2, -500_000);
  }

  /** A connection that stays open and has long been answered. */
  kept(pod: number, at: number): this {
    return this.open(++this.#sport, pod, at).request(this.#sport, pod, at);
  }

  quiet(before: number, after = before + 1): this {
    this.index.quiet.add({ before: T0 + before, after: T0 + after });
    return this;
  }

  /** A request on a connection of its own, answered at `at`. */
  answer(pod: number, at: number, closes = true, request: RequestExtra = {}): this {
    this.open(++this.#sport, pod, at - 2)
      .request(this.#sport, pod, at - 1, request)
      .response(this.#sport, pod, at);
    if (closes) this.close(this.#sport, pod, at + 1);
    return this;
  }

  /** What a line that was read at `readAt` gets, and it spends its answer. */
  line(line: ParsedLine, readAt: number): string {
    this.tick(readAt);
    const match = matchLine(line, T0 + readAt, this.index);
    settleLine(match, this.index);
    const outcome = match.outcomes.at(-1)!;
    return isResolved(outcome) ? `${outcome.ip.split('.')[3]} ${outcome.evidence}` : outcome.reason;
  }
}

test('the pod of the only answer that has come is named, the first line after a quiet moment, too', () => {
  const traffic = new Traffic();
  assert.equal(traffic.answer(1, 10).line(plain(10), 11), '1 only-answer');
  assert.equal(traffic.answer(2, 20).line(plain(20), 21), '2 only-answer');
});

test('a line whose answer may have been on a connection to a pod’s own address is left alone', () => {
  const traffic = new Traffic();
  const of = [{ port: 8000, vip: VIP, vport: 80 }];
  traffic.apply({ kind: 'endpoint', t: T0 - 500_000, ip: podIp(3), of });
  traffic.open(30_000, 3, -400_000, { vip: podIp(3), vport: 8000 });
  assert.equal(traffic.answer(1, 10).line(plain(10), 11), 'ambiguous');
});

test('answers of two pods leave lines alone until all of them are spent', () => {
  const traffic = new Traffic().answer(1, 10).answer(2, 11);
  assert.equal(traffic.line(plain(12), 12), 'ambiguous');
  assert.equal(traffic.line(plain(12), 12), 'ambiguous');
  assert.equal(traffic.answer(2, 20).line(plain(20), 21), '2 only-answer');
});

test('an answer that came after the line was read is not its own', () => {
  const traffic = new Traffic().answer(1, 10).answer(2, 30);
  assert.equal(traffic.line(plain(10), 20), '1 only-answer');
});

test('an answer without a time of the kernel may have come at any time since the watermark', () => {
  const traffic = new Traffic().answer(1, 10).tick(15);
  traffic.open(50_000, 2, 16).request(50_000, 2, 16).response(50_000, 2, 30, false);
  assert.equal(traffic.line(plain(10), 20), 'ambiguous');
});

test('an answer that no line had stays until a quiet moment shows that it is over', () => {
  const traffic = new Traffic().answer(1, 10).answer(2, 500);
  assert.equal(traffic.line(plain(500), 501), 'ambiguous');
  assert.equal(traffic.answer(2, 1_500).line(plain(1_500), 1_501), 'ambiguous');
  traffic.quiet(1_990);
  assert.equal(traffic.answer(2, 2_500).line(plain(2_500), 2_501), '2 only-answer');
});

test('the answers that a quiet moment drops take the spent ones of their pod with them', () => {
  const traffic = new Traffic().answer(1, 10).answer(1, 20).answer(1, 30);
  assert.equal(traffic.line(plain(40), 41), '1 only-answer');
  // Its connection is open: it may still be read, so it stays.
  assert.equal(traffic.answer(2, 50, false).line(plain(60), 61), 'ambiguous');
  assert.equal(traffic.quiet(990).answer(1, 1_500).line(plain(1_500), 1_501), 'ambiguous');
});

test('an answer on a connection that is open and has carried nothing since may still be read', () => {
  const traffic = new Traffic().answer(1, 10, false).quiet(990);
  assert.equal(traffic.answer(2, 1_500).line(plain(1_500), 1_501), 'ambiguous');
});

test('where nginx goes on without its client, the answer to a copy is not taken for that of the line', () => {
  const traffic = new Traffic().open(50_000, 2, 9).answer(1, 20).request(50_000, 2, 21).quiet(990);
  // nginx writes the line when the copy is over: the client had its answer from pod 1.
  traffic.response(50_000, 2, 1_500).close(50_000, 2, 1_501);
  assert.equal(traffic.line(plain(1_500), 1_501), 'ambiguous');
  assert.equal(traffic.index.quiet.counters.refuted, 1);
  assert.equal(
    traffic.quiet(2_990).answer(1, 3_500).line(plain(3_500), 3_501),
    '1 only-answer',
    'later ones count',
  );
});

test('a request that began after the quiet moment, or was answered by then, says nothing against it', () => {
  const traffic = new Traffic()
    .open(50_000, 1, 9)
    .request(50_000, 1, 980)
    .response(50_000, 1, 985)
    .quiet(990);
  traffic.request(50_000, 1, 991).response(50_000, 1, 1_500);
  assert.equal(traffic.line(plain(1_500), 1_501), '1 only-answer');
  assert.equal(traffic.index.quiet.counters.refuted, 0);
});

test('a line that may be older than the quiet moment is left alone and spends nothing', () => {
  const traffic = new Traffic().quiet(1_200).answer(1, 1_300);
  assert.equal(traffic.line(plain(1_300), 1_301), '1 only-answer', 'the moment before it holds');
  const begun = new Traffic().answer(2, 100).quiet(1_200).answer(1, 2_300);
  assert.equal(begun.line(plain(2_300), 2_301), '1 only-answer');
  begun.answer(1, 2_400);
  assert.equal(begun.line(plain(900), 2_401), 'ambiguous');
  assert.equal(begun.line(plain(2_400), 2_402), '1 only-answer');
});

test('a line without an answer that it can have had voids its Service until twenty lines in a row had one', () => {
  const traffic = new Traffic();
  assert.equal(traffic.line(plain(5), 5), 'ambiguous');
  traffic.close(40_001, 1, 6).close(40_002, 2, 6);
  let now = 10_000;
  for (let i = 0; i <= 20; i++) {
    now += 1_000;
    traffic.quiet(now - 10).answer(1, now + 500);
    assert.equal(traffic.line(plain(now + 500), now + 501), 'ambiguous', `line ${i}`);
  }
  now += 1_000;
  assert.equal(traffic.answer(1, now).line(plain(now), now + 1), '1 only-answer');
});

test('a line that nginx may have answered itself is not named and spends nothing', () => {
  for (const status of [400, 408, 413, 499, 500, 502, 503, 504]) {
    const traffic = new Traffic().answer(1, 10);
    assert.equal(traffic.line(plain(11, { status }), 11), 'ambiguous', String(status));
    assert.equal(traffic.line(plain(12), 12), '1 only-answer', String(status));
  }
  const told = new Traffic().answer(1, 10);
  assert.equal(told.line(plain(11, { status: 200, upstreamStatus: 502 }), 11), 'ambiguous');
});

test('after an attempt that failed a status alone does not show an answer, until the next quiet moment', () => {
  const traffic = new Traffic().answer(1, 10).open(50_000, 2, 11).close(50_000, 2, 12);
  // As with error_page 502 =200.
  assert.equal(traffic.line(plain(12), 13), 'ambiguous');
  assert.equal(traffic.line(plain(13, { upstreamStatus: 200 }), 14), '1 only-answer');
  assert.equal(traffic.answer(1, 500).line(plain(500), 501), 'ambiguous');
  assert.equal(traffic.quiet(990).answer(1, 1_500).line(plain(1_500), 1_501), '1 only-answer');
  const unanswered = new Traffic()
    .answer(1, 10)
    .open(50_000, 2, 9)
    .request(50_000, 2, 9)
    .close(50_000, 2, 12);
  assert.equal(unanswered.line(plain(12), 13), 'ambiguous');
});

test('of several attempts the last had the answer of the status; the others are left alone', () => {
  const traffic = new Traffic().answer(1, 10);
  traffic.tick(12);
  const match = matchLine(plain(11, { attempts: 2 }), T0 + 12, traffic.index);
  assert.deepEqual(
    match.outcomes.map((outcome) => (isResolved(outcome) ? outcome.evidence : outcome.reason)),
    ['ambiguous', 'only-answer'],
  );
});

test('nothing is named across a gap of the tap, or before the watermark has come', () => {
  const gap = new Traffic().answer(1, 10).gap('tap', 20, 5);
  assert.equal(gap.line(plain(21), 21), 'ambiguous');
  const early = new Traffic().answer(1, 10).tick(11);
  assert.notEqual(
    matchLine(plain(11), T0 + 12, early.index).outcomes.map((outcome) => 'evidence' in outcome)[0],
    true,
  );
});

test('nothing is named beside a connection that cannot be read', () => {
  const traffic = new Traffic().open(50_000, 2, 5).unreadable(50_000, 2, 6).answer(1, 10);
  assert.equal(traffic.line(plain(11), 11), 'ambiguous');
});

test('an answer of no known Service voids all', () => {
  const traffic = new Traffic().answer(1, 10);
  traffic.apply({
    kind: 'response',
    t: T0 + 11,
    src: '10.244.0.70',
    sport: 9,
    ip: '10.244.1.2',
    port: 8000,
    via: 'tap',
  });
  assert.equal(traffic.line(plain(12), 12), 'ambiguous');
});

test('a line that another rule has named spends an answer of its pod', () => {
  const traffic = new Traffic().tick(5).answer(1, 10);
  traffic
    .open(50_001, 2, 12)
    .request(50_001, 2, 12, { id: 'x' })
    .response(50_001, 2, 13)
    .close(50_001, 2, 14);
  traffic.tick(20);
  // Named by its times: no other request can be its own.
  const timed = { ...plain(14, { upstreamStatus: 200 }), ...lineTimes(14, 2) };
  assert.equal(traffic.line(timed, 20), '2 request-window');
  assert.equal(traffic.line(plain(21), 21), '1 only-answer');
});

function lineTimes(end: number, took: number): Partial<ParsedLine> {
  return { endMs: T0 + end, endStepMs: 1, requestMs: took };
}

test('more answers than are kept void the Service', () => {
  const traffic = new Traffic();
  for (let i = 0; i <= 4_096; i++) traffic.response(40_001, 1, 10);
  assert.equal(traffic.line(plain(11), 11), 'ambiguous');
  assert.equal(traffic.index.service('10.105.148.194', 80)?.answers.count, 0);
});

const ALL: Compared = { target: true, userAgent: true, referer: true };

/** An answer to a request of this content, and a line that says it. Fewer hashes: the rest is not known. */
const asked = (...content: number[]) => ({ content: content as unknown as ContentHashes });
const says = (end: number, target?: number, userAgent?: number, referer?: number): ParsedLine => ({
  ...plain(end),
  content: { target, userAgent, referer },
});

test('a line had an answer to a request of its own content', () => {
  const traffic = new Traffic(ALL).answer(1, 10, true, asked(1, 5, 6)).answer(2, 11, true, asked(2, 5, 6));
  traffic.answer(2, 12, true, asked(1, 7, 6));
  assert.equal(traffic.line(says(12, 1, 7, 6), 13), '2 only-answer');
  assert.equal(traffic.line(says(12, 2, 5, 6), 13), '2 only-answer');
  assert.equal(traffic.line(says(12, 1, 5, 6), 13), '1 only-answer');
  const nothing = new Traffic().answer(1, 10, true, asked(1, 5, 6)).answer(2, 11, true, asked(2, 5, 6));
  assert.equal(nothing.line(says(12, 1, 5, 6), 13), 'ambiguous', 'without knowledge of nginx');
});

test('a request of which the head was not copied to its end may be of any headers', () => {
  const cut = () => new Traffic(ALL).answer(1, 10, true, asked(1, 5, 6)).answer(2, 11, true, asked(1));
  assert.equal(cut().line(says(12, 1, 5, 6), 13), 'ambiguous');
  assert.equal(cut().line(says(12, 1, 8, 9), 13), 'ambiguous');
  assert.equal(
    cut()
      .answer(1, 12, true, asked(2, 5, 6))
      .line(says(12, 2, 5, 6), 13),
    '1 only-answer',
  );
  const unknown = new Traffic(ALL).answer(1, 10, true, asked(1, 5, 6)).answer(2, 11);
  assert.equal(unknown.line(says(12, 1, 5, 6), 13), 'ambiguous');
});

test('once the answers of doubt are spent, contents are told apart again', () => {
  const traffic = new Traffic(ALL).answer(1, 10, true, asked(1, 5, 6)).answer(2, 11);
  assert.equal(traffic.line(says(12, 1, 5, 6), 13), 'ambiguous');
  assert.equal(traffic.line(says(12, 2, 5, 6), 13), 'ambiguous');
  traffic.answer(1, 20, true, asked(1, 5, 6)).answer(2, 21, true, asked(2, 5, 6));
  assert.equal(traffic.line(says(22, 1, 5, 6), 23), '1 only-answer');
});

test('a line of unknown content may have had the answer to any request', () => {
  const traffic = new Traffic(ALL).answer(1, 10, true, asked(1, 5, 6)).answer(2, 11, true, asked(2, 5, 6));
  assert.equal(traffic.line(plain(12), 13), 'ambiguous');
  assert.equal(traffic.line(says(12, 1, 5, 6), 13), 'ambiguous', 'which is left is not known');
  const same = new Traffic(ALL).answer(1, 10, true, asked(1, 5, 6)).answer(1, 11, true, asked(2, 5, 6));
  assert.equal(same.line(plain(12), 13), '1 only-answer');
});

test('behind a packet in which a request may have begun, an answer is of unknown content', () => {
  const traffic = new Traffic(ALL).answer(1, 10, true, asked(1, 5, 6));
  traffic
    .open(50_000, 2, 10)
    .request(50_000, 2, 11, asked(2, 5, 6))
    .response(50_000, 2, 12);
  traffic.request(50_000, 2, 13, { midStream: true }).response(50_000, 2, 14).close(50_000, 2, 15);
  assert.equal(traffic.line(says(15, 1, 5, 6), 16), 'ambiguous');
});

test('a request after a body in chunks may be a part of it: its content is not known', () => {
  const traffic = new Traffic(ALL).answer(1, 10, true, asked(1, 5, 6));
  traffic.answer(2, 11, true, { ...asked(2, 5, 6), afterChunks: true });
  assert.equal(traffic.line(says(12, 1, 5, 6), 13), 'ambiguous');
});

test('a line whose content no request had ends the comparison', () => {
  const traffic = new Traffic(ALL).answer(1, 10, true, asked(1, 5, 6));
  assert.equal(traffic.line(says(11, 3, 5, 6), 12), 'ambiguous');
  let now = 20_000;
  for (let i = 0; i <= 21; i++) {
    now += 1_000;
    traffic
      .close(40_001, 1, now - 20)
      .close(40_002, 2, now - 20)
      .quiet(now - 10);
    traffic.answer(1, now, true, asked(1, 5, 6)).line(says(now, 1, 5, 6), now + 1);
  }
  traffic.answer(1, now + 10, true, asked(1, 5, 6)).answer(2, now + 11, true, asked(2, 5, 6));
  assert.equal(traffic.line(says(now + 12, 1, 5, 6), now + 13), 'ambiguous');
});

test('when nginx is configured anew, contents are not compared any more', () => {
  const traffic = new Traffic(ALL).answer(1, 10, true, asked(1, 5, 6)).answer(2, 11, true, asked(2, 5, 6));
  traffic.index.compareNothing();
  assert.equal(traffic.line(says(12, 1, 5, 6), 13), 'ambiguous');
  traffic.line(says(12, 2, 5, 6), 13);
  assert.equal(traffic.answer(2, 20, true, asked(9, 9, 9)).line(says(20, 1, 1, 1), 21), '2 only-answer');
});

test('where one answer is always ahead, spent ones are forgotten and none that is not', () => {
  const traffic = new Traffic().answer(1, 10);
  let now = 10;
  for (let i = 0; i < 300; i++) {
    now += 10;
    assert.equal(traffic.answer(1, now).line(plain(now), now + 1), '1 only-answer', `line ${i}`);
  }
  traffic.answer(2, now + 5);
  assert.equal(traffic.line(plain(now + 6), now + 6), 'ambiguous');
});

test('an answer on a connection that may have carried a request in a gap is of unknown content', () => {
  const across = (gap: boolean) => {
    const traffic = new Traffic(ALL).open(50_000, 2, 1);
    if (gap)
      traffic
        .request(50_000, 2, 2, asked(2, 5, 6))
        .tick(3)
        .gap('tap', 20, 5);
    traffic.tick(30).quiet(1_040);
    if (!gap) traffic.request(50_000, 2, 1_045, asked(2, 5, 6));
    traffic.tick(1_050);
    traffic.answer(1, 2_050, true, asked(1, 5, 6)).response(50_000, 2, 2_051);
    return traffic.line(says(2_052, 1, 5, 6), 2_053);
  };
  assert.equal(across(false), '1 only-answer');
  assert.equal(across(true), 'ambiguous');
});

test('when requests were missed, the answers so far may be of any content', () => {
  const across = (gap: boolean) => {
    const traffic = new Traffic(ALL).answer(2, 10, false, asked(2, 5, 6));
    if (gap) traffic.gap('tap', 20, 5);
    traffic.tick(1_030).quiet(1_040).close(40_003, 2, 1_041).tick(1_050);
    traffic.answer(1, 2_050, true, asked(1, 5, 6));
    return traffic.line(says(2_052, 1, 5, 6), 2_053);
  };
  assert.equal(across(false), '1 only-answer');
  assert.equal(across(true), 'ambiguous');
});
