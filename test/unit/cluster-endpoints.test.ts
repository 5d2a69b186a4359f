/** Of which Service ports an address is an endpoint, from EndpointSlices and Services as the API server has them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type EndpointObservation, Endpoints } from '../../src/cluster/endpoints.ts';
import { encodeRecord, RecordDecoder } from '../../src/feed/codec.ts';
import { type Stored, service, slice } from './api-server.ts';

const POD = '10.244.1.1';
const VIP = '10.105.148.194';

type Port = { name?: string; port?: number; protocol?: string };

const withPorts = (object: Stored, ports: readonly Port[]): Stored =>
  object.kind === 'Service'
    ? { ...object, spec: { ...(object.spec as object), ports } }
    : { ...object, ports };

function world(node?: string) {
  const records: EndpointObservation[] = [];
  const clock = { now: 1_000_000 };
  const endpoints = new Endpoints(
    (record) => records.push(record),
    () => clock.now,
    node,
  );
  const slices = endpoints.slices();
  const services = endpoints.services();
  const list = (into: typeof slices, objects: readonly Stored[]): void => {
    into.listing();
    for (const object of objects) into.upsert(object);
    into.listed();
  };
  return {
    endpoints,
    slices,
    services,
    records,
    clock,
    list,
    /** What the address is an endpoint of now. */
    of: (ip = POD): unknown => [...endpoints.history(ip)].at(-1)!.of,
    history: (ip = POD) => [...endpoints.history(ip)].map(({ t, of }) => [t, of?.length]),
  };
}

/** Where the helper does not know its node, endpoints may be on it and on others. */
const ANYWHERE = { here: true, elsewhere: true } as const;
const leads = (port: number, vport: number, vip = VIP) => ({ port, vip, vport, ...ANYWHERE });

test('nothing is known until both kinds are listed, nor while the watch of one is lost', () => {
  const { slices, services, list, of, clock, history } = world();
  const shop = service('shop', 'a', [VIP]);
  list(slices, [slice('shop', 'a', 'x', [{ ip: POD }])]);
  assert.equal(of(), undefined);
  clock.now += 10;
  list(services, [shop]);
  assert.deepEqual(of(), [leads(10000, 10000)]);
  clock.now += 10;
  services.lost();
  assert.equal(of(), undefined);
  clock.now += 10;
  list(services, [shop]);
  assert.deepEqual(history(), [
    [1_000_000, undefined],
    [1_000_010, 1],
    [1_000_020, undefined],
    [1_000_030, 1],
  ]);
  assert.equal(of('10.244.9.9'), undefined);
});

test('ports go together by name, whatever their numbers, over all slices of a Service', () => {
  const { slices, services, list, of } = world();
  const ports = [
    { name: 'http', port: 80 },
    { name: 'admin', port: 81, protocol: 'TCP' },
    { name: 'dns', port: 53, protocol: 'UDP' },
  ];
  list(services, [withPorts(service('shop', 'a', [VIP, 'fd00::1']), ports)]);
  // A named targetPort may be another number in each pod: a slice for each.
  const one = withPorts(slice('shop', 'a', 'x', [{ ip: POD }]), [
    { name: 'http', port: 8000 },
    { name: 'admin', port: 9000 },
    { name: 'dns', port: 5353, protocol: 'UDP' },
  ]);
  const two = withPorts(slice('shop', 'a', 'y', [{ ip: '10.244.1.2' }]), [{ name: 'http', port: 8080 }]);
  list(slices, [one, two]);
  assert.deepEqual(of(), [
    leads(8000, 80),
    leads(8000, 80, 'fd00::1'),
    leads(9000, 81),
    leads(9000, 81, 'fd00::1'),
  ]);
  assert.deepEqual(of('10.244.1.2'), [leads(8080, 80), leads(8080, 80, 'fd00::1')]);
});

test('Services over the same pod, a headless one, external and load balancer addresses', () => {
  const { slices, services, list, of } = world();
  const b = service('shop', 'b', ['10.105.148.195']);
  const outside = {
    ...b,
    spec: { ...(b.spec as object), externalIPs: ['198.51.100.7'] },
    status: { loadBalancer: { ingress: [{ ip: '203.0.113.9' }, { hostname: 'lb' }] } },
  };
  list(services, [service('shop', 'a', [VIP]), outside, service('shop', 'bare', [])]);
  list(slices, [
    slice('shop', 'a', 'x', [{ ip: POD }]),
    slice('shop', 'b', 'x', [{ ip: POD }]),
    slice('shop', 'bare', 'x', [{ ip: '10.244.1.2' }]),
    slice('blog', 'a', 'x', [{ ip: '10.244.1.3' }]),
  ]);
  assert.deepEqual(of(), [
    leads(10000, 10000),
    leads(10000, 10000, '10.105.148.195'),
    leads(10000, 10000, '198.51.100.7'),
    leads(10000, 10000, '203.0.113.9'),
  ]);
  assert.deepEqual(of('10.244.1.2'), [{ port: 10000 }]);
  // Another namespace's Service of the same name.
  assert.deepEqual(of('10.244.1.3'), [{ port: 10000 }]);
});

test('an endpoint that terminates or is not ready counts; one that is gone, or whose Service is, does from then on not', () => {
  const { slices, services, list, of, records, clock } = world();
  list(services, [service('shop', 'a', [VIP])]);
  list(slices, [slice('shop', 'a', 'x', [{ ip: POD }, { ip: '10.244.1.2' }])]);
  const { length } = records;
  clock.now += 10;
  slices.upsert(slice('shop', 'a', 'x', [{ ip: POD, terminating: true }, { ip: '10.244.1.2' }]));
  assert.equal(records.length, length, 'nothing has changed');
  slices.upsert(slice('shop', 'a', 'x', [{ ip: '10.244.1.2' }]));
  assert.deepEqual(records.slice(length), [{ kind: 'endpoint', t: clock.now, ip: POD, of: [] }]);
  services.remove(service('shop', 'a', [VIP]));
  assert.deepEqual(of('10.244.1.2'), [{ port: 10000 }]);
  list(slices, []);
  assert.deepEqual(of('10.244.1.2'), []);
});

test('all endpoints of a Service are told whether it has some on this node, and on others', () => {
  const { slices, services, list, records, history } = world('n1');
  const NEAR = { port: 10000, vip: VIP, vport: 10000, here: true };
  list(services, [service('shop', 'a', [VIP])]);
  list(slices, [slice('shop', 'a', 'x', [{ ip: POD, node: 'n1' }])]);
  assert.deepEqual(records.at(-1), { kind: 'endpoint', t: 1_000_000, ip: POD, of: [NEAR], place: 'here' });
  const two = slice('shop', 'a', 'y', [{ ip: '10.244.1.2', node: 'n2' }]);
  slices.upsert(two);
  const FAR = { ...NEAR, elsewhere: true };
  assert.deepEqual(records.slice(-2), [
    { kind: 'endpoint', t: 1_000_000, ip: '10.244.1.2', of: [FAR], place: 'elsewhere' },
    { kind: 'endpoint', t: 1_000_000, ip: POD, of: [FAR], place: 'here' },
  ]);
  const { length } = records;
  slices.upsert(slice('shop', 'a', 'z', [{ ip: '10.244.1.3', node: 'n3' }]));
  assert.equal(records.length, length + 1, 'nothing has changed for the others');
  slices.remove(two);
  slices.remove(slice('shop', 'a', 'z', []));
  assert.deepEqual(records.at(-1), { kind: 'endpoint', t: 1_000_000, ip: POD, of: [NEAR], place: 'here' });
  // One without a node may be anywhere.
  slices.upsert(slice('shop', 'a', 'w', [{ ip: '10.244.1.4' }]));
  assert.deepEqual(records.at(-2), { kind: 'endpoint', t: 1_000_000, ip: '10.244.1.4', of: [FAR] });
  assert.equal(history('10.244.1.4').length, 1);
});

test('a past state is remembered for ten minutes', () => {
  const { slices, services, list, clock, history, endpoints } = world();
  list(services, [service('shop', 'a', [VIP])]);
  const there = slice('shop', 'a', 'x', [{ ip: POD }]);
  list(slices, [there]);
  clock.now += 10;
  slices.remove(there);
  assert.deepEqual(history(), [
    [1_000_000, 1],
    [1_000_010, 0],
  ]);
  clock.now += 600_001;
  slices.upsert(slice('shop', 'a', 'y', [{ ip: '10.244.1.2' }]));
  assert.equal(endpoints.addresses, 1);
  assert.deepEqual(history(), [[clock.now, undefined]]);
});

test('a slice for every port, one of no Service, and too many Service ports', () => {
  const { slices, services, list, of } = world();
  const many = Array.from({ length: 65 }, (_, i) => ({ name: `p${i}`, port: 1000 + i }));
  list(services, [service('shop', 'a', [VIP]), withPorts(service('shop', 'many', ['10.105.0.1']), many)]);
  const bare = slice('shop', 'a', 'x', [{ ip: '10.244.1.2' }]);
  list(slices, [
    withPorts(slice('shop', 'a', 'y', [{ ip: POD }]), [{ name: '' }]),
    { ...bare, metadata: { ...bare.metadata, labels: {} } },
    withPorts(slice('shop', 'many', 'x', [{ ip: '10.244.1.3' }]), many),
  ]);
  for (const ip of [POD, '10.244.1.2', '10.244.1.3']) assert.equal(of(ip), undefined, ip);
});

test('a record goes over the wire as it is, and a damaged one ends the feed', () => {
  const decoded = (text: string) => new RecordDecoder().push(Buffer.from(text));
  for (const of of [undefined, [], [{ port: 1 }, leads(8000, 80, 'fd00::1')]]) {
    const record = { kind: 'endpoint' as const, t: 5, ip: POD, ...(of ? { of } : {}) };
    assert.deepEqual(decoded(encodeRecord(record, 0)).records, [{ ...record, seq: 0 }]);
  }
  for (const of of [
    '{}',
    '[1]',
    '[{"port":1,"vip":"a b","vport":1}]',
    '[{"port":1,"vport":2}]',
    '[{"port":-1}]',
  ]) {
    const { error } = decoded(`{"kind":"endpoint","seq":0,"t":1,"ip":"${POD}","of":${of}}\n`);
    assert.match(error ?? '', /^incomplete endpoint/, of);
  }
});

test('the helper’s own addresses are told with its port, whatever else is known of them', () => {
  const records: EndpointObservation[] = [];
  const own = { port: 9797, isAt: (ip: string) => ip === '10.0.0.5' };
  const endpoints = new Endpoints(
    (record) => records.push(record),
    () => 1,
    'n',
    own,
  );
  const last = (ip: string) => [...endpoints.history(ip)].at(-1)!;
  assert.deepEqual(last('10.0.0.5'), { kind: 'endpoint', t: 1, ip: '10.0.0.5', helper: 9797 });
  assert.equal(last(POD).helper, undefined);
  const decoded = new RecordDecoder().push(Buffer.from(encodeRecord(last('10.0.0.5'), 0)));
  assert.deepEqual(decoded, { records: [{ ...last('10.0.0.5'), seq: 0 }], error: undefined });
  const bad = new RecordDecoder().push(
    Buffer.from('{"kind":"endpoint","seq":0,"t":1,"ip":"10.0.0.5","helper":"x"}\n'),
  );
  assert.match(bad.error!, /^incomplete endpoint/);
});
