/** Connections to nginx as conntrack has them (captured), and the addresses of other nodes as routes have them. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { parseIncoming } from '../../src/capture/conntrack/incoming.ts';
import { gateways4, gateways6 } from '../../src/capture/conntrack/other-nodes.ts';
import { AddressSet, AddressTexts } from '../../src/capture/ip-bytes.ts';

const { messages } = JSON.parse(
  readFileSync(new URL('../fixtures/conntrack/incoming.json', import.meta.url), 'utf8'),
) as { messages: { what: string; hex: string }[] };
const bytesOf = (what: string): Buffer =>
  Buffer.from(messages.find((message) => message.what === what)!.hex, 'hex');

const nginx = new AddressSet();
for (const address of ['10.77.0.70', 'fd77::70']) nginx.add(address);
const texts = new AddressTexts();
const parse = (bytes: Buffer, targets = nginx) => parseIncoming(bytes, 0, bytes.length, targets, texts);

/** `TYPE CLIENT > PEER > NGINX` */
function told(what: string): string {
  const event = parse(bytesOf(what));
  assert.ok(typeof event !== 'string', `${what}: ${event}`);
  const { type, tcpState, assured, ip, port, vip, sport, src, vport } = event;
  return `${type} ${tcpState} ${assured}: ${ip} ${port} > ${vip} ${sport} > ${src} ${vport}`;
}

test('a connection is seen from nginx: who connected, what nginx sees of it, and nginx', () => {
  assert.equal(
    told('IPv4 DNAT and masquerade NEW SYN_SENT'),
    'new 1 false: 10.77.1.9 53048 > 10.77.0.1 4076 > 10.77.0.70 8080',
  );
  assert.equal(
    told('IPv6 DNAT and masquerade UPDATE TIME_WAIT'),
    'update 7 true: fd77:1::9 48166 > fd77::1 36095 > fd77::70 8080',
  );
  assert.equal(
    told('IPv4 DNAT alone UPDATE TIME_WAIT'),
    'update 7 true: 10.77.1.9 40124 > 10.77.1.9 40124 > 10.77.0.70 8080',
  );
  assert.equal(
    told('IPv4 from the node NEW SYN_SENT'),
    'new 1 false: 10.77.0.1 38530 > 10.77.0.1 38530 > 10.77.0.70 8080',
  );
});

test('an end has the type and the id of its opening', () => {
  const opened = parse(bytesOf('IPv4 direct NEW SYN_SENT'));
  const deletion = bytesOf('IPv4 direct UPDATE TIME_WAIT');
  deletion.writeUInt16LE(0x102, 4);
  const ended = parse(deletion);
  assert.ok(typeof opened !== 'string' && typeof ended !== 'string');
  assert.equal(ended.type, 'destroy');
  assert.equal(ended.id, opened.id);
  assert.notEqual(ended.id, 0);
});

test('other connections, other protocols and damaged messages are no events', () => {
  const bytes = bytesOf('IPv4 DNAT and masquerade NEW SYN_SENT');
  const client = new AddressSet();
  client.add('10.77.1.9');
  client.add('10.77.0.1');
  assert.equal(parse(bytes, client), 'other-source');
  const udp = Buffer.from(bytes);
  udp[52] = 17;
  assert.equal(parse(udp), 'not-tcp');
  const other = Buffer.from(bytes);
  other[4] = 9;
  assert.equal(parse(other), 'not-an-event');
  for (let end = 0; end < bytes.length; end++) {
    const event = parseIncoming(bytes, 0, end, nginx, texts);
    // The tuples come first.
    if (end < 120) assert.equal(event, 'malformed', String(end));
  }
  for (const at of [20, 24, 28, 72, 76, 80]) {
    const damaged = Buffer.from(bytes);
    damaged.writeUInt16LE(2, at);
    assert.equal(parse(damaged), 'malformed', `length at ${at}`);
  }
});

const routes = JSON.parse(
  readFileSync(new URL('../fixtures/conntrack/routes.json', import.meta.url), 'utf8'),
) as { ipv4: string; ipv6: string };

test('the gateways of routes are other nodes, but for that of the default route', () => {
  assert.deepEqual(gateways4(routes.ipv4), ['172.18.0.3', '10.244.2.0']);
  assert.deepEqual(gateways6(routes.ipv6), ['fc00:f85:3ccc:e793::3']);
  assert.deepEqual(gateways4(''), []);
  assert.deepEqual(gateways6(''), []);
});
