import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Directory, type NameObservation } from '../../src/cluster/directory.ts';
import { service, slice } from './api-server.ts';

function directory() {
  const records: NameObservation[] = [];
  const clock = { now: 1000 };
  const names = new Directory(
    (record) => records.push(record),
    () => clock.now,
  );
  return { names, records, clock, slices: names.slices(), services: names.services() };
}

const said = (records: readonly NameObservation[]) =>
  records.map(({ t, ip, pod, namespace, service }) => `${t} ${ip} ${namespace}/${pod} ${service}`);

test('a pod behind a Service gets its name, a ClusterIP the Service’s', () => {
  const { records, slices, services } = directory();
  slices.upsert(slice('shop', 'cart', 'x', [{ ip: '10.0.0.7', pod: 'cart-1', node: 'n1' }]));
  services.upsert(service('shop', 'cart', ['10.96.0.9', 'fd00:0::9']));
  services.upsert(service('shop', 'headless', []));
  assert.deepEqual(records, [
    { kind: 'name', t: 1000, ip: '10.0.0.7', pod: 'cart-1', namespace: 'shop', node: 'n1', service: 'cart' },
    { kind: 'name', t: 1000, ip: '10.96.0.9', pod: '', namespace: 'shop', node: '', service: 'cart' },
    { kind: 'name', t: 1000, ip: 'fd00::9', pod: '', namespace: 'shop', node: '', service: 'cart' },
  ]);
});

test('an address that goes to another pod has the old name before and the new one after', () => {
  const { names, records, clock, slices } = directory();
  slices.upsert(slice('a', 's', 'x', [{ ip: '10.0.0.7', pod: 'old' }]));
  clock.now = 2000;
  slices.upsert(slice('a', 's', 'x', []));
  clock.now = 3000;
  slices.upsert(slice('a', 's', 'x', [{ ip: '10.0.0.7', pod: 'new' }]));
  assert.deepEqual(said(records), ['1000 10.0.0.7 a/old s', '2000 10.0.0.7 / ', '3000 10.0.0.7 a/new s']);
  assert.equal(names.lookup('10.0.0.7', 1500)?.pod, 'old');
  assert.equal(names.lookup('10.0.0.7', 2500), undefined);
  assert.equal(names.lookup('10.0.0.7')?.pod, 'new');
  assert.deepEqual(said([...names.history('10.0.0.7')]), said(records));
});

test('a deleted pod’s name is remembered for ten minutes, then nothing of it is left', () => {
  const { names, clock, slices } = directory();
  slices.upsert(slice('a', 's', 'x', [{ ip: '10.0.0.7', pod: 'old' }]));
  clock.now = 2000;
  slices.remove(slice('a', 's', 'x', []));
  clock.now = 2000 + 599_000;
  slices.upsert(slice('a', 'other', 'x', [{ ip: '10.0.0.8', pod: 'b' }]));
  assert.equal(names.lookup('10.0.0.7', 1500)?.pod, 'old');
  clock.now = 2000 + 600_000;
  slices.upsert(slice('a', 'other', 'x', [{ ip: '10.0.0.8', pod: 'c' }]));
  assert.equal(names.lookup('10.0.0.7', 1500), undefined);
  assert.equal(names.addresses, 1);
});

test('an address that two pods share is given to neither', () => {
  const { names, slices } = directory();
  slices.upsert(slice('a', 's', 'x', [{ ip: '10.0.0.1', pod: 'p1', node: 'n' }]));
  slices.upsert(slice('b', 't', 'x', [{ ip: '10.0.0.1', pod: 'p2', node: 'n' }]));
  assert.equal(names.lookup('10.0.0.1'), undefined);
  assert.deepEqual(
    names.podsAt('10.0.0.1').map((each) => each.pod),
    ['p1', 'p2'],
  );
  slices.remove(slice('a', 's', 'x', []));
  assert.equal(names.lookup('10.0.0.1')?.pod, 'p2');
});

test('two pods at one address in one slice count as two', () => {
  const { names, slices } = directory();
  slices.upsert(
    slice('a', 's', 'x', [
      { ip: '10.0.0.1', pod: 'p1' },
      { ip: '10.0.0.1', pod: 'p2' },
    ]),
  );
  assert.equal(names.lookup('10.0.0.1'), undefined);
});

test('a pod behind several Services goes by the first in the alphabet, whatever came first', () => {
  const { names, slices } = directory();
  slices.upsert(slice('a', 'web', 'x', [{ ip: '10.0.0.1', pod: 'p' }]));
  slices.upsert(slice('a', 'api', 'x', [{ ip: '10.0.0.1', pod: 'p' }]));
  assert.equal(names.lookup('10.0.0.1')?.service, 'api');
  slices.remove(slice('a', 'api', 'x', []));
  assert.equal(names.lookup('10.0.0.1')?.service, 'web');
});

test('endpoints made by hand carry the Service but no pod, names of hosts nothing', () => {
  const { names, slices, records } = directory();
  slices.upsert(slice('a', 'db', 'x', [{ ip: '192.0.2.5' }]));
  slices.upsert({ ...slice('a', 'ext', 'x', [{ ip: 'db.example.com' }]), addressType: 'FQDN' });
  assert.deepEqual(names.lookup('192.0.2.5'), { pod: '', namespace: 'a', node: '', service: 'db' });
  assert.equal(records.length, 1);
});

test('readiness changes say nothing new', () => {
  const { records, slices } = directory();
  slices.upsert(slice('a', 's', 'x', [{ ip: '10.0.0.1', pod: 'p' }]));
  slices.upsert(slice('a', 's', 'x', [{ ip: '10.0.0.1', pod: 'p', terminating: true }]));
  assert.equal(records.length, 1);
});

test('what a new list no longer has is gone', () => {
  const { names, slices, services } = directory();
  services.upsert(service('a', 's', ['10.96.0.1']));
  slices.upsert(slice('a', 's', 'x', [{ ip: '10.0.0.1', pod: 'p' }]));
  slices.upsert(slice('a', 's', 'y', [{ ip: '10.0.0.2', pod: 'q' }]));
  slices.listing();
  slices.upsert(slice('a', 's', 'y', [{ ip: '10.0.0.2', pod: 'q' }]));
  slices.listed();
  assert.equal(names.lookup('10.0.0.1'), undefined);
  assert.equal(names.lookup('10.0.0.2')?.pod, 'q');
  assert.equal(names.lookup('10.96.0.1')?.service, 's');
});

test('memory stays bounded while pods come and go', () => {
  const { names, slices, clock } = directory();
  for (let round = 0; round < 30_000; round++) {
    clock.now += 1;
    slices.upsert(
      slice('a', 's', 'x', [{ ip: `10.1.${(round >> 8) & 255}.${round & 255}`, pod: `p${round}` }]),
    );
  }
  assert.ok(names.addresses <= 20_001, `${names.addresses} addresses`);
});
