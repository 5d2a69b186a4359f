import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { conntrackEventFilter, type Incoming } from '../../src/capture/conntrack/event-filter.ts';
import { align4, attributeEnd, attributeType } from '../../src/capture/netlink/wire.ts';

const { messages } = JSON.parse(
  readFileSync(new URL('../fixtures/conntrack/messages.json', import.meta.url), 'utf8'),
) as { messages: { what: string; hex: string }[] };
const events = messages.filter(({ what }) => !what.includes('dump entry'));

/** What the kernel does with a classic BPF program (Documentation/networking/filter.rst), as far as it is used. */
function passes(program: Buffer, packet: Buffer): boolean {
  const find = (start: number, end: number, type: number): number => {
    for (let at = start; at < end; ) {
      const stop = attributeEnd(packet, at, end);
      if (stop < 0) return 0;
      if (attributeType(packet, at) === type) return at;
      at += align4(stop - at);
    }
    return 0;
  };
  let a = 0;
  let x = 0;
  for (let at = 0; at < program.length; at += 8) {
    const code = program.readUInt16LE(at);
    const [yes, no] = [program[at + 2]!, program[at + 3]!];
    const k = program.readUInt32LE(at + 4);
    if (code === 0x20 && k === 0xfffff000 + 12) a = find(a, packet.length, x);
    else if (code === 0x20 && k === 0xfffff000 + 16) a = find(a + 4, a + packet.readUInt16LE(a), x);
    else if (code === 0x20 || code === 0x30) {
      const size = code === 0x20 ? 4 : 1;
      if (k + size > packet.length) return false;
      a = size === 4 ? packet.readUInt32BE(k) : packet[k]!;
    } else if (code === 0x50) a = packet[x + k]!;
    else if (code === 0x00) a = k;
    else if (code === 0x01) x = k;
    else if (code === 0x07) x = a;
    else if (code === 0x05) at += k * 8;
    else if (code === 0x15) at += (a === k ? yes : no) * 8;
    else if (code === 0x1d) at += (a === x ? yes : no) * 8;
    else if (code === 0x45) at += ((a & k) !== 0 ? yes : no) * 8;
    else if (code === 0x06) return k !== 0;
    else assert.fail(`instruction ${code}`);
  }
  assert.fail('ran over the end');
}

const passing = (addresses: string[], list = events, incoming?: Incoming) =>
  list
    .filter(({ hex }) => passes(conntrackEventFilter(addresses, incoming), Buffer.from(hex, 'hex')))
    .map(({ what }) => what);

const OF_USE = / NEW | DESTROY | (?:UPDATE|GET) (TIME_WAIT|CLOSE\b)/;

test('openings, ends, TIME_WAIT and resets of the subscribed addresses pass, nothing else does', () => {
  const wanted = (version: string) =>
    events.map(({ what }) => what).filter((what) => what.startsWith(version) && OF_USE.test(what));
  assert.ok(wanted('IPv4').length > 10 && wanted('IPv6').length > 5);
  assert.deepEqual(passing(['10.77.0.70']), wanted('IPv4'));
  assert.deepEqual(passing(['fd77::70']), wanted('IPv6'));
  assert.deepEqual(passing(['10.77.0.71', 'fd77::7', 'fd78::70']), []);
  assert.deepEqual(passing([]), []);
});

test('the last of many addresses is found, and more than can be compared are all let through', () => {
  const many = (n: number) => Array.from({ length: n }, (_, i) => `10.1.${i >> 8}.${i & 255}`);
  const v6 = Array.from({ length: 120 }, (_, i) => `fd01::${i.toString(16)}`);
  assert.equal(passing([...many(120), ...v6, '10.77.0.70']).length, passing(['10.77.0.70']).length);
  assert.equal(passing([...many(120), ...v6, 'fd77::70']).length, passing(['fd77::70']).length);
  assert.equal(passing(many(240)).length, 0);
  assert.equal(passing(many(300)).length, passing(['10.77.0.70', 'fd77::70']).length);
  assert.ok(conntrackEventFilter(v6.concat(v6)).length / 8 <= 4096);
});

const { messages: toNginx } = JSON.parse(
  readFileSync(new URL('../fixtures/conntrack/incoming.json', import.meta.url), 'utf8'),
) as { messages: { what: string; hex: string }[] };

test('of connections to an address all pass, or those that the node translates', () => {
  const whats = toNginx.map(({ what }) => what).filter((what) => OF_USE.test(what));
  const of = (kind: RegExp) => whats.filter((what) => kind.test(what));
  const both = ['10.77.0.70', 'fd77::70'];
  assert.deepEqual(passing([], toNginx), []);
  assert.deepEqual(passing([], toNginx, { all: both, translated: [] }), whats);
  assert.deepEqual(passing([], toNginx, { all: [], translated: both }), of(/masquerade/));
  assert.deepEqual(passing([], toNginx, { all: ['fd77::70'], translated: [] }), of(/IPv6/));
  assert.deepEqual(passing([], toNginx, { all: ['10.77.0.71'], translated: ['10.77.0.7'] }), []);
  assert.ok(of(/masquerade/).length === 4 && of(/from the node/).length === 2);
  // Both at once, and the last of many.
  const many = Array.from({ length: 120 }, (_, i) => `10.1.0.${i}`);
  assert.deepEqual(passing(many, toNginx, { all: many, translated: ['10.77.0.70'] }), of(/IPv4.*masquerade/));
  assert.deepEqual(passing(['10.77.1.9'], toNginx, { all: [], translated: [] }), of(/IPv4 (DNAT|direct)/));
  assert.equal(
    passing(['10.77.0.70'], events, { all: both, translated: [] }).length,
    passing(['10.77.0.70']).length,
  );
  assert.deepEqual(passing(many, toNginx, { all: many, translated: many }), []);
  const v6 = Array.from({ length: 150 }, (_, i) => `fd01::${i.toString(16)}`);
  assert.deepEqual(passing(many, toNginx, { all: [], translated: v6 }), whats, 'a program that is too long');
});

test('a message laid out in an unknown way passes', () => {
  const bytes = Buffer.from(events[0]!.hex, 'hex');
  bytes[28] = 12;
  assert.ok(passes(conntrackEventFilter(['10.1.1.1']), bytes));
  const other = Buffer.from(events[0]!.hex, 'hex');
  other[16] = 7;
  assert.ok(passes(conntrackEventFilter(['10.1.1.1']), other));
});
