import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Accounting } from '../../src/capture/conntrack/counters.ts';
import { type ConntrackEvent, parseConntrack, parseCounts } from '../../src/capture/conntrack/message.ts';
import { AddressTexts } from '../../src/capture/ip-bytes.ts';
import type { Observation } from '../../src/model/feed.ts';

const { messages } = JSON.parse(
  readFileSync(new URL('../fixtures/conntrack/messages.json', import.meta.url), 'utf8'),
) as { messages: { what: string; hex: string }[] };
/** Has the attributes that an answer has. */
const counted = Buffer.from(
  messages.find(({ what }) => what === 'IPv4 nft DNAT GET TIME_WAIT, nf_conntrack_acct on')!.hex,
  'hex',
);
const event = parseConntrack(counted, 0, counted.length, undefined, new AddressTexts()) as ConntrackEvent;

/** A kernel that answers every request for a connection with `counted`. */
function scene() {
  const stats = { counted: 0, uncounted: 0 };
  const asked: Buffer[] = [];
  let answers: Buffer[] = [];
  const accounting = new Accounting(
    {
      send(bytes) {
        for (let at = 0; at < bytes.length; at += bytes.readUInt32LE(at)) {
          asked.push(bytes.subarray(at, at + bytes.readUInt32LE(at)));
          const answer = Buffer.from(counted);
          answer.writeUInt32LE(bytes.readUInt32LE(at + 8), 8);
          answers.push(answer);
        }
        return true;
      },
      drain(_limit, visit) {
        const taken = answers;
        answers = [];
        for (const answer of taken) visit(answer, 0, answer.length);
        return { messages: taken.length, overrun: false, empty: true };
      },
    },
    stats,
  );
  const read = (now: number): Observation[] => {
    const out: Observation[] = [];
    accounting.read(now, out);
    return out;
  };
  return { accounting, asked, stats, read };
}

test('a connection is asked for by its tuple some time after its end, and its counts are told', () => {
  const { accounting, asked, read, stats } = scene();
  accounting.ended(event, 1_000);
  assert.deepEqual(read(1_399), []);
  const [close] = read(1_400);
  assert.ok(close?.kind === 'close' && close.update);
  assert.deepEqual(close.counts, parseCounts(counted, 0, counted.length)?.counts);
  assert.deepEqual([close.src, close.sport, close.vip], [event.src, event.sport, event.vip]);
  // CTA_TUPLE_ORIG is as the kernel itself writes it, but for the flag that says it is nested.
  const tuple = asked[0]!.subarray(20);
  const own = counted.subarray(20, 20 + tuple.length);
  assert.equal(tuple.length, 52);
  assert.deepEqual(tuple.subarray(12, 16), own.subarray(12, 16));
  assert.deepEqual(read(9_999), []);
  assert.equal(stats.counted, 1);
});

test('the counts of another connection that has the tuple by then are nobody’s', () => {
  const { accounting, read, stats } = scene();
  accounting.ended({ ...event, id: event.id ^ 1 }, 1_000);
  assert.deepEqual(read(5_000), []);
  assert.equal(stats.uncounted, 1);
});

test('many that end at once are asked for in batches, and each is told once', () => {
  const { accounting, read } = scene();
  for (let i = 0; i < 1_000; i++) accounting.ended(event, 1_000 + (i >> 1));
  assert.equal(read(1_649).length, 500);
  assert.equal(read(2_000).length, 500);
  assert.equal(read(3_000).length, 0);
});
