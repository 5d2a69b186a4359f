import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { CAPTURE_DEFAULTS } from '../../src/capture/capture.ts';
import { FlowTable } from '../../src/capture/conntrack/flow-table.ts';
import { parseConntrack } from '../../src/capture/conntrack/message.ts';
import { createCapture } from '../../src/capture/create.ts';
import { AddressSet, AddressTexts } from '../../src/capture/ip-bytes.ts';
import { SourceMerge } from '../../src/capture/merge.ts';
import type { Drained, MessageVisitor } from '../../src/capture/netlink/socket.ts';
import type { NetlinkSource } from '../../src/capture/netlink-source.ts';
import { headerName } from '../../src/capture/tap/request-head.ts';
import { TapPackets } from '../../src/capture/tap/request-tap.ts';
import { TakenPast } from '../../src/capture/tap/taken-past.ts';
import type { Observation } from '../../src/model/feed.ts';

function captured(path: string): Map<string, Buffer> {
  const text = readFileSync(new URL(`../fixtures/${path}/messages.json`, import.meta.url), 'utf8');
  const { messages } = JSON.parse(text) as { messages: { what: string; hex: string }[] };
  return new Map(messages.map(({ what, hex }) => [what, Buffer.from(hex, 'hex')]));
}

const conntrackMessages = captured('conntrack');
const packets = captured('nflog');
const TIMED = ', nf_conntrack_timestamp and _acct on';

/** Events and request of one captured connection. */
const conn = (what: string) => Buffer.from(conntrackMessages.get(`IPv4 iptables DNAT ${what}${TIMED}`)!);
const request = () => Buffer.from(packets.get('GET, IPv4')!);

/** The packet's number, the attribute NFULA_SEQ (12). */
function numbered(packet: Buffer, sequence: number): Buffer {
  const at = packet.indexOf(Buffer.of(8, 0, 12, 0));
  packet.writeUInt32BE(sequence, at + 4);
  return packet;
}

/** A socket that holds what the test puts into it. */
class Held implements NetlinkSource {
  messages: Buffer[] = [];
  overrun = false;
  /** Called when the socket is read, before its messages are handed over. */
  reading: () => void = () => {};

  drain(limit: number, visit: MessageVisitor, arrived?: () => void): Drained {
    this.reading();
    const taken = this.messages.splice(0, limit);
    if (taken.length > 0) arrived?.();
    for (const message of taken) visit(message, 0, message.length);
    const drained = { messages: taken.length, overrun: this.overrun, empty: this.messages.length === 0 };
    this.overrun = false;
    return drained;
  }

  /** What is called when something can be read, while that is asked for. */
  readable: (() => void) | undefined;

  watch(readable: () => void): void {
    this.readable = readable;
  }

  unwatch(): void {
    this.readable = undefined;
  }
}

function scene() {
  const conntrack = new Held();
  const tap = new Held();
  const addresses = new AddressSet();
  const flows = new FlowTable(10);
  for (const text of ['10.77.0.70', 'fd77::70']) {
    addresses.add(text);
    flows.addSource(text);
  }
  const { stats } = createCapture({ ...CAPTURE_DEFAULTS, log: () => {} }, { batch: () => {} });
  const texts = new AddressTexts();
  const time = { wall: 1_000_000, monotonic: 0 };
  const delivered: { observations: Observation[]; watermark: number }[] = [];
  let losses = 0;
  let tapLosses = 0;
  const node = { flowTables: [] as string[] };
  const flowTables = { find: () => ({ tables: node.flowTables }) };
  const reader = new SourceMerge({
    conntrack,
    tap,
    packets: new TapPackets({
      addresses,
      texts,
      idHeader: headerName('X-Request-ID'),
      paths: true,
      contents: new Set(),
      stats,
    }),
    takenPast: new TakenPast({ flowTables, stats, log: () => {} }),
    addresses,
    texts,
    flows,
    clock: { wall: () => time.wall, monotonic: () => time.monotonic },
    sink: { batch: (observations, watermark) => delivered.push({ observations, watermark }) },
    stats,
    onConntrackLoss: () => {
      losses++;
      flows.eventsLost();
    },
    onTapLoss: () => tapLosses++,
    log: () => {},
  });
  return {
    conntrack,
    tap,
    node,
    flows,
    stats,
    reader,
    time,
    losses: () => losses,
    tapLosses: () => tapLosses,
    /** `ms` later, everything is read; what was delivered. */
    read(ms = 10) {
      time.wall += ms;
      time.monotonic += ms;
      delivered.length = 0;
      reader.read();
      assert.equal(delivered.length, 1);
      return delivered[0]!;
    },
  };
}

const kinds = (observations: readonly Observation[]) => observations.map(({ kind }) => kind);

test('a whole connection in one reading is told in the order it happened', () => {
  const { conntrack, tap, read, flows } = scene();
  conntrack.messages.push(conn('NEW SYN_SENT'), conn('UPDATE ESTABLISHED'), conn('UPDATE TIME_WAIT'));
  tap.messages.push(request());
  const { observations, watermark } = read();
  assert.deepEqual(kinds(observations), ['open', 'request', 'close']);
  assert.equal(watermark, 1_000_010);
  const [open, told] = observations;
  assert.ok(open?.kind === 'open' && told?.kind === 'request');
  assert.deepEqual(
    [told.src, told.sport, told.vip, told.vport, told.ip, told.port],
    [open.src, open.sport, open.vip, open.vport, open.ip, open.port],
  );
  assert.deepEqual([told.id, told.method, told.path], ['0123456789abcdef0123456789abcdef', 'GET', '/test']);
  assert.equal(flows.size, 0);
});

test('a request read before the event of its connection still gets what nginx dialled', () => {
  const { conntrack, tap, read } = scene();
  tap.messages.push(request());
  tap.reading = () => conntrack.messages.push(conn('NEW SYN_SENT'), conn('UPDATE TIME_WAIT'));
  const { observations } = read();
  // The end came after the tap was read, where more requests of the connection may be: it waits.
  assert.deepEqual(kinds(observations), ['open', 'request']);
  assert.ok(observations[1]?.kind === 'request' && observations[1].vip === '10.78.0.1');
  tap.reading = () => {};
  assert.deepEqual(kinds(read().observations), ['close']);
});

test('a source port used again at once is told after the connection that had it, requests included', () => {
  const { conntrack, tap, read } = scene();
  const next = conn('NEW SYN_SENT');
  next.writeUInt32BE(77, next.indexOf(Buffer.of(8, 0, 12, 0)) + 4);
  const pod = Buffer.of(10, 77, 0, request()[135]!);
  next[next.indexOf(pod) + 3] = 99;
  conntrack.messages.push(conn('NEW SYN_SENT'), conn('UPDATE TIME_WAIT'), next);
  const second = numbered(request(), 1);
  second[second.indexOf(pod) + 3] = 99;
  tap.messages.push(request(), second);
  const { observations } = read();
  const told = observations.map((o) =>
    'ip' in o ? `${o.kind} ${o.ip === '10.77.0.99' ? 'second' : 'first'}` : o.kind,
  );
  assert.deepEqual(told, ['open first', 'request first', 'close first', 'open second', 'request second']);
  assert.ok(observations.every((o) => o.kind === 'gap' || !('sport' in o) || o.vip === '10.78.0.1'));
});

test('a source port used three times within one reading: each request with its own connection', () => {
  const { conntrack, tap, read, flows } = scene();
  const lastByte = request()[135]!;
  const pod = Buffer.of(10, 77, 0, lastByte);
  /** The `n`th use of the port: another connection, to another pod. */
  const use = (message: Buffer, n: number): Buffer => {
    if (n > 0) message[message.indexOf(pod) + 3] = lastByte + n;
    const id = message.indexOf(Buffer.of(8, 0, 12, 0));
    message.writeUInt32BE(message.readUInt32BE(id + 4) + n, id + 4);
    return message;
  };
  for (let n = 0; n < 3; n++) {
    conntrack.messages.push(use(conn('NEW SYN_SENT'), n), use(conn('UPDATE TIME_WAIT'), n));
    tap.messages.push(numbered(use(request(), n), n));
  }
  const { observations } = read();
  assert.deepEqual(
    observations.map((o) => ('ip' in o ? `${o.kind} ${Number(o.ip.split('.')[3]) - lastByte}` : o.kind)),
    [0, 1, 2].flatMap((n) => [`open ${n}`, `request ${n}`, `close ${n}`]),
  );
  assert.ok(
    observations.every((o) => (o.kind === 'request' && o.vip === '10.78.0.1') || o.kind !== 'request'),
  );
  assert.equal(flows.size, 0);
});

test('an end read behind the tap waits, also where another port is used again and again', () => {
  const { conntrack, tap, read } = scene();
  const otherPort = (message: Buffer): Buffer => {
    // CTA_TUPLE_ORIG's source port; the reply tuple's destination port is not read.
    message[message.indexOf(Buffer.of(6, 0, 2, 0)) + 5]! ^= 1;
    return message;
  };
  const use = (message: Buffer, n: number): Buffer => {
    const id = message.indexOf(Buffer.of(8, 0, 12, 0));
    message.writeUInt32BE(message.readUInt32BE(id + 4) + n, id + 4);
    return message;
  };
  conntrack.messages.push(conn('NEW SYN_SENT'));
  for (let n = 0; n < 3; n++) {
    conntrack.messages.push(
      otherPort(use(conn('NEW SYN_SENT'), n)),
      otherPort(use(conn('UPDATE TIME_WAIT'), n)),
    );
  }
  // Its connection is not known, so conntrack is read once more behind the tap, and has an end.
  const unknown = request();
  unknown[unknown.indexOf(Buffer.of(10, 77, 0, unknown[135]!)) + 3] = 99;
  tap.messages.push(unknown);
  tap.reading = () => conntrack.messages.push(conn('UPDATE TIME_WAIT'));
  assert.deepEqual(kinds(read().observations).filter((kind) => kind === 'close').length, 3);
  tap.reading = () => {};
  tap.messages.push(numbered(request(), 1));
  assert.deepEqual(kinds(read().observations), ['request', 'close']);
});

test('a request of no known connection is told without what nginx dialled', () => {
  const { tap, read } = scene();
  tap.messages.push(request());
  const { observations } = read();
  assert.ok(observations[0]?.kind === 'request');
  assert.equal('vip' in observations[0], false);
});

test('requests are told in the order of the wire, also where the connection of the first is not known', () => {
  const { conntrack, tap, read } = scene();
  conntrack.messages.push(conn('NEW SYN_SENT'), conn('UPDATE TIME_WAIT'));
  const first = request();
  const pod = Buffer.of(10, 77, 0, first[135]!);
  first[first.indexOf(pod) + 3] = 99;
  tap.messages.push(first, numbered(request(), 1));
  const told = read().observations.filter((observation) => observation.kind === 'request');
  assert.deepEqual(
    told.map(({ ip, vip }) => [ip.endsWith('.99'), vip]),
    [
      [true, undefined],
      [false, '10.78.0.1'],
    ],
  );
});

test('a segment sent again is told once', () => {
  const { conntrack, tap, read, stats } = scene();
  conntrack.messages.push(conn('NEW SYN_SENT'));
  tap.messages.push(request(), numbered(request(), 1));
  assert.deepEqual(kinds(read().observations), ['open', 'request']);
  assert.equal(stats.tapRepeated, 1);
});

test('two requests on one connection are both told', () => {
  const { tap, read } = scene();
  tap.messages.push(
    numbered(Buffer.from(packets.get('GET on a kept connection, first; header in lower case')!), 0),
    numbered(Buffer.from(packets.get('GET on the same connection, second')!), 1),
  );
  assert.deepEqual(kinds(read().observations), ['request', 'request']);
});

/** The captured request as packet `number` with another head, `after` bytes behind it on the wire, acknowledging `answered` bytes more. */
function requestWith(head: string, number: number, after: number, answered: number): Buffer {
  const packet = numbered(request(), number);
  const ip = packet.indexOf(Buffer.of(0x45, 0));
  const tcp = ip + 20;
  const payload = tcp + (packet[tcp + 12]! >> 4) * 4;
  packet.writeUInt32BE((packet.readUInt32BE(tcp + 4) + after) >>> 0, tcp + 4);
  packet.writeUInt32BE((packet.readUInt32BE(tcp + 8) + answered) >>> 0, tcp + 8);
  const room = packet.indexOf('\r\n\r\n', payload) + 4 - payload;
  assert.ok(head.length + 6 <= room, `only ${room} bytes fit the captured packet`);
  packet.write(`${head}${'P:'.padEnd(room - 4 - head.length, 'x')}\r\n\r\n`, payload, 'latin1');
  return packet;
}

test('what looks like a request within the body of one is not told, even if the backend has answered', () => {
  const { conntrack, tap, read, stats } = scene();
  conntrack.messages.push(conn('NEW SYN_SENT'));
  tap.messages.push(requestWith('POST / HTTP/1.1\r\nContent-Length: 5000\r\n', 0, 0, 0));
  assert.deepEqual(kinds(read().observations), ['open', 'request']);
  tap.messages.push(requestWith('GET / HTTP/1.1\r\nX-Request-ID: forged\r\n', 1, 2000, 100));
  assert.deepEqual(kinds(read().observations), []);
  assert.equal(stats.tapRepeated, 1);
  tap.messages.push(requestWith('GET / HTTP/1.1\r\nX-Request-ID: next\r\n', 2, 9000, 200));
  const [next] = read().observations;
  assert.ok(next?.kind === 'request' && next.id === 'next');
});

test('after a request for another protocol nothing on the connection is told with an id', () => {
  const { conntrack, tap, read } = scene();
  conntrack.messages.push(conn('NEW SYN_SENT'));
  tap.messages.push(requestWith('GET / HTTP/1.1\r\nUpgrade: a\r\nX-Request-ID: 1\r\n', 0, 0, 0));
  tap.messages.push(requestWith('GET / HTTP/1.1\r\nX-Request-ID: forged\r\n', 1, 500, 100));
  const requests = read().observations.filter((o) => o.kind === 'request');
  assert.deepEqual(
    requests.map(({ id, cut }) => [id, cut]),
    [
      ['1', undefined],
      [undefined, true],
    ],
  );
});

test("the kernel's time of an opening is kept between the last watermark and the reading", () => {
  const { conntrack, read } = scene();
  conntrack.messages.push(conn('NEW SYN_SENT'));
  const { observations } = read();
  // The capture was made long after the scene's clock, so the reading is the latest it can be.
  assert.equal(observations[0]?.t, 1_000_010);
});

test('lost packets are told with their number, over the time since the last watermark', () => {
  const { tap, read, stats } = scene();
  tap.messages.push(numbered(request(), 0));
  const first = read();
  tap.overrun = true;
  const gap = read().observations;
  assert.deepEqual(gap, [{ kind: 'gap', source: 'tap', t: 1_000_020, from: first.watermark }]);
  assert.deepEqual(read().observations, []);
  tap.messages.push(numbered(request(), 7));
  const counted = read().observations.find(({ kind }) => kind === 'gap');
  assert.deepEqual(counted, { kind: 'gap', source: 'tap', t: 1_000_040, from: 1_000_030, lost: 6 });
  assert.equal(stats.tapLost, 6);
});

test('packets missing without an overrun may have been lost at any time since the last one', () => {
  const { tap, read } = scene();
  tap.messages.push(numbered(request(), 0));
  read();
  read();
  read();
  tap.messages.push(numbered(request(), 3));
  const gap = read().observations.find(({ kind }) => kind === 'gap');
  assert.deepEqual(gap, { kind: 'gap', source: 'tap', t: 1_000_040, from: 1_000_000, lost: 2 });
});

test('after lost conntrack events no watermark comes without a gap until the table is right again', () => {
  const { conntrack, reader, read, losses } = scene();
  conntrack.overrun = true;
  assert.deepEqual(read().observations, [
    { kind: 'gap', source: 'conntrack', t: 1_000_010, from: 1_000_000 },
  ]);
  assert.equal(losses(), 1);
  assert.deepEqual(read().observations, [
    { kind: 'gap', source: 'conntrack', t: 1_000_020, from: 1_000_010 },
  ]);
  reader.completeness.mend('conntrack');
  assert.deepEqual(kinds(read().observations), ['gap']);
  assert.deepEqual(read().observations, []);
});

test('a tap whose addresses may have lapsed is not taken for complete', () => {
  const { reader, read, time } = scene();
  reader.tapGoodUntil(time.monotonic + 100);
  read(90);
  assert.deepEqual(kinds(read(60_000).observations), ['gap']);
  reader.tapGoodUntil(time.monotonic + 100);
  read();
  assert.deepEqual(read().observations, []);
});

test('a clock that was set ends what is known, and open connections are told anew', () => {
  const { conntrack, read, time, stats } = scene();
  conntrack.messages.push(conn('NEW SYN_SENT'));
  read();
  time.wall -= 3_600_000;
  const { observations, watermark } = read();
  assert.deepEqual(kinds(observations), ['gap', 'gap', 'open']);
  assert.ok(observations[0]?.kind === 'gap' && observations[0].from === undefined);
  assert.ok(observations[2]?.kind === 'open' && observations[2].preexisting);
  assert.ok(observations.every(({ t }) => t === time.wall));
  assert.equal(watermark, time.wall);
  assert.equal(stats.clockSteps, 1);
  assert.deepEqual(read().observations, []);
});

test('a clock that is set during a reading ends what was read in it, too', () => {
  const { conntrack, read, time, stats } = scene();
  conntrack.messages.push(conn('NEW SYN_SENT'));
  conntrack.reading = () => {
    time.wall -= 3_600_000;
    conntrack.reading = () => {};
  };
  const { observations, watermark } = read();
  assert.deepEqual(kinds(observations), ['open', 'gap', 'gap', 'open']);
  assert.equal(watermark, time.wall);
  assert.equal(stats.clockSteps, 1);
});

test('a slow drift of the clock is no step', () => {
  const { read, time, stats } = scene();
  for (let i = 0; i < 10; i++) {
    time.wall += 90;
    read();
  }
  assert.equal(stats.clockSteps, 0);
});

test('connections beyond the limit are refused and the record is not taken for complete', () => {
  const { conntrack, read, stats, losses } = scene();
  for (let i = 0; i < 11; i++) {
    const message = conn('NEW SYN_SENT');
    message.writeUInt16BE(1000 + i, message.indexOf(Buffer.of(6, 0, 2, 0)) + 4);
    conntrack.messages.push(message);
  }
  const { observations } = read();
  assert.equal(observations.filter(({ kind }) => kind === 'open').length, 10);
  assert.equal(observations.at(-1)?.kind, 'gap');
  assert.deepEqual([stats.flowsRefused, losses()], [1, 1]);
});

test('messages that cannot be understood are counted', () => {
  const { conntrack, tap, read, stats } = scene();
  conntrack.messages.push(conn('NEW SYN_SENT').subarray(0, 60));
  tap.messages.push(request().subarray(0, 30), Buffer.alloc(3));
  read();
  assert.deepEqual([stats.conntrackMalformed, stats.tapMalformed], [1, 2]);
});

test('read promptly, an opening has the time between two looks, and comes with the next reading', () => {
  const { conntrack, reader, read, time } = scene();
  reader.readPromptly(true);
  const { readable } = conntrack;
  read();
  conntrack.messages.push(conn('NEW SYN_SENT'));
  time.wall += 2;
  readable!();
  time.wall += 3;
  const { observations, watermark } = read(5);
  reader.close();
  const [open] = observations;
  assert.ok(open?.kind === 'open');
  assert.deepEqual([open.openedAfter, open.t, watermark], [1_000_010, 1_000_012, 1_000_020]);
});

test('while the node has a flow table the tap is not whole, from before it was there until it was gone', () => {
  const { node, read, time } = scene();
  assert.deepEqual(read().observations, []);
  const before = time.wall;
  node.flowTables = ['kube-proxy/fastpath'];
  assert.deepEqual(read().observations, [{ kind: 'gap', t: time.wall, source: 'tap', from: before }]);
  const within = time.wall;
  assert.deepEqual(read().observations, [{ kind: 'gap', t: time.wall, source: 'tap', from: within }]);
  node.flowTables = [];
  const gone = time.wall;
  assert.deepEqual(read().observations, [{ kind: 'gap', t: time.wall, source: 'tap', from: gone }]);
  assert.deepEqual(read().observations, []);
});

/** A packet of the request's connection that has no request. */
function opaque(): Buffer {
  const packet = request();
  const at = packet.indexOf('GET ');
  packet.writeUInt32BE(0x16_03_01_02, at);
  return packet;
}

test('a connection that cannot be read counts as such when its packet came before it was known', () => {
  const { tap, flows, read } = scene();
  tap.messages.push(numbered(opaque(), 0));
  read();
  flows.beginDump();
  const addresses = new AddressSet();
  addresses.add('10.77.0.70');
  const listed = conn('UPDATE ESTABLISHED');
  const entry = parseConntrack(listed, 0, listed.length, addresses, new AddressTexts());
  assert.ok(typeof entry !== 'string');
  assert.equal(flows.listed(entry, false, 1_000_015).unreadable?.protocol, 'tls');
  // A request of such a connection is none that the tap reads.
  tap.messages.push(numbered(request(), 1));
  assert.deepEqual(kinds(read().observations), []);
});

test('while a connection that cannot be read is not known after a loss of events, the tap has a gap', () => {
  const { conntrack, tap, flows, read } = scene();
  flows.beginDump();
  flows.endDump(['10.77.0.70', 'fd77::70'], 1_000_000, 1_000_000);
  conntrack.overrun = true;
  tap.messages.push(opaque());
  const gaps = (observations: readonly Observation[]) =>
    observations.flatMap((o) => (o.kind === 'gap' ? [o.source] : []));
  assert.deepEqual(gaps(read().observations), ['conntrack', 'tap']);
  assert.deepEqual(gaps(read().observations), ['conntrack', 'tap']);
  flows.beginDump();
  flows.endDump(['10.77.0.70', 'fd77::70'], 1_000_020, 1_000_020);
  assert.deepEqual(gaps(read().observations), ['conntrack']);
});

test('a loss of packets is told to what has the table log again', () => {
  const { tap, read, tapLosses } = scene();
  tap.messages.push(numbered(request(), 0));
  read();
  assert.equal(tapLosses(), 0);
  tap.messages.push(numbered(request(), 3));
  read();
  assert.equal(tapLosses(), 1);
  tap.overrun = true;
  read();
  assert.equal(tapLosses(), 2);
});

/** The packet as it is before IPVS translates it: to the address that nginx dialed. */
function toDialed(packet: Buffer, vip: string, vport: number): Buffer {
  const ip = packet.indexOf(Buffer.of(0x45, 0));
  Buffer.from(vip.split('.').map(Number)).copy(packet, ip + 16);
  packet.writeUInt16BE(vport, ip + 22);
  return packet;
}

test('a packet that IPVS has not translated yet is of the connection that dialed its destination', () => {
  const { conntrack, tap, read, stats } = scene();
  conntrack.messages.push(conn('NEW SYN_SENT'));
  const [open] = read().observations;
  assert.ok(open?.kind === 'open' && open.vip !== undefined && open.vport !== undefined);
  const { vip, vport, ip, port } = open;
  tap.messages.push(numbered(toDialed(request(), vip, vport), 0), numbered(request(), 1));
  const told = read().observations;
  assert.deepEqual(
    told.map((each) => each.kind === 'request' && [each.vip, each.ip, each.port]),
    [[vip, ip, port]],
    'once, although it is logged before and behind the translation',
  );
  assert.equal(stats.tapRepeated, 1);
});

test('a packet that IPVS has not translated yet is of neither of two connections that dialed from one port in turn', () => {
  const { conntrack, tap, read } = scene();
  conntrack.messages.push(conn('NEW SYN_SENT'));
  const [open] = read().observations;
  assert.ok(open?.kind === 'open' && open.vip !== undefined && open.vport !== undefined);
  conntrack.messages.push(conn('UPDATE TIME_WAIT'), conn('NEW SYN_SENT'));
  tap.messages.push(numbered(toDialed(request(), open.vip, open.vport), 0));
  const told = read().observations;
  assert.deepEqual(kinds(told), ['close', 'open', 'request']);
  assert.deepEqual(told.map((each) => each.kind === 'request' && [each.vip, each.ip]).filter(Boolean), [
    [undefined, open.vip],
  ]);
});

test('of a connection behind IPVS, the one packet that is logged of it says that it cannot be read', () => {
  const { conntrack, tap, read } = scene();
  conntrack.messages.push(conn('NEW SYN_SENT'));
  const [open] = read().observations;
  assert.ok(open?.kind === 'open' && open.vip !== undefined && open.vport !== undefined);
  tap.messages.push(numbered(toDialed(opaque(), open.vip, open.vport), 0));
  const [told] = read().observations;
  assert.deepEqual([told?.kind, told?.kind === 'unreadable' && told.ip], ['unreadable', open.ip]);
});
