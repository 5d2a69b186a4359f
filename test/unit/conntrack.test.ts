import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { type ConntrackEvent, parseConntrack, parseCounts } from '../../src/capture/conntrack/message.ts';
import { AddressSet, AddressTexts } from '../../src/capture/ip-bytes.ts';
import { parseKmsg } from '../../src/capture/kernel-log/kmsg-message.ts';
import { parseLogRecord } from '../../src/capture/kernel-log/record.ts';

interface Captured {
  what: string;
  hex: string;
}

const captured = JSON.parse(
  readFileSync(new URL('../fixtures/conntrack/messages.json', import.meta.url), 'utf8'),
).messages as Captured[];

const texts = new AddressTexts();

function parse(bytes: Buffer, sources?: AddressSet) {
  return parseConntrack(bytes, 0, bytes.length, sources, texts);
}

function messageOf(what: string): Buffer {
  const found = captured.find((message) => message.what === what);
  assert.ok(found, what);
  return Buffer.from(found.hex, 'hex');
}

const STATES: Record<string, number> = {
  SYN_SENT: 1,
  SYN_RECV: 2,
  ESTABLISHED: 3,
  FIN_WAIT: 4,
  LAST_ACK: 6,
  TIME_WAIT: 7,
  CLOSE: 8,
};

for (const { what, hex } of captured) {
  test(`conntrack message: ${what}`, () => {
    const bytes = Buffer.from(hex, 'hex');
    const event = parse(bytes);
    if (what.startsWith('UDP')) {
      assert.equal(event, 'not-tcp');
      return;
    }
    assert.ok(typeof event !== 'string', String(event));
    const type = what.includes(' NEW ') ? 'new' : what.includes(' DESTROY ') ? 'destroy' : 'update';
    assert.equal(event.type, type);
    const state = Object.keys(STATES).find((name) => what.includes(name))!;
    assert.equal(event.tcpState, STATES[state]);
    assert.equal(event.zone, 0);
    assert.notEqual(event.id, 0);
    const v6 = what.startsWith('IPv6');
    assert.equal(event.src, v6 ? 'fd77::70' : '10.77.0.70');
    if (what.includes('iptables DNAT')) {
      assert.deepEqual([event.vip, event.vport], [v6 ? 'fd78::1' : '10.78.0.1', 10000]);
    } else if (what.includes('nft DNAT')) {
      assert.deepEqual([event.vip, event.vport], [v6 ? 'fd79::1' : '10.79.0.1', 80]);
    } else {
      assert.deepEqual([event.vip, event.vport], [event.ip, event.port]);
    }
    assert.match(event.ip, v6 ? /^fd77::10[12]$/ : /^10\.77\.0\.10[12]$/);
    assert.equal(event.port, what.includes('refused') ? 9 : 8080);
    assert.equal(event.eventMs !== undefined, what.includes('timestamp'));
  });
}

test("IPVS: conntrack tells the Service as dialled and the pod that was chosen, and LOG records of the pod's rule agree", () => {
  const read = (name: string) => readFileSync(new URL(`../fixtures/ipvs/${name}`, import.meta.url), 'latin1');
  const events = (JSON.parse(read('messages.json')).messages as string[]).map((hex) =>
    parse(Buffer.from(hex, 'hex')),
  );
  const told = new Map<number, string>();
  const types = new Set<string>();
  for (const event of events) {
    assert.ok(typeof event !== 'string', String(event));
    assert.deepEqual(
      [event.src, event.vip, event.vport, event.port],
      ['10.244.0.70', '10.105.148.194', 80, 10000],
    );
    assert.equal(told.get(event.sport) ?? event.ip, event.ip);
    told.set(event.sport, event.ip);
    types.add(event.type);
  }
  assert.deepEqual([...types], ['new', 'update']);
  const logged = new Map<number, string>();
  for (const line of read('kmsg.txt').trimEnd().split('\n')) {
    const record = parseLogRecord(parseKmsg(`${line}\n`)!.text);
    assert.ok(typeof record !== 'string', String(record));
    logged.set(record.sport, record.dst);
  }
  assert.deepEqual(logged, told);
});

test('the parts of one connection agree in all its messages', () => {
  const keyOf = (what: string) => {
    const event = parse(messageOf(what)) as ConntrackEvent;
    return [event.id, event.src, event.sport, event.vip, event.vport, event.ip, event.port];
  };
  const first = keyOf('IPv4 nft DNAT NEW SYN_SENT');
  for (const later of ['UPDATE ESTABLISHED', 'UPDATE TIME_WAIT']) {
    assert.deepEqual(keyOf(`IPv4 nft DNAT ${later}`), first);
  }
});

test("the kernel's time of an event is taken to the microsecond", () => {
  const event = parse(messageOf('IPv4 iptables DNAT NEW SYN_SENT, nf_conntrack_timestamp and _acct on'));
  assert.ok(typeof event !== 'string');
  assert.ok(event.eventMs! > Date.UTC(2024, 0) && event.eventMs! < Date.UTC(2100, 0));
});

test('connections from other addresses are told apart before anything else is read', () => {
  const sources = new AddressSet();
  sources.add('10.77.0.70');
  assert.equal(typeof parse(messageOf('IPv4 iptables DNAT NEW SYN_SENT'), sources), 'object');
  assert.equal(parse(messageOf('IPv6 iptables DNAT NEW SYN_SENT'), sources), 'other-source');
  sources.add('fd77::70');
  assert.equal(typeof parse(messageOf('IPv6 iptables DNAT NEW SYN_SENT'), sources), 'object');
  sources.delete('10.77.0.70');
  assert.equal(parse(messageOf('IPv4 iptables DNAT NEW SYN_SENT'), sources), 'other-source');
});

test('a message cut anywhere gives the same connection or none, never half of one', () => {
  for (const what of ['IPv4 iptables DNAT NEW SYN_SENT', 'IPv6 nft DNAT DESTROY TIME_WAIT']) {
    const whole = messageOf(what);
    const { src, sport, vip, vport, ip, port, type } = parse(whole) as ConntrackEvent;
    for (let length = 0; length < whole.length; length++) {
      const event = parse(whole.subarray(0, length));
      if (typeof event === 'string') continue;
      const { tcpState: _, assured: _a, offloaded: _o, id: _id, zone: _zone, eventMs: _ms, ...flow } = event;
      assert.deepEqual(flow, { src, sport, vip, vport, ip, port, type });
    }
  }
});

test('any bytes give an event or a reason', () => {
  const skips = ['other-source', 'not-tcp', 'not-an-event', 'malformed'];
  const check = (bytes: Buffer) => {
    const event = parse(bytes);
    if (typeof event === 'string') assert.ok(skips.includes(event));
    else assert.ok(event.sport >= 0 && event.port >= 0 && event.src !== '' && event.ip !== '');
  };
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => check(Buffer.from(bytes))),
    { numRuns: 2000 },
  );
  const change = fc.tuple(
    fc.nat(captured.length - 1),
    fc.array(fc.tuple(fc.nat(400), fc.nat(255)), { maxLength: 6 }),
  );
  fc.assert(
    fc.property(change, ([which, changes]) => {
      const bytes = Buffer.from(captured[which]!.hex, 'hex');
      for (const [at, value] of changes) bytes[at % bytes.length] = value;
      check(bytes);
    }),
    { numRuns: 5000 },
  );
});

test('packets and bytes of a counted connection are its payload and their headers', () => {
  for (const [family, headers] of [
    ['IPv4', 20 + 32],
    ['IPv6', 40 + 32],
  ] as const) {
    const bytes = messageOf(`${family} nft DNAT GET TIME_WAIT, nf_conntrack_acct on`);
    const { id } = parse(bytes) as ConntrackEvent;
    const found = parseCounts(bytes, 0, bytes.length);
    assert.equal(found?.id, id);
    const { sentPackets, sentBytes, receivedPackets, receivedBytes } = found.counts;
    // 33 bytes were sent and 596 received. The first packet of each side has 8 bytes of options more.
    assert.equal(sentBytes - sentPackets * headers - 8, 33);
    assert.equal(receivedBytes - receivedPackets * headers - 8, 596);
  }
});

test('where the kernel does not count, or the message is cut, there are no counts', () => {
  const plain = messageOf('IPv4 iptables DNAT UPDATE TIME_WAIT');
  assert.equal(parseCounts(plain, 0, plain.length), undefined);
  const whole = messageOf('IPv4 nft DNAT GET TIME_WAIT, nf_conntrack_acct on');
  const counts = parseCounts(whole, 0, whole.length);
  for (let end = 0; end < whole.length; end++) {
    const found = parseCounts(whole, 0, end);
    if (found) assert.deepEqual(found, counts);
  }
});
