import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CAPTURE_DEFAULTS } from '../../src/capture/capture.ts';
import { FlowTable } from '../../src/capture/conntrack/flow-table.ts';
import { createCapture } from '../../src/capture/create.ts';
import { AddressSet, AddressTexts } from '../../src/capture/ip-bytes.ts';
import { SourceMerge } from '../../src/capture/merge.ts';
import type { Drained, MessageVisitor } from '../../src/capture/netlink/socket.ts';
import { Devices } from '../../src/capture/packet/devices.ts';
import { PacketTap } from '../../src/capture/packet/packet-tap.ts';
import { SENDER_BYTES } from '../../src/capture/packet/socket.ts';
import { headerName } from '../../src/capture/tap/request-head.ts';
import type { Observation } from '../../src/model/feed.ts';
import { type SegmentFields, segment } from './segments.ts';

const NGINX = '10.244.0.70';
const VIP = '10.105.148.194';
const POD = '10.244.1.64';
const OTHER = '10.244.1.65';
const NODE = '10.244.0.1';
const VETH = 7;
const BRIDGE = 2;

/** A packet socket that holds what the test puts into it. */
class Held {
  packets: Buffer[] = [];
  lost = 0;
  drain(_: number, visit: MessageVisitor, arrived?: () => void): Drained {
    const packets = this.packets.splice(0);
    if (packets.length > 0) arrived?.();
    for (const packet of packets) visit(packet, 0, packet.length);
    const drained: Drained = { messages: packets.length, overrun: this.lost > 0, empty: true };
    if (this.lost > 0) drained.lost = this.lost;
    this.lost = 0;
    return drained;
  }
  watch(): void {}
  unwatch(): void {}
}

function scene({ maxFlows = 100, conntrack = false } = {}) {
  const socket = new Held();
  const addresses = new AddressSet();
  const flows = new FlowTable(maxFlows, 'tap');
  addresses.add(NGINX);
  flows.addSource(NGINX);
  const { stats } = createCapture({ ...CAPTURE_DEFAULTS, log: () => {} }, { batch: () => {} });
  const texts = new AddressTexts();
  const time = { wall: 1_000_000 };
  const unseen: string[] = [];
  const plans: { ports: number[]; answers: boolean }[] = [];
  const packets: PacketTap = new PacketTap({
    addresses,
    texts,
    stats,
    flows,
    maxFlows,
    conntrack,
    idHeader: headerName('X-Request-ID'),
    paths: true,
    contents: new Set(),
    devices: { isStacked: (index) => index === BRIDGE },
    isLocal: (ip) => ip === NODE,
    onLocalAddress: (address) => unseen.push(address),
    onPlanChange: () => {
      const { addresses: planned, answers } = packets.plan;
      plans.push({ ports: [...(planned.get(NGINX) ?? [])], answers });
    },
  });
  packets.setAddresses([NGINX], time.wall);
  let delivered: Observation[] = [];
  const reader = new SourceMerge({
    conntrack: undefined,
    tap: socket,
    packets,
    addresses,
    texts,
    flows,
    clock: { wall: () => time.wall, monotonic: () => time.wall - 1_000_000 },
    sink: { batch: (observations) => delivered.push(...observations) },
    stats,
    onTapLoss: () => {},
    onConntrackLoss: () => {},
    log: () => {},
  });
  const put = (fields: SegmentFields, device = VETH): void => {
    const sender = Buffer.alloc(SENDER_BYTES);
    sender.writeInt32LE(device, 4);
    socket.packets.push(Buffer.concat([sender, segment(fields)]));
  };
  return {
    socket,
    stats,
    flows,
    plans,
    unseen,
    packets,
    /** From nginx to what it dialed. */
    out: (fields: Partial<SegmentFields>, device = VETH) =>
      put({ src: NGINX, sport: 40001, dst: VIP, dport: 10000, ...fields }, device),
    /** From the pod to nginx. */
    back: (fields: Partial<SegmentFields>) =>
      put({ src: POD, sport: 8000, dst: NGINX, dport: 40001, ...fields }, 9),
    read(ms = 10): Observation[] {
      delivered = [];
      time.wall += ms;
      reader.read();
      return delivered;
    },
  };
}

type Scene = ReturnType<typeof scene>;

const get = (n: number) =>
  `GET /item/${n} HTTP/1.1\r\nX-Request-ID: ${String(n).padStart(32, '0')}\r\nHost: a\r\n\r\n`;
const open = ({ out, back }: Scene, isn = 100): void => {
  out({ flags: 'S', seq: isn });
  back({ flags: 'S', seq: 500, ack: isn + 1 });
};
const kinds = (observations: readonly Observation[]) => observations.map(({ kind }) => kind);

test('the answer to the SYN tells the pod, whatever was dialed; both FINs end the connection', () => {
  const all = scene();
  const { out, back, read, flows } = all;
  open(all);
  out({ seq: 101, ack: 501, payload: get(1) });
  out({ seq: 200, ack: 900, payload: get(2) });
  const [opened, first, second, ...rest] = read();
  assert.deepEqual(rest, []);
  const flow = { src: NGINX, sport: 40001, vip: VIP, vport: 10000, ip: POD, port: 8000, via: 'tap' };
  assert.deepEqual(opened, { kind: 'open', t: 1_000_010, ...flow });
  assert.ok(first?.kind === 'request' && second?.kind === 'request');
  const { id, path, ...where } = first;
  assert.deepEqual([id, path], ['1'.padStart(32, '0'), '/item/1']);
  assert.deepEqual(
    {
      src: where.src,
      sport: where.sport,
      vip: where.vip,
      vport: where.vport,
      ip: where.ip,
      port: where.port,
      via: where.via,
    },
    flow,
  );
  assert.equal(second.id, '2'.padStart(32, '0'));
  out({ flags: 'F', seq: 300, ack: 990 });
  assert.deepEqual(read(), []);
  back({ flags: 'F', seq: 990, ack: 301 });
  const [closed] = read();
  assert.ok(closed?.kind === 'close' && closed.end === 'fin');
  assert.equal(flows.size, 0);
});

/** HTTP/2's preface with SETTINGS, and a HEADERS frame of a GET with an id, as nginx writes them. */
const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0';
function headers(stream: number, id: string): string {
  const text = (value: string) => String.fromCharCode(value.length) + value;
  const block = `\x82\x86\x84\x41${text('a')}\0${text('x-request-id')}${text(id)}\0${text('host')}${text('a')}`;
  return `\0\0${String.fromCharCode(block.length)}\x01\x05\0\0\0${String.fromCharCode(stream)}${block}`;
}
const idsOf = (observations: readonly Observation[]) =>
  observations.map((each) => (each.kind === 'request' ? (each.id ?? 'none') : each.kind));

test('HTTP/2 is read for its ids while its frames can be followed', () => {
  const all = scene();
  const { out, read } = all;
  let seq = 101;
  const say = (payload: string, ack: number): void => {
    out({ seq, ack, payload });
    seq += payload.length;
  };
  open(all);
  say(PREFACE + headers(1, 'one'), 501);
  say('\0\0\0\x04\x01\0\0\0\0', 530);
  say(headers(3, 'two'), 600);
  assert.deepEqual(idsOf(read()), ['open', 'unreadable', 'one', 'two']);
  // Its stream is the one before: a client wrote it.
  say(headers(3, 'forged'), 700);
  say(headers(5, 'three'), 800);
  assert.deepEqual(idsOf(read()), ['unreadable']);
});

test('a packet is taken where it comes in first, and once', () => {
  const all = scene();
  const { out, read, stats } = all;
  open(all);
  // The bridge has it with the address that the node translated it to.
  out({ seq: 101, ack: 501, payload: get(1) });
  out({ seq: 101, ack: 501, payload: get(1), dst: POD, dport: 8000 }, BRIDGE);
  // A retransmission.
  out({ seq: 101, ack: 501, payload: get(1) });
  assert.deepEqual(kinds(read()), ['open', 'request']);
  assert.equal(stats.tapRepeated, 1);
});

test('the answer to the SYN that the node has translated back changes nothing', () => {
  const all = scene();
  const { out, back, read } = all;
  open(all);
  back({ src: VIP, sport: 10000, flags: 'S', seq: 500, ack: 101 });
  out({ seq: 101, ack: 501, payload: get(1) });
  const told = read();
  assert.deepEqual(kinds(told), ['open', 'request']);
});

test('an answer with another number is to another SYN', () => {
  const { out, back, read } = scene();
  out({ flags: 'S', seq: 100 });
  back({ src: OTHER, flags: 'S', seq: 700, ack: 99 });
  back({ flags: 'S', seq: 500, ack: 101 });
  out({ seq: 101, ack: 501, payload: get(1) });
  const told = read();
  assert.deepEqual(kinds(told), ['open', 'request']);
  assert.ok(told[1]?.kind === 'request' && told[1].ip === POD);
});

test('of two pods that answer one SYN neither is believed', () => {
  const all = scene();
  const { out, back, read } = all;
  open(all);
  back({ src: OTHER, flags: 'S', seq: 700, ack: 101 });
  out({ seq: 101, ack: 501, payload: get(1) });
  assert.deepEqual(kinds(read()), ['open', 'close', 'gap']);
});

test('a request to nobody knows whom is a gap, and the answer to it tells the pod of the next', () => {
  const { out, back, read, plans } = scene();
  assert.deepEqual(plans.at(-1), { ports: [], answers: true });
  out({ seq: 101, ack: 501, payload: get(1) });
  const [gap, ...rest] = read();
  assert.deepEqual(rest, []);
  assert.ok(gap?.kind === 'gap' && gap.source === 'tap' && gap.lost === 1);
  // Another number: not the answer to it.
  back({ src: OTHER, seq: 777, ack: 200, payload: 'HTTP/1.1 200 OK' });
  back({ seq: 501, ack: 200, payload: 'HTTP/1.1 200 OK' });
  out({ seq: 200, ack: 900, payload: get(2) });
  const [opened, request] = read();
  assert.ok(opened?.kind === 'open' && opened.preexisting && opened.ip === POD && opened.vip === VIP);
  assert.ok(request?.kind === 'request' && request.ip === POD && request.id === '2'.padStart(32, '0'));
  // When all is known, answers need not pass any more.
  read(200_000);
  assert.equal(plans.at(-1)?.answers, false);
});

test('after a loss a translated connection may be another one: its pod has to be told again', () => {
  const all = scene();
  const { socket, out, back, read } = all;
  open(all);
  read();
  socket.lost = 3;
  out({ seq: 101, ack: 501, payload: get(1) });
  const told = read();
  assert.deepEqual(kinds(told), ['request', 'close', 'gap']);
  assert.ok(told[2]?.kind === 'gap' && told[2].lost === 3);
  out({ seq: 900, ack: 7, payload: get(2) });
  assert.deepEqual(kinds(read()), ['gap']);
  back({ src: OTHER, seq: 7, ack: 999, payload: 'HTTP/1.1 200 OK' });
  out({ seq: 999, ack: 77, payload: get(3) });
  const [opened, request] = read();
  assert.ok(opened?.kind === 'open' && request?.kind === 'request' && request.ip === OTHER);
});

test('after a loss a connection to the pod’s own address still leads there', () => {
  const { socket, out, back, read } = scene();
  const direct = { dst: POD, dport: 8000 };
  out({ ...direct, flags: 'S', seq: 100 });
  back({ flags: 'S', seq: 500, ack: 101 });
  read();
  socket.lost = 1;
  assert.deepEqual(kinds(read()), ['gap']);
  out({ ...direct, seq: 101, ack: 501, payload: get(1) });
  assert.deepEqual(kinds(read()), ['request']);
});

test('a port that is used again is another connection', () => {
  const all = scene();
  const { out, back, read } = all;
  open(all);
  out({ flags: 'S', seq: 5000 });
  back({ src: OTHER, flags: 'S', seq: 1, ack: 5001 });
  out({ seq: 5001, ack: 2, payload: get(1) });
  const told = read();
  assert.deepEqual(kinds(told), ['open', 'close', 'open', 'request']);
  assert.ok(told[3]?.kind === 'request' && told[3].ip === OTHER);
});

test('what a connection sends after both FINs it sends again; an opening is a new one', () => {
  const all = scene();
  const { out, back, read, stats } = all;
  open(all);
  out({ seq: 101, ack: 501, payload: get(1) });
  out({ flags: 'F', seq: 200, ack: 990 });
  back({ flags: 'F', seq: 990, ack: 201 });
  out({ flags: 'F', seq: 101, ack: 501, payload: get(1) });
  assert.deepEqual(kinds(read()), ['open', 'request', 'close']);
  assert.equal(stats.tapRepeated, 1);
  open(all, 7000);
  out({ seq: 7001, ack: 501, payload: get(2) });
  assert.deepEqual(kinds(read()), ['open', 'request']);
  // Where packets were lost nobody knows: it may be another one.
  out({ flags: 'F', seq: 7200, ack: 990 });
  back({ flags: 'F', seq: 990, ack: 7201 });
  read();
  all.socket.lost = 1;
  read();
  out({ seq: 9, ack: 9, payload: get(3) });
  assert.deepEqual(kinds(read()), ['gap']);
});

test('a refused connection names who refused it; one that is reset later is kept for ten seconds', () => {
  const all = scene();
  const { out, back, read } = all;
  out({ flags: 'S', seq: 100 });
  back({ flags: 'R', ack: 101 });
  const [opened, closed] = read();
  assert.ok(opened?.kind === 'open' && opened.ip === POD);
  assert.ok(closed?.kind === 'close' && closed.end === 'refused');
  open(all, 300);
  read();
  back({ flags: 'R', seq: 501 });
  assert.deepEqual(read(6_000), []);
  assert.deepEqual(kinds(read(10_001)), ['close']);
});

test('nginx’s own kernel resets a connection of the pod’s that had the port before, and opens again', () => {
  const all = scene();
  const { out, read } = all;
  out({ flags: 'S', seq: 100 });
  out({ flags: 'R', seq: 77 });
  open(all, 100);
  assert.deepEqual(kinds(read(6_000)), ['open']);
  assert.deepEqual(kinds(read(11_000)), []);
});

test('what nginx answers its clients is no request, once one of them was seen to connect', () => {
  const { out, read, plans } = scene();
  const toClient = { sport: 80, dst: '10.244.0.9', dport: 51000 };
  // Before, nobody knows.
  out({ ...toClient, seq: 1, ack: 1, payload: 'HTTP/1.1 200 OK\r\n' });
  out({ ...toClient, seq: 20, ack: 1, payload: 'more' });
  assert.deepEqual(kinds(read()), ['gap']);
  out({ ...toClient, dport: 51001, flags: 'S', seq: 1, ack: 1 });
  out({ ...toClient, seq: 40, ack: 1, payload: 'HTTP/1.1 200 OK\r\n' });
  assert.deepEqual(read(), []);
  assert.deepEqual(plans.at(-1)?.ports, [80]);
  // It listens there no more.
  out({ sport: 80, flags: 'S', seq: 100 });
  read();
  assert.deepEqual(plans.at(-1)?.ports, []);
});

test('what the node itself answers comes in nowhere, so its address is believed', () => {
  const { out, read } = scene();
  const toNode = { dst: NODE, dport: 9797 };
  out({ ...toNode, flags: 'S', seq: 100 });
  out({ ...toNode, seq: 101, ack: 501, payload: get(1) });
  const told = read();
  assert.deepEqual(kinds(told), ['open', 'request']);
  assert.ok(told[1]?.kind === 'request' && told[1].ip === NODE);
  out({ ...toNode, flags: 'F', seq: 300, ack: 900 });
  read();
  assert.deepEqual(kinds(read(20_000)), ['close']);
});

test('another protocol makes a connection unreadable; payload that ends a body may hide a request', () => {
  const all = scene();
  const { out, read } = all;
  open(all);
  out({ seq: 101, ack: 501, payload: '\x16\x03\x01\x00' });
  const [, unreadable] = read();
  assert.ok(unreadable?.kind === 'unreadable' && unreadable.protocol === 'tls' && unreadable.ip === POD);
  const other = scene();
  open(other);
  other.out({ seq: 101, ack: 501, payload: 'POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n' });
  other.out({ seq: 139, ack: 600, payload: 'the body and more' });
  const [, , within] = other.read();
  assert.ok(within?.kind === 'request' && within.midStream);
});

test('packets that cannot be read, data in a SYN and connections beyond the limit count as lost', () => {
  const { socket, out, back, read, stats } = scene({ maxFlows: 1 });
  const cut = Buffer.alloc(SENDER_BYTES + 30);
  cut[SENDER_BYTES] = 0x45;
  cut[SENDER_BYTES + 9] = 6;
  socket.packets.push(cut);
  assert.deepEqual(kinds(read()), ['gap']);
  assert.equal(stats.tapMalformed, 1);
  out({ flags: 'S', seq: 100, payload: 'GET /' });
  assert.deepEqual(kinds(read()), ['gap']);
  back({ flags: 'S', seq: 500, ack: 101 });
  assert.deepEqual(kinds(read()), ['open']);
  out({ sport: 40002, flags: 'S', seq: 100 });
  assert.deepEqual(kinds(read()), ['gap']);
});

test('a connection of which no packet comes any more is over after an hour, an opening after the kernel gives up', () => {
  const all = scene();
  open(all);
  all.out({ sport: 40002, flags: 'S', seq: 100 });
  all.read();
  assert.deepEqual(kinds(all.read(3_500_000)), []);
  all.back({ dport: 40002, flags: 'S', seq: 500, ack: 101 });
  assert.deepEqual(kinds(all.read(120_000)), ['close']);
});

test('where conntrack has the connections, a request gets the pod of the address that was dialed, or is lost', () => {
  const { out, back, read, flows, stats } = scene({ conntrack: true });
  const dialed = { src: NGINX, sport: 40001, vip: VIP, vport: 10000, ip: POD, port: 8000 };
  flows.opened({ type: 'new', id: 1, zone: 0, ...dialed, tcpState: undefined, eventMs: undefined }, 1, []);
  out({ flags: 'S', seq: 100 });
  back({ flags: 'S', seq: 500, ack: 101 });
  out({ seq: 101, ack: 501, payload: get(1) });
  const [request, ...rest] = read();
  assert.deepEqual(rest, []);
  assert.ok(request?.kind === 'request');
  assert.deepEqual(
    [request.vip, request.ip, request.port, request.id],
    [VIP, POD, 8000, '1'.padStart(32, '0')],
  );
  // What is dialed may be a Service: its address is nobody's.
  out({ sport: 40002, seq: 101, ack: 501, payload: get(2) });
  out({ seq: 300, ack: 900, payload: get(3) });
  const told = read();
  assert.deepEqual(kinds(told), ['request', 'gap']);
  assert.equal(stats.tapLost, 1);
});

test('that nothing is seen of an address of the own namespace is told once', () => {
  const { packets, unseen } = scene();
  packets.setAddresses([NGINX, NODE], 2_000_000);
  packets.setAddresses([NODE, NGINX], 2_000_001);
  assert.deepEqual(unseen, [NODE]);
});

test('an address that is read no more is forgotten', () => {
  const all = scene();
  open(all);
  all.read();
  all.packets.setAddresses([], 2_000_000);
  assert.equal(all.packets.plan.addresses.size, 0);
});

test('a device with others below it gets packets that they have had', () => {
  const names: Record<number, string> = { 2: 'cni0', 7: 'veth1', 8: 'gone' };
  const listed: string[] = [];
  const devices = new Devices({ deviceName: (index) => names[index] }, (path) => {
    listed.push(path);
    if (path.endsWith('gone')) throw new Error('ENOENT');
    return path.endsWith('cni0') ? ['address', 'lower_veth1'] : ['address', 'upper_cni0'];
  });
  assert.deepEqual(
    [2, 7, 8, 99, 2].map((index) => devices.isStacked(index, 1_000)),
    [true, false, false, false, true],
  );
  assert.equal(listed.length, 3);
  devices.isStacked(2, 100_000);
  assert.equal(listed.length, 4);
});
