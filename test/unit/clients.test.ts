/** Who the client behind a node's address was. Each check is here with what goes wrong without it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { missingForClients } from '../../src/join/clients/client-finder.ts';
import { compileLogFormat } from '../../src/parse/log-format.ts';
import { ANN, BOB, FORMATS, NODE, World } from '../model/client-world.ts';
import { T0 } from '../model/wire.ts';

for (const name of ['realip', 'port'] as const)
  test(`the port names the client, whoever else comes by the same address (${name})`, () => {
    const world = new World(name, name === 'port');
    world.client(ANN, -1_000).client(BOB, -900, { port: 4001 }).tick(100);
    assert.equal(world.says({ end: 5, port: 4000 }), ANN);
    assert.equal(world.says({ end: 5, port: 4001 }), BOB);
    assert.deepEqual(world.finder.counters.evidence, { port: 2, address: 0 });
  });

test('without the port, all connections from the address have to be of one client', () => {
  const world = new World('times', true).client(ANN, -1_000).client(ANN, -900, { port: 4001 }).tick(100);
  assert.equal(world.says({ end: 5 }), ANN);
  world.client(BOB, 4, { port: 4002 }).tick(200);
  assert.equal(world.says({ end: 150 }), 'ambiguous');
  assert.equal(world.says({ end: 150, took: 0 }, 300), 'gap', 'the record does not go so far yet');
});

test('a port that comes round names nobody while both may have carried the line', () => {
  const world = new World('port', true).client(ANN, -20_000).ends(ANN, -500).client(BOB, -100).tick(100);
  assert.equal(world.says({ end: 5 }), 'ambiguous', 'nginx may write a second after the end');
  world.tick(2_000);
  assert.equal(world.says({ end: 1_000 }), BOB);
});

test('a connection that was reset may have left a request with nginx', () => {
  const world = new World('port', true)
    .client(ANN, -20_000)
    .ends(ANN, -3_000, 'gone')
    .client(BOB, -100)
    .tick(9_000);
  assert.equal(world.says({ end: 5 }), 'ambiguous');
  assert.equal(world.says({ end: 8_000, took: 6_000 }), 'ambiguous', 'nginx went on without its client');
  assert.equal(world.says({ end: 8_000 }), BOB);
});

test('a connection that opened after the request had begun did not carry it', () => {
  const world = new World('port', true);
  // A hundred lines show that nginx's clock does not lag.
  for (let n = 0; n < 200; n++) world.wire.index.lineClock.observe(T0 - 50_000, T0 - 50_000 + 2);
  world.client(ANN, -20_000).ends(ANN, -1_000).tick(-900).client(BOB, -800).tick(9_000);
  assert.equal(world.says({ end: 4_000, took: 6_000 }), 'no-flow');
  assert.equal(world.says({ end: 4_000, took: 100 }), BOB);
});

test('a client that the node does not translate is itself, also behind the node’s address', () => {
  const world = new World('port', true).client(ANN, -1_000).client(NODE, -1_000, { port: 4001 }).tick(100);
  assert.equal(world.says({ end: 5, peer: ANN }), 'itself');
  assert.equal(world.says({ end: 5, port: 4001 }), 'itself', 'a probe of the node’s own');
});

test('a probe from the node’s own address is a candidate for a line without the port', () => {
  const world = new World('times', true).client(ANN, -1_000).client(NODE, -1_000, { port: 4001 }).tick(100);
  assert.equal(world.says({ end: 5 }), 'ambiguous');
});

test('nothing is said before the node has translated a connection', () => {
  const world = new World('port', true).client(NODE, -1_000).tick(100);
  assert.equal(world.says({ end: 5 }), 'itself');
});

test('an address that realip has changed is left alone', () => {
  const world = new World('realip').client(ANN, -1_000).client(BOB, -900, { port: 4001 }).tick(100);
  assert.equal(world.says({ end: 5, real: '10.9.9.9', realPort: 4001 }), 'itself');
  assert.equal(world.says({ end: 5, port: 4001, realPort: 4000 }), ANN, 'the port may be changed alone');
});

test('the port is no evidence where only the address is known to be unchanged', () => {
  const world = new World('halfReal').client(ANN, -1_000).tick(100);
  assert.equal(world.says({ end: 5, port: 4444 }), ANN);
  world.client(BOB, 110, { port: 4444 }).tick(300);
  assert.equal(world.says({ end: 150, port: 4000 }), 'ambiguous');
  assert.equal(world.says({ end: 150, port: 4000, real: BOB }), 'itself');
});

test('where realip may have changed the address, connections from anywhere are candidates', () => {
  for (const name of ['port', 'times'] as const) {
    const world = new World(name).client(ANN, -1_000).tick(100);
    assert.equal(world.says({ end: 5 }), ANN);
    assert.equal(world.says({ end: 5, port: 4444 }), ANN, 'the port is no evidence');
    world.client('10.244.0.99', -500, { port: 999, peer: '10.244.0.99' }).tick(200);
    assert.equal(world.says({ end: 150 }), 'realip', name);
  }
  const world = new World('port').client(ANN, -1_000).client(BOB, -900, { port: 4001 }).tick(100);
  assert.equal(world.says({ end: 5, port: 4000 }), 'realip');
  const foreign = new World('port').client(ANN, -90_000).ends(ANN, -80_000).tick(-10_000);
  foreign.client('10.244.0.99', -500, { port: 999, peer: '10.244.0.99' }).tick(200);
  assert.equal(foreign.says({ end: 5 }), 'realip', 'the one connection there is comes from elsewhere');
  assert.equal(
    new World('port').client(ANN, -90_000).ends(ANN, -80_000).tick(100).says({ end: 5 }),
    'realip',
  );
});

test('where realip may have changed the address, nginx’s addresses of both families have to be served', () => {
  const world = new World('port').client(ANN, -1_000).tick(100);
  world.wire.index.blindSpots.setUnserved(['fd00::70'], T0 - 10_000);
  assert.equal(world.says({ end: 5 }), 'gap');
  const known = new World('port', true).client(ANN, -1_000).tick(100);
  known.wire.index.blindSpots.setUnserved(['fd00::70'], T0 - 10_000);
  assert.equal(known.says({ end: 5 }), ANN);
  known.wire.index.blindSpots.setUnserved(['10.244.9.9'], T0 - 10_000);
  assert.equal(known.says({ end: 5 }), 'gap');
});

test('a format without the address, a time or the protocol cannot show clients', () => {
  const missing = (text: string) => missingForClients(compileLogFormat(text));
  assert.equal(missing('$msec "$request" $upstream_addr'), '$remote_addr');
  assert.equal(missing('$remote_addr "$request" $upstream_addr'), '$msec');
  assert.equal(missing('$remote_addr $msec $upstream_addr'), '$request');
  assert.equal(missing(FORMATS.article), undefined);
});
