import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { addressBytes, addressText } from '../../src/capture/ip-bytes.ts';
import { parseTcpPacket, type TcpSegment } from '../../src/capture/tap/packet.ts';

/** A TCP header of 20 bytes (RFC 9293) and a payload. */
function tcp(payload: string): Buffer {
  const header = Buffer.alloc(20);
  header.writeUInt16BE(33454, 0);
  header.writeUInt16BE(10000, 2);
  header.writeUInt32BE(0xfffffff0, 4);
  header.writeUInt32BE(7, 8);
  header[12] = 5 << 4;
  return Buffer.concat([header, Buffer.from(payload)]);
}

function ipv4(
  body: Buffer,
  changes: { options?: number; fragment?: number; total?: number; protocol?: number } = {},
) {
  const header = Buffer.alloc(20 + (changes.options ?? 0));
  header[0] = 0x40 | (header.length / 4);
  header.writeUInt16BE(changes.total ?? header.length + body.length, 2);
  header.writeUInt16BE(changes.fragment ?? 0, 6);
  header[9] = changes.protocol ?? 6;
  addressBytes('10.244.0.70')!.copy(header, 12);
  addressBytes('10.244.0.64')!.copy(header, 16);
  return Buffer.concat([header, body]);
}

/** `extensions`: type and bytes of each, without the first byte (next header), which is filled in. */
function ipv6(body: Buffer, extensions: [number, Buffer][] = [], length?: number): Buffer {
  const types = [...extensions.map(([type]) => type), 6];
  const header = Buffer.alloc(40);
  header[0] = 0x60;
  header[6] = types[0]!;
  addressBytes('fd00::70')!.copy(header, 8);
  addressBytes('fd00::64')!.copy(header, 24);
  const rest = extensions.map(([, bytes], i) => Buffer.concat([Buffer.of(types[i + 1]!), bytes]));
  const after = Buffer.concat([...rest, body]);
  header.writeUInt16BE(length ?? after.length, 4);
  return Buffer.concat([header, after]);
}

function parse(bytes: Buffer): TcpSegment {
  const segment = parseTcpPacket(bytes, 0, bytes.length);
  assert.ok(typeof segment !== 'string', String(segment));
  return segment;
}

function payloadOf(bytes: Buffer): string {
  const { payloadStart, payloadEnd } = parse(bytes);
  return bytes.toString('latin1', payloadStart, payloadEnd);
}

test('an IPv4 segment gives addresses, ports, numbers and payload', () => {
  const bytes = ipv4(tcp('GET / HTTP/1.1\r\n'));
  const segment = parse(bytes);
  assert.equal(addressText(bytes, segment.srcAt, segment.addressLength), '10.244.0.70');
  assert.equal(addressText(bytes, segment.dstAt, segment.addressLength), '10.244.0.64');
  assert.deepEqual([segment.sport, segment.dport], [33454, 10000]);
  assert.deepEqual([segment.seq, segment.ack], [0xfffffff0, 7]);
  assert.equal(payloadOf(bytes), 'GET / HTTP/1.1\r\n');
});

test('options and extension headers are stepped over', () => {
  assert.equal(payloadOf(ipv4(tcp('GET'), { options: 8 })), 'GET');
  const hopByHop: [number, Buffer] = [0, Buffer.alloc(7)];
  const routing: [number, Buffer] = [43, Buffer.concat([Buffer.of(2), Buffer.alloc(22)])];
  const firstFragment: [number, Buffer] = [44, Buffer.of(0, 0, 1, 0, 0, 0, 9)];
  const authentication: [number, Buffer] = [51, Buffer.concat([Buffer.of(4), Buffer.alloc(22)])];
  assert.equal(payloadOf(ipv6(tcp('GET'))), 'GET');
  assert.equal(payloadOf(ipv6(tcp('GET'), [hopByHop, routing, firstFragment, authentication])), 'GET');
});

test('the payload length is what was sent, not what was copied', () => {
  const whole = ipv4(tcp('x'.repeat(5000)));
  const copied = whole.subarray(0, 100);
  const segment = parse(copied);
  assert.equal(segment.payloadLength, 5000);
  assert.equal(segment.payloadEnd - segment.payloadStart, 60);
});

test('padding behind the packet is not payload', () => {
  const bytes = Buffer.concat([ipv4(tcp('GET')), Buffer.alloc(6)]);
  assert.equal(payloadOf(bytes), 'GET');
  assert.equal(parse(bytes).payloadLength, 3);
});

test('a packet too long for its length field has no known length', () => {
  assert.equal(parse(ipv4(tcp('GET'), { total: 0 })).payloadLength, undefined);
  assert.equal(parse(ipv6(tcp('GET'), [], 0)).payloadLength, undefined);
});

test('what is no beginning of a TCP segment is named', () => {
  assert.equal(parseTcpPacket(Buffer.alloc(0), 0, 0), 'truncated');
  assert.equal(parseTcpPacket(Buffer.of(0x10), 0, 1), 'not-ip');
  const reason = (bytes: Buffer) => parseTcpPacket(bytes, 0, bytes.length);
  assert.equal(reason(ipv4(tcp(''), { protocol: 17 })), 'not-tcp');
  assert.equal(reason(ipv4(tcp(''), { fragment: 1 })), 'fragment');
  assert.equal(reason(ipv6(tcp(''), [[44, Buffer.of(0, 0, 8, 0, 0, 0, 9)]])), 'fragment');
  assert.equal(reason(ipv6(tcp(''), [[59, Buffer.alloc(7)]])), 'not-tcp');
  assert.equal(reason(ipv4(tcp(''), { total: 30 })), 'malformed');
  assert.equal(reason(ipv4(tcp('')).subarray(0, 39)), 'truncated');
});

test('any bytes give a segment within them or a reason', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 120 }), fc.constantFrom(0x45, 0x4f, 0x60), (raw, first) => {
      const bytes = Buffer.from(raw);
      if (bytes.length > 0) bytes[0] = first;
      const segment = parseTcpPacket(bytes, 0, bytes.length);
      if (typeof segment === 'string') return;
      assert.ok(segment.payloadStart <= segment.payloadEnd && segment.payloadEnd <= bytes.length);
      assert.ok(segment.payloadLength === undefined || segment.payloadLength >= 0);
    }),
    { numRuns: 5000 },
  );
});
