/** The requests of HTTP/2 connections: frames followed by sequence numbers, headers read, and what a client cannot do with a body. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { newEntry, snapshotOf } from '../../src/capture/conntrack/flow-entry.ts';
import type { ConntrackEvent } from '../../src/capture/conntrack/message.ts';
import {
  beginFollowing,
  type Followed,
  follow,
  type Placed,
  type ShownRequest,
} from '../../src/capture/tap/http2/frames.ts';
import { readHeaderBlock } from '../../src/capture/tap/http2/header-block.ts';
import { huffmanText } from '../../src/capture/tap/http2/huffman.ts';
import { headerName } from '../../src/capture/tap/request-head.ts';
import { type RequestOrder, takeSegment } from '../../src/capture/tap/request-order.ts';
import type { PendingSegment } from '../../src/capture/tap/request-tap.ts';
import { lineOf, NGINX, podIp, T0, VIP, Wire } from '../model/wire.ts';

const reading = { idHeader: headerName('X-Request-ID'), idName: 'x-request-id', paths: true };
const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const DATA = 0;
const HEADERS = 1;
const SETTINGS = 4;
const END_STREAM = 1;
const END_HEADERS = 4;

function frame(type: number, flags: number, stream: number, payload: Buffer | number = 0): Buffer {
  const body = typeof payload === 'number' ? Buffer.alloc(payload, 'b') : payload;
  const head = Buffer.alloc(9);
  head.writeUIntBE(body.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, body]);
}

const string = (text: string): Buffer => Buffer.concat([Buffer.of(text.length), Buffer.from(text, 'latin1')]);

/** A block as nginx writes it: POST, http, the path, then headers. */
function block(headers: readonly (readonly [string, string])[], path = '/a'): Buffer {
  return Buffer.concat([
    Buffer.of(0x83, 0x86, 0x44),
    string(path),
    Buffer.of(0x41),
    string('backend'),
    ...headers.flatMap(([name, value]) => [Buffer.of(0), string(name), string(value)]),
  ]);
}

const begins = (stream: number, id: string, { flags = END_STREAM, length = '' } = {}): Buffer =>
  frame(
    HEADERS,
    END_HEADERS | flags,
    stream,
    block([['x-request-id', id], ...(length ? [['content-length', length] as const] : [])]),
  );

const OPENING = Buffer.concat([PREFACE, frame(SETTINGS, 0, 0, 18), frame(8, 0, 0, 4)]);

/** One connection's packets, each with the bytes that were copied of it (all by default), and what they show. */
class Connection {
  #seq = 4_294_967_000;
  #followed: Followed | undefined;
  readonly shown: string[] = [];

  send(bytes: Buffer, { ack = 1, copied = bytes.length, back = 0, unseen = 0 } = {}): this {
    const seq = (this.#seq - back + unseen) >>> 0;
    const end = (seq + bytes.length) >>> 0;
    if (back < bytes.length) this.#seq = end;
    const packet: Placed = { bytes: bytes.subarray(0, copied), seq, ack, end, reading };
    this.#followed ??= beginFollowing(packet);
    if (this.#followed === undefined) {
      this.shown.push('no preface');
      return this;
    }
    const shown = follow(this.#followed, packet);
    if (typeof shown === 'string') this.shown.push(shown);
    else this.shown.push(`${shown.block.id ?? 'without id'}${shown.doubtful ? ', perhaps' : ''}`);
    return this;
  }
}

const opened = (request = begins(1, 'first')): Connection =>
  new Connection().send(Buffer.concat([OPENING, request]));

test('the requests of a connection are read one after another, across the end of sequence numbers', () => {
  const { shown } = opened()
    .send(frame(SETTINGS, 1, 0), { ack: 40 })
    .send(begins(3, 'second'), { ack: 80 })
    .send(Buffer.concat([begins(5, 'third', { flags: 0 }), frame(DATA, END_STREAM, 5, 300)]), { ack: 120 })
    .send(begins(7, 'fourth'), { ack: 160 });
  assert.deepEqual(shown, ['first', 'nothing', 'second', 'third', 'fourth']);
});

test('a body in several packets is followed, and a request behind its end in one packet with it', () => {
  const { shown } = opened(begins(1, 'first', { flags: 0 }))
    .send(frame(DATA, 0, 1, 900), { ack: 9 })
    .send(Buffer.concat([frame(DATA, END_STREAM, 1, 50), begins(3, 'second')]), { ack: 80 });
  assert.deepEqual(shown, ['first', 'nothing', 'second']);
  const large = frame(DATA, END_STREAM, 1, 3_000);
  assert.deepEqual(
    opened(begins(1, 'first', { flags: 0 }))
      .send(large.subarray(0, 1_000), { ack: 9, copied: 500 })
      .send(large.subarray(1_000), { ack: 9, copied: 500 })
      .send(begins(3, 'second'), { ack: 80 }).shown,
    ['first', 'nothing', 'nothing', 'second'],
  );
});

test('what a client writes into a body is no request while frames are followed', () => {
  const forged = begins(3, 'forged');
  const upload = frame(DATA, END_STREAM, 1, Buffer.concat([Buffer.alloc(100), forged, forged]));
  const { shown } = opened(begins(1, 'first', { flags: 0 }))
    .send(upload.subarray(0, 109), { ack: 9 })
    .send(upload.subarray(109), { ack: 50 })
    .send(begins(3, 'second'), { ack: 80 });
  assert.deepEqual(shown, ['first', 'nothing', 'nothing', 'second']);
});

test('bytes sent again show nothing new', () => {
  const second = begins(3, 'second');
  const { shown } = opened()
    .send(second, { ack: 80 })
    .send(second, { ack: 80, back: second.length })
    .send(second.subarray(1), { ack: 90, back: second.length - 1 });
  assert.deepEqual(shown, ['first', 'second', 'nothing', 'nothing']);
});

const foreign: [what: string, bytes: Buffer][] = [
  ['a stream is left out', begins(5, 'x')],
  ['a stream comes again', begins(1, 'x')],
  ['a stream is begun by the other side', begins(4, 'x')],
  ['DATA comes behind its end', frame(DATA, 0, 1, 5)],
  ['padding', frame(HEADERS, END_HEADERS | END_STREAM | 0x8, 3, block([]))],
  ['a priority', frame(HEADERS, END_HEADERS | END_STREAM | 0x20, 3, block([]))],
  ['headers that go on in another frame', frame(HEADERS, END_STREAM, 3, block([]))],
  ['the dynamic table', frame(HEADERS, END_HEADERS | END_STREAM, 3, Buffer.of(0x83, 0x86, 0xbe))],
  ['an indexed name', frame(HEADERS, END_HEADERS | END_STREAM, 3, Buffer.of(0x83, 0x86, 0x0f, 0x05))],
  ['a size of the table', frame(HEADERS, END_HEADERS | END_STREAM, 3, Buffer.of(0x20, 0x83, 0x86))],
  ['a header cut off', frame(HEADERS, END_HEADERS | END_STREAM, 3, Buffer.of(0x83, 0x86, 0x44, 9, 0x2f))],
  ['a frame of another type', frame(2, 0, 3, 5)],
  ['a long frame', frame(DATA, 0, 3, 16_385)],
  ['two requests in one packet', Buffer.concat([begins(3, 'x'), begins(5, 'y')])],
];
for (const [what, bytes] of foreign)
  test(`what nginx does not send is followed no further: ${what}`, () => {
    assert.deepEqual(opened().send(bytes, { ack: 80 }).shown, ['first', 'lost']);
  });

test('a connection whose first packet is not its beginning is not followed', () => {
  assert.deepEqual(new Connection().send(begins(1, 'x')).shown, ['no preface']);
  assert.deepEqual(new Connection().send(PREFACE.subarray(0, 12)).shown, ['no preface']);
});

/** The second frame of its body begins beyond the copied bytes. */
const lostFrom = (length: number, announced = ''): Connection => {
  const body = Buffer.concat([frame(DATA, 0, 1, 1_000), frame(DATA, END_STREAM, 1, length - 1_000)]);
  const request = begins(1, 'first', { flags: 0, length: announced });
  return new Connection().send(Buffer.concat([OPENING, request, body]), { copied: 500 });
};

test('where a frame begins beyond the copied bytes, requests are read from then on with that doubt', () => {
  const { shown } = lostFrom(1_100)
    .send(frame(SETTINGS, 1, 0), { ack: 40 })
    .send(begins(3, 'second'), { ack: 80 })
    .send(frame(6, 1, 0, 8), { ack: 100 })
    .send(begins(5, 'third', { flags: 0 }), { ack: 120 });
  assert.deepEqual(shown, ['first', 'nothing', 'second, perhaps', 'nothing', 'third, perhaps']);
});

test('then a packet that begins like no request may have one within, once the answer may be over', () => {
  const { shown } = lostFrom(1_100)
    .send(Buffer.alloc(200, 'b'), { ack: 1 })
    .send(Buffer.alloc(200, 'b'), { ack: 80 })
    .send(frame(DATA, END_STREAM, 1, 100), { ack: 80 })
    .send(Buffer.concat([frame(SETTINGS, 1, 0), begins(3, 'second')]), { ack: 90 });
  assert.deepEqual(shown, ['first', 'nothing', 'within', 'within', 'within']);
});

test('the empty frame behind an announced body needs no copy', () => {
  const request = (stream: number, ack: number): [Buffer, { ack: number; copied: number }] => {
    const body = [
      frame(DATA, 0, stream, 300),
      frame(DATA, 0, stream, 2_700),
      frame(DATA, END_STREAM, stream),
    ];
    const all = Buffer.concat([begins(stream, `of ${stream}`, { flags: 0, length: '3000' }), ...body]);
    return [all, { ack, copied: 600 }];
  };
  const { shown } = opened()
    .send(...request(3, 80))
    .send(...request(5, 90))
    .send(begins(7, 'last'), { ack: 99 });
  assert.deepEqual(shown, ['first', 'of 3', 'of 5', 'last']);
  // Behind what the backend has sent meanwhile it may be the answer to that, and a body that is longer goes on.
  const [all] = request(3, 80);
  const end = all.length - 100;
  const late = opened()
    .send(all.subarray(0, end), { ack: 80, copied: 600 })
    .send(all.subarray(end), { ack: 85, copied: 50 })
    .send(begins(5, 'next'), { ack: 90 });
  assert.deepEqual(late.shown, ['first', 'of 3', 'within', 'next, perhaps']);
  const short = Buffer.concat([begins(3, 'x', { flags: 0, length: '200' }), frame(DATA, 0, 3, 201)]);
  assert.deepEqual(opened().send(short, { ack: 80 }).shown, ['first', 'lost']);
});

test('but none within the body that was announced', () => {
  const { shown } = lostFrom(1_100, '5100')
    .send(Buffer.alloc(3_000, 'b'), { ack: 80 })
    .send(begins(3, 'forged'), { ack: 80 })
    .send(Buffer.alloc(3_000, 'b'), { ack: 80 })
    .send(begins(3, 'second'), { ack: 90 });
  assert.deepEqual(shown, ['first', 'nothing', 'nothing', 'within', 'second, perhaps']);
});

test('a forged beginning hides no request that follows, whichever stream it pretends', () => {
  const { shown } = lostFrom(1_100)
    .send(begins(3, 'forged'), { ack: 80 })
    .send(begins(5, 'forged too'), { ack: 80 })
    .send(begins(3, 'second'), { ack: 90 })
    .send(begins(1, 'of long ago'), { ack: 91 })
    .send(begins(11, 'far ahead'), { ack: 92 });
  assert.deepEqual(shown, [
    'first',
    'forged, perhaps',
    'forged too, perhaps',
    'second, perhaps',
    'within',
    'lost',
  ]);
});

test('the packet within which the next frame is lost begins no request, whatever stands at its beginning', () => {
  const body = frame(DATA, 0, 1, Buffer.concat([Buffer.alloc(100), begins(3, 'forged'), Buffer.alloc(900)]));
  const { shown } = opened(begins(1, 'first', { flags: 0 }))
    .send(body.subarray(0, 109), { ack: 9 })
    .send(Buffer.concat([body.subarray(109), frame(DATA, 0, 1, 50)]), { ack: 50, copied: 500 });
  assert.deepEqual(shown, ['first', 'nothing', 'within']);
});

test('the beginning of a connection that has taken the port, unheard of so far, is not taken for bytes sent again', () => {
  const other = Buffer.concat([OPENING, begins(1, 'of another')]);
  const { shown } = opened()
    .send(other, { ack: 7, back: 900 })
    .send(begins(3, 'second'), { ack: 80, back: other.length - 900 });
  assert.equal(shown[1], 'within');
  const again = Buffer.concat([OPENING, begins(1, 'first')]);
  assert.deepEqual(opened().send(again, { ack: 1, back: again.length }).shown, ['first', 'nothing']);
});

test('behind bytes that were not seen a request may begin anywhere', () => {
  const { shown } = opened(begins(1, 'first', { flags: 0 }))
    .send(frame(DATA, 0, 1, 100), { ack: 9, unseen: 300 })
    .send(Buffer.alloc(300), { ack: 9, back: 400 })
    .send(begins(3, 'second'), { ack: 80 });
  assert.deepEqual(shown, ['first', 'within', 'nothing', 'second, perhaps']);
});

interface Recorded {
  nginx: string;
  logged: string[];
  pieces: { answered: number; hex: string }[];
}
const recorded: Recorded[] = JSON.parse(
  readFileSync(new URL('../fixtures/http2/connections.json', import.meta.url), 'utf8'),
).connections;

for (const { nginx, logged, pieces } of recorded)
  test(`what ${nginx} writes is read, request by request`, () => {
    let seq = 1_000;
    let followed: Followed | undefined;
    const shown: (ShownRequest | string)[] = [];
    for (const { answered, hex } of pieces) {
      const whole = Buffer.from(hex, 'hex');
      const packet = {
        bytes: whole.subarray(0, 1_484),
        seq,
        ack: answered,
        end: seq + whole.length,
        reading,
      };
      seq += whole.length;
      followed ??= beginFollowing(packet);
      const each = follow(followed!, packet);
      if (each !== 'nothing') shown.push(each);
    }
    const requests = shown.map((each) =>
      typeof each === 'string'
        ? each
        : [each.block.method, each.block.path, each.block.id, each.block.cut, each.doubtful],
    );
    const own = (method: string, path: string, of: number) => [method, path, logged[of], false, false];
    assert.deepEqual(requests, [
      own('GET', '/get', 0),
      own('GET', '/get?a=b', 1),
      own('POST', '/small', 2),
      own('DELETE', '/delete', 3),
      ['GET', '/bare/client', 'chosen-by-a-client', false, false],
      own('POST', '/', 5),
      own('POST', '/large', 6),
      own('GET', '/after', 7),
    ]);
    // `Host` where the location sets it. No request is gRPC's.
    const certain = shown.map((each) => typeof each !== 'string' && each.block.idIsNginxs);
    const host = nginx.endsWith('Host set');
    assert.deepEqual(certain, [host, host, host, host, false, host, host, host]);
  });

const blockOf = (bytes: Buffer, whole = true) => {
  const read = readHeaderBlock(bytes, 0, bytes.length, whole, reading);
  assert.ok(read !== 'foreign');
  return read;
};

test("an id is nginx's own where a header follows that no client can send through nginx", () => {
  const own = (...headers: [string, string][]) => blockOf(block(headers)).idIsNginxs;
  const id: [string, string] = ['x-request-id', 'i'];
  const grpc: [string, string] = ['content-type', 'application/grpc+proto'];
  assert.equal(own(id, ['content-length', '5'], grpc), true);
  assert.equal(own(id, ['x-other', '5'], ['te', 'trailers'], grpc), true);
  assert.equal(own(id, ['host', 'shop']), true);
  assert.equal(own(['host', 'shop'], id), false);
  assert.equal(own(['te', 'trailers'], id, grpc), false);
  assert.equal(own(id, ['user-agent', 'x'], grpc), false);
  // Without bodies, requests of the same location have no such header: theirs must not seem another location's.
  assert.equal(own(id, ['content-length', '5'], ['content-type', 'text/plain']), false);
  assert.equal(own(id, ['te', 'trailers']), false);
});

test("an id behind Content-Length is a client's: the request has none of nginx's", () => {
  const { id, cut } = blockOf(
    block([
      ['content-length', '5'],
      ['x-request-id', 'i'],
    ]),
  );
  assert.deepEqual([id, cut], [undefined, false]);
});

test('an id that occurs twice, is too long or is not text is none, and that is said', () => {
  const read = (...values: string[]) => {
    const { id, cut } = blockOf(block(values.map((value) => ['x-request-id', value] as const)));
    return [id, cut];
  };
  assert.deepEqual(read('a'), ['a', false]);
  assert.deepEqual(read('a', 'b'), [undefined, true]);
  assert.deepEqual(read('\u0001'), [undefined, true]);
  assert.deepEqual(read(''), [undefined, false]);
  const long = Buffer.concat([
    Buffer.of(0),
    string('x-request-id'),
    Buffer.of(0x7f, 0x82, 0x01),
    Buffer.alloc(257, 'a'),
  ]);
  const { id, cut } = blockOf(long);
  assert.deepEqual([id, cut], [undefined, true]);
});

test('of a block that was not copied whole, what was is read', () => {
  const whole = block([
    ['x-request-id', 'i'],
    ['x-long', 'aaaaaaaaaa'],
  ]);
  const cut = blockOf(whole.subarray(0, whole.length - 4), false);
  assert.deepEqual([cut.method, cut.path, cut.id, cut.cut], ['POST', '/a', 'i', true]);
  const earlier = blockOf(whole.subarray(0, whole.length - 22), false);
  assert.deepEqual([earlier.id, earlier.cut], [undefined, true]);
});

test('the Huffman code has every printable character', () => {
  const hex =
    '53f8fe7febff2afc7fafebfbf9ff7f4b2ec002265a6dc75e7ee7dfffc83feffcffd4376f5fc187163c997367d1a756bd9b776fe1c797e73fdffdffff0ffe7ff917ffd1c6490b2cd39ba75a29a8f5f6b109b7bf8f3ebdfffeff9ffefff7';
  const text = (bytes: string) => huffmanText(Buffer.from(bytes, 'hex'), 0, bytes.length / 2);
  assert.equal(text(hex), String.fromCharCode(...Array.from({ length: 95 }, (_, i) => i + 32)));
  assert.equal(text('f1e3c2e5f23a6ba0ab90f4ff'), 'www.example.com');
  assert.equal(text(''), '');
  // Of other bytes, padded with zeros, padded with a whole byte.
  assert.deepEqual(['ffffaf', 'ffc7', '18', '07ff'].map(text), [undefined, undefined, undefined, undefined]);
});

test('whatever bytes come, nothing is thrown', () => {
  const packets = fc.array(fc.tuple(fc.uint8Array({ maxLength: 60 }), fc.nat(3), fc.boolean()), {
    maxLength: 8,
  });
  fc.assert(
    fc.property(packets, (all) => {
      const connection = opened();
      for (const [bytes, ack, headed] of all) {
        const piece = Buffer.from(bytes);
        connection.send(headed ? frame(HEADERS, END_HEADERS | END_STREAM, 3, piece) : piece, { ack });
      }
    }),
  );
});

/** A segment of one connection as the tap gives it. */
function segment(bytes: Buffer, seq: number, ack = 1, isHttp2 = true): PendingSegment {
  const flow = { src: '10.244.0.70', sport: 40_000, ip: '10.244.1.64', port: 8080 };
  return {
    request: { kind: 'request', via: 'tap', t: 0, ...flow, midStream: true },
    seq,
    ack,
    segmentEnd: seq + bytes.length,
    requestEnd: undefined,
    upgrade: false,
    chunked: false,
    protocol: 'http2',
    copied: isHttp2 ? { bytes, reading } : undefined,
    placed: true,
  };
}

function orderOf(preexisting = false): RequestOrder {
  const none = {
    lastAck: undefined,
    lastSeq: undefined,
    last: undefined,
    unreadable: undefined,
    followed: undefined,
  };
  return { ...none, upgraded: false, chunked: false, preexisting };
}

const first = Buffer.concat([OPENING, begins(1, 'first', { length: '7' })]);

test('the first request says that the connection is followed, and one that looks like HTTP/1 is no request on it', () => {
  const order = orderOf();
  const one = segment(first, 100);
  assert.equal(takeSegment(order, one), 'followed');
  const { id, idBeforeHost, method, path, midStream } = one.request;
  assert.deepEqual(
    [id, idBeforeHost, method, path, midStream],
    ['first', undefined, 'POST', '/a', undefined],
  );
  const looks = segment(
    Buffer.concat([begins(3, 'second', { flags: 0 }), frame(DATA, 0, 3, 50)]),
    100 + first.length,
    9,
  );
  looks.request = { ...looks.request, id: 'forged', idBeforeHost: true, bytes: 5, singleSegment: true };
  assert.equal(takeSegment(order, looks), 'request');
  const { request } = looks;
  assert.deepEqual(
    [request.id, request.idBeforeHost, request.bytes, request.singleSegment],
    ['second', undefined, undefined, undefined],
  );
});

test('a connection that began before the record, or that the kernel does not know as HTTP/2, is unreadable', () => {
  assert.equal(takeSegment(orderOf(true), segment(first, 100)), 'unreadable');
  assert.equal(takeSegment(orderOf(), segment(first, 100, 1, false)), 'unreadable');
  const order = orderOf();
  takeSegment(order, segment(first, 100));
  assert.equal(takeSegment(order, segment(begins(3, 'x'), 100 + first.length, 9, false)), 'unreadable');
  assert.equal(order.unreadable, 'http2');
  assert.equal(takeSegment(order, segment(begins(5, 'y'), 300, 9)), 'repeated');
});

test('a new reader is told that the ids of a connection are read, or that nothing is', () => {
  const event = {
    src: '10.244.0.70',
    sport: 1,
    vip: '10.0.0.1',
    vport: 80,
    ip: '10.244.1.64',
    port: 8080,
    id: 1,
    zone: 0,
  };
  const entry = newEntry(event as ConntrackEvent, 5, false, undefined, undefined);
  takeSegment(entry, segment(first, 100));
  const told = () =>
    snapshotOf(entry).map((each) => (each.kind === 'open' ? 'open' : `${each.protocol} ${each.idsRead}`));
  assert.deepEqual(told(), ['open', 'http2 true']);
  takeSegment(entry, segment(begins(9, 'x'), 100 + first.length, 9));
  assert.deepEqual(told(), ['open', 'http2 undefined']);
});

const READ = { kind: 'unreadable', t: T0 - 200_000, via: 'tap', protocol: 'http2', idsRead: true } as const;
const FLOW = { src: NGINX, sport: 1003, vip: VIP, vport: 80, ip: podIp(3), port: 8000 };

/** A request with an id to pod 1, beside a connection to pod 3 whose requests are read for their ids. */
function beside(): Wire {
  const wire = new Wire().open(1001, 1, -500_000).request(1001, 1, -499_000).open(1003, 3, -200_000);
  wire.apply({ ...READ, ...FLOW }).request(1003, 3, -199_000, { id: 'old' });
  return wire.request(1001, 1, 0, { id: 'a' }).tick(100);
}

test('a connection whose ids are read contradicts no line with an id, and every line without one', () => {
  assert.equal(beside().says(lineOf({ end: 5, took: 10 }, { id: 'a' }), 6), '1 request-id');
  assert.equal(beside().says(lineOf({ end: 5, took: 10 }), 6), 'ambiguous');
});

test('once it cannot be followed it contradicts every line, for good, whatever is told again', () => {
  const wire = beside()
    .unreadable(1003, 3, 200)
    .apply({ ...READ, ...FLOW });
  wire.request(1001, 1, 300, { id: 'b' }).tick(400);
  assert.equal(wire.says(lineOf({ end: 305, took: 10 }, { id: 'b' }), 306), 'ambiguous');
});

test('when it is forgotten, that contradicts lines without an id alone', () => {
  const wire = beside().close(1003, 3, 200).tick(200_000);
  wire.open(1004, 1, 200_001).unreadable(1004, 1, 200_002).tick(200_003);
  const service = wire.index.service(VIP, 80)!;
  assert.deepEqual(
    [
      service.unreadable.size,
      service.unreadableKnownSince > T0,
      service.hidingIds.size,
      service.hidingIdsKnownSince,
    ],
    [1, true, 1, -Infinity],
  );
});
