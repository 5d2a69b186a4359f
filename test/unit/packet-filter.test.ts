import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HEADER_SNAPLEN, openingsFilter, packetFilter } from '../../src/capture/packet/filter.ts';
import { type SegmentFields, segment } from './segments.ts';

const SNAPLEN = 1024;
const NGINX = '10.244.0.70';
const POD = '10.244.1.64';

/** What the kernel answers: the bytes that are copied. A load beyond the end of the packet drops it. */
function run(program: Buffer, packet: Buffer, { outgoing = false, protocol = 0 } = {}): number {
  const [a4, x4] = [0, 0];
  let a = a4;
  let x = x4;
  const isV6 = packet[0]! >> 4 === 6;
  for (let at = 0; at < program.length; at += 8) {
    const code = program.readUInt16LE(at);
    const [yes, no] = [program[at + 2]!, program[at + 3]!];
    const k = program.readUInt32LE(at + 4);
    const load = (offset: number, size: 1 | 2 | 4): boolean => {
      if (offset + size > packet.length) return false;
      a = packet.readUIntBE(offset, size);
      return true;
    };
    if (k === 0xfffff000 + 4) a = outgoing ? 4 : 3;
    else if (k === 0xfffff000) a = protocol || (isV6 ? 0x86dd : 0x0800);
    else if (code === 0x20 || code === 0x28 || code === 0x30) {
      if (!load(k, code === 0x20 ? 4 : code === 0x28 ? 2 : 1)) return 0;
    } else if (code === 0x48 || code === 0x50) {
      if (!load(x + k, code === 0x48 ? 2 : 1)) return 0;
    } else if (code === 0xb1) x = (packet[k]! & 15) * 4;
    else if (code === 0x00) a = k;
    else if (code === 0x01) x = k;
    else if (code === 0x07) x = a;
    else if (code === 0x04) a += k;
    else if (code === 0x0c) a += x;
    else if (code === 0x54) a &= k;
    else if (code === 0x74) a >>>= k;
    else if (code === 0x05) at += k * 8;
    else if (code === 0x15) at += (a === k ? yes : no) * 8;
    else if (code === 0x1d) at += (a === x ? yes : no) * 8;
    else if (code === 0x25) at += (a > k ? yes : no) * 8;
    else if (code === 0x35) at += (a >= k ? yes : no) * 8;
    else if (code === 0x45) at += ((a & k) !== 0 ? yes : no) * 8;
    else if (code === 0x06) return k;
    else assert.fail(`instruction ${code}`);
  }
  assert.fail('ran over the end');
}

const ADDRESSES = new Map([
  ['10.244.0.7', new Set<number>()],
  [NGINX, new Set([80, 443])],
  ['fd00::70', new Set([80])],
]);
const program = packetFilter({ addresses: ADDRESSES, answers: false, snaplen: SNAPLEN });
const learning = packetFilter({ addresses: ADDRESSES, answers: true, snaplen: SNAPLEN });

const sent = (more: Partial<SegmentFields>, src = NGINX) =>
  segment({ src, sport: 40001, dst: src.includes(':') ? 'fd00::1' : POD, dport: 8000, ...more });
const received = (more: Partial<SegmentFields>, dst = NGINX) =>
  segment({ src: dst.includes(':') ? 'fd00::1' : POD, sport: 8000, dst, dport: 40001, ...more });

test('from an address: payload is copied, of what has flags the headers', () => {
  for (const src of [NGINX, '10.244.0.7', 'fd00::70']) {
    for (const tcpOptions of [0, 12, 40]) {
      const of = (more: Partial<SegmentFields>) => run(program, sent({ ...more, tcpOptions }, src));
      assert.equal(of({ ack: 1, payload: 'GET / HTTP/1.1\r\n' }), SNAPLEN);
      assert.equal(of({ ack: 1, payload: '-' }), SNAPLEN);
      assert.equal(of({ ack: 1, payload: '\0\0\x2a\x01' }), SNAPLEN);
      assert.equal(of({ flags: 'S' }), HEADER_SNAPLEN);
      assert.equal(of({ flags: 'F', ack: 1 }), HEADER_SNAPLEN);
      assert.equal(of({ flags: 'R' }), HEADER_SNAPLEN);
      assert.equal(of({ ack: 1 }), 0);
    }
  }
  assert.equal(run(program, sent({ ack: 1, payload: 'GET /', ipOptions: 8 })), SNAPLEN);
  assert.equal(run(program, sent({ ack: 1, ipOptions: 8 })), 0);
});

test('to an address: openings that are answered and ends, and payload only while that is asked for', () => {
  for (const dst of [NGINX, 'fd00::70']) {
    assert.equal(run(program, received({ flags: 'S', ack: 5 }, dst)), HEADER_SNAPLEN);
    assert.equal(run(program, received({ flags: 'S' }, dst)), 0);
    assert.equal(run(program, received({ flags: 'F', ack: 5 }, dst)), HEADER_SNAPLEN);
    assert.equal(run(program, received({ flags: 'R' }, dst)), HEADER_SNAPLEN);
    assert.equal(run(program, received({ ack: 5, payload: 'HTTP/1.1 200 OK' }, dst)), 0);
    assert.equal(run(learning, received({ ack: 5, payload: 'HTTP/1.1 200 OK' }, dst)), HEADER_SNAPLEN);
  }
});

test('what nginx says to its clients does not pass, but the opening of a connection of its own from there does', () => {
  assert.equal(run(program, sent({ sport: 80, ack: 1, payload: 'HTTP/1.1 200 OK' })), 0);
  assert.equal(run(program, sent({ sport: 443, flags: 'F', ack: 1 })), 0);
  assert.equal(run(learning, received({ dport: 80, ack: 1, payload: 'GET / HTTP/1.1' })), 0);
  assert.equal(run(program, sent({ sport: 80, flags: 'S' })), HEADER_SNAPLEN);
  // The ports of one address are not those of another.
  assert.equal(run(program, sent({ sport: 80, ack: 1, payload: 'GET /' }, '10.244.0.7')), SNAPLEN);
});

test('other addresses, other protocols and what is sent do not pass; what cannot be looked into does', () => {
  const get = sent({ ack: 1, payload: 'GET / HTTP/1.1\r\n' });
  assert.equal(run(program, get, { outgoing: true }), 0);
  assert.equal(run(program, get, { protocol: 0x0806 }), 0);
  assert.equal(run(program, sent({ ack: 1, payload: 'GET /' }, '10.244.0.71')), 0);
  assert.equal(run(program, sent({ ack: 1, payload: 'GET /' }, 'fd00::71')), 0);
  const udp = Buffer.from(get);
  udp[9] = 17;
  assert.equal(run(program, udp), 0);
  const fragment = Buffer.from(get);
  fragment.writeUInt16BE(100, 6);
  assert.equal(run(program, fragment), HEADER_SNAPLEN);
  const extended = sent({ ack: 1, payload: 'GET /' }, 'fd00::70');
  extended[6] = 60;
  assert.equal(run(program, extended), SNAPLEN);
  // Too long for the field.
  const long = sent({ ack: 1, payload: 'GET /' }, 'fd00::70');
  long.writeUInt16BE(0, 4);
  assert.equal(run(program, long), SNAPLEN);
});

test('the last of many addresses is found, and more than can be compared all pass', () => {
  const many = (n: number) =>
    new Map(
      Array.from({ length: n }, (_, i) => [`10.1.${i >> 8}.${i & 255}`, new Set([80, 81, 82])] as const),
    );
  const get = sent({ ack: 1, payload: 'GET /' });
  const of = (n: number, compare = true) =>
    packetFilter(
      { addresses: new Map([...many(n), ...ADDRESSES]), answers: false, snaplen: SNAPLEN },
      compare,
    );
  assert.equal(run(of(150), get), SNAPLEN);
  assert.equal(run(of(150), sent({ ack: 1, payload: 'GET /' }, '10.9.0.1')), 0);
  assert.equal(run(of(150), received({ flags: 'S', ack: 1 })), HEADER_SNAPLEN);
  for (const all of [of(400), of(1, false)]) {
    assert.ok(all.length / 8 <= 4096);
    assert.equal(run(all, get), SNAPLEN);
    assert.equal(run(all, received({ flags: 'S', ack: 1 })), HEADER_SNAPLEN);
  }
});

test('without an address nothing passes', () => {
  const nothing = packetFilter({ addresses: new Map(), answers: true, snaplen: SNAPLEN });
  assert.equal(run(nothing, sent({ flags: 'S' })), 0);
});

test('of any address the openings', () => {
  const openings = openingsFilter();
  for (const src of ['10.1.2.3', 'fd00::9']) {
    assert.equal(run(openings, sent({ flags: 'S' }, src)), HEADER_SNAPLEN);
    assert.equal(run(openings, sent({ ack: 1, payload: 'GET /' }, src)), 0);
    assert.equal(run(openings, sent({ flags: 'S' }, src), { outgoing: true }), 0);
  }
  assert.equal(run(openings, sent({ flags: 'S' }), { protocol: 0x0806 }), 0);
});
