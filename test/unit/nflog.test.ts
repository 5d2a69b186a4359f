import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { addressText } from '../../src/capture/ip-bytes.ts';
import { parseNflog } from '../../src/capture/tap/nflog.ts';
import { parseTcpPacket } from '../../src/capture/tap/packet.ts';
import { headerName, parseRequestHead } from '../../src/capture/tap/request-head.ts';

const captured = JSON.parse(readFileSync(new URL('../fixtures/nflog/messages.json', import.meta.url), 'utf8'))
  .messages as { what: string; hex: string }[];

const ID = headerName('X-Request-ID');

function read(what: string) {
  const bytes = Buffer.from(captured.find((message) => message.what === what)!.hex, 'hex');
  const packet = parseNflog(bytes, 0, bytes.length);
  assert.ok(typeof packet !== 'string');
  const segment = parseTcpPacket(bytes, packet.start, packet.end);
  assert.ok(typeof segment !== 'string');
  const head = parseRequestHead(bytes, segment.payloadStart, segment.payloadEnd, ID);
  assert.ok(head !== 'not-http');
  const backend = addressText(bytes, segment.dstAt, segment.addressLength);
  return { ...head, backend: `${backend} ${segment.dport}`, sequence: packet.sequence, segment };
}

test("a group's packets carry numbers without a hole", () => {
  const numbers = captured.map(({ what }) => read(what).sequence);
  assert.deepEqual(
    numbers,
    captured.map((_, i) => i),
  );
});

test('each captured request gives its backend, method, path and id', () => {
  const digits = '123456789abcdef0123456789abcdef';
  const rows = captured.slice(0, 7).map(({ what }) => {
    const { backend, method, path, id, cut } = read(what);
    return [backend.replace(/10[12] /, '10x '), method, path, id, cut];
  });
  assert.deepEqual(rows, [
    ['10.77.0.10x 8080', 'GET', '/test', `0${digits}`, false],
    ['fd77::10x 8080', 'GET', '/six?a=b', `1${digits}`, false],
    ['10.77.0.10x 8080', 'GET', '/nft', `2${digits}`, false],
    ['fd77::10x 8080', 'GET', '/nft6', `3${digits}`, false],
    ['10.77.0.10x 8080', 'GET', '/direct', `4${digits}`, false],
    ['10.77.0.10x 8080', 'GET', '/one', `5${digits}`, false],
    ['10.77.0.10x 8080', 'GET', '/two', `5${digits}`, false],
  ]);
});

test('a second request on a connection acknowledges the answer to the first', () => {
  const first = read('GET on a kept connection, first; header in lower case').segment;
  const second = read('GET on the same connection, second').segment;
  assert.equal(second.sport, first.sport);
  assert.notEqual(second.ack, first.ack);
});

test('a packet longer than the copy still tells its length', () => {
  const post = read('POST of 5,000 bytes, cut');
  assert.equal(post.method, 'POST');
  assert.ok(post.segment.payloadLength! > 5000);
  assert.equal(post.segment.payloadEnd - post.segment.payloadStart, 1024 - 52);
  assert.equal(post.cut, false);
});

test('a target longer than the copy is given as far as it goes, without an id', () => {
  const { path, id, cut } = read('GET with a target of 1,500 bytes, cut');
  assert.match(path!, /^\/u{900,}$/);
  assert.deepEqual([id, cut], [undefined, true]);
});

test('an id header that is there twice is no id, and no proof of there being none', () => {
  const { method, id, cut } = read('PROPFIND with the id header twice');
  assert.deepEqual([method, id, cut], ['PROPFIND', undefined, true]);
});

test('any bytes give a packet within them or a reason', () => {
  const change = fc.tuple(
    fc.nat(captured.length - 1),
    fc.array(fc.tuple(fc.nat(200), fc.nat(255)), { maxLength: 6 }),
  );
  fc.assert(
    fc.property(change, fc.nat(400), ([which, changes], length) => {
      const bytes = Buffer.from(captured[which]!.hex, 'hex').subarray(0, length);
      for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
      const packet = parseNflog(bytes, 0, bytes.length);
      if (typeof packet === 'string') return;
      assert.ok(packet.start <= packet.end && packet.end <= bytes.length);
      const segment = parseTcpPacket(bytes, packet.start, packet.end);
      if (typeof segment !== 'string') parseRequestHead(bytes, segment.payloadStart, segment.payloadEnd, ID);
    }),
    { numRuns: 5000 },
  );
});
