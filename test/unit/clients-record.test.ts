/** What the record of clients' connections has to contain for a line to name one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ANN, BOB, OTHER_NODE, World } from '../model/client-world.ts';
import { T0 } from '../model/wire.ts';

test('nothing is named across a gap, before the record, or before it is complete', () => {
  const world = new World('port', true).client(ANN, -1_000).tick(-500);
  world.apply({ kind: 'gap', t: T0 - 100, from: T0 - 200, source: 'conntrack' }).tick(100);
  assert.equal(world.says({ end: 5 }), 'gap');
  world.tick(20_000);
  assert.equal(world.says({ end: 10_000 }), ANN);
  world.begins(15_000, false);
  assert.equal(world.says({ end: 10_000 }), 'gap', 'the helper lists the connections anew');
  world.begins(15_000).client(ANN, -1_000, { more: { preexisting: true } });
  assert.equal(
    world.says({ end: 16_000 }),
    'gap',
    'a connection that was gone before may have left its request',
  );
  assert.equal(world.says({ end: 19_990, took: 0 }, 19_995), 'gap');
  world.tick(40_000);
  assert.equal(world.says({ end: 30_000 }), ANN);
});

test('connections that the helper no longer lists are gone', () => {
  const world = new World('times', true).client(ANN, -1_000).client(BOB, -1_000, { port: 4001 });
  world
    .begins(0)
    .client(ANN, -1_000, { more: { preexisting: true } })
    .tick(50_000);
  assert.equal(world.says({ end: 40_000 }), ANN);
});

test('a feed that begins anew, and a clock that is set back, void what was known', () => {
  const world = new World('port', true).client(ANN, -1_000).tick(100);
  world.apply({ kind: 'gap', t: T0 + 50, source: 'conntrack' }).tick(90_000);
  assert.equal(world.says({ end: 80_000 }), 'gap');
  const back = new World('port', true).client(ANN, -1_000).tick(100);
  back.finder.onClockRollback(T0 + 50_000);
  back.tick(100_000);
  assert.equal(back.says({ end: 52_000 }), 'gap');
  assert.equal(back.says({ end: 90_000 }), ANN);
});

test('a line without a duration is of a connection that was open when it was written', () => {
  const world = new World('article', true)
    .client(ANN, -70_000)
    .ends(ANN, -3_000)
    .client(BOB, -1_500, { port: 4001 });
  world.tick(2_500);
  assert.equal(world.says({ end: 1_500 }), BOB);
  const gone = new World('article', true).client(ANN, -70_000).ends(ANN, -3_000, 'gone');
  gone.client(BOB, -1_500, { port: 4001 }).tick(2_500);
  assert.equal(gone.says({ end: 1_500 }), 'ambiguous', 'nginx may have gone on with a request of it');
  const young = new World('article', true).begins(-50_000).client(ANN, -40_000).tick(2_500);
  assert.equal(young.says({ end: 1_500 }), 'gap', 'a minute of record has to be before it');
});

test('HTTP/3 has no connection in the record', () => {
  const world = new World('port', true).client(ANN, -1_000).tick(100);
  assert.equal(world.says({ end: 5, protocol: 'HTTP/3.0' }), 'no-flow');
  assert.equal(world.says({ end: 5, protocol: 'HTTP/2.0' }), ANN);
});

test('another node’s address hides a client whom only that node knows', () => {
  const world = new World('port', true).begins(-500, 'as before', [OTHER_NODE]).client(ANN, -400).tick(100);
  assert.equal(world.says({ end: 5, peer: OTHER_NODE }), 'other-node');
  assert.equal(world.says({ end: 5 }), ANN, 'complete as before');
  world.begins(-300, 'as before', []);
  assert.equal(world.says({ end: 5, peer: OTHER_NODE }), 'itself');
});

test('nginx’s clock ahead of the node’s: no logged time is a bound', () => {
  const world = new World('port', true).client(ANN, -1_000).tick(100);
  world.wire.index.lineClock.observe(T0 + 10, T0);
  assert.equal(world.says({ end: 5 }), 'gap');
});

test('a helper whose clock is behind: what ended before the line by its clock may have carried it', () => {
  const world = new World('port', true).client(ANN, -20_000).ends(ANN, -3_000).client(BOB, -2_900).tick(100);
  assert.equal(world.says({ end: 5, took: 0 }), BOB);
  world.wire.index.feedClock.observe(T0 + 100, T0 + 4_100);
  assert.equal(world.says({ end: 5, took: 0 }), 'ambiguous');
});

test('a request that ran while the clock was set back', () => {
  const world = new World('port', true).client(ANN, -1_000).tick(100);
  world.wire.index.coverage.repeatedUntil = T0 + 500;
  assert.equal(world.says({ end: 5, took: 0 }), 'gap');
});

test('at the limit of ended connections lines that may be theirs name nobody', () => {
  const world = new World('port', true, { open: 10, ended: 2 });
  for (let n = 0; n < 4; n++)
    world.client(ANN, -900 + n, { port: 5000 + n }).ends(ANN, -800 + n, 'fin', 5000 + n);
  world.client(BOB, -700).tick(100).tick(5_000);
  assert.equal(world.says({ end: 5 }), 'gap');
  assert.equal(world.says({ end: 4_000, took: 0 }), BOB);
  assert.equal(world.table.counters.forgotten, 2);
  assert.equal(world.table.size, 3);
});

test('of two connections with one port, as of two conntrack zones, the end of one leaves the other', () => {
  const world = new World('port', true)
    .client(ANN, -90_000)
    .client(BOB, -89_000)
    .ends(ANN, -80_000)
    .tick(100);
  assert.equal(world.says({ end: 5 }), BOB);
  const same = new World('port', true).client(ANN, -90_000).client(ANN, -89_000, { more: { clientPort: 7 } });
  same.ends(ANN, -80_000).client(BOB, -79_000).tick(100);
  assert.equal(same.says({ end: 5 }), 'ambiguous', 'one of the first client’s is still open');
});

test('a reset connection that is forgotten at the limit may have left a request with nginx', () => {
  const world = new World('port', true, { open: 10, ended: 1 });
  for (let n = 0; n < 3; n++) world.client(ANN, -3_900).ends(ANN, -3_000 + n, 'gone');
  world.client(BOB, -700).tick(100).tick(9_500);
  assert.equal(world.says({ end: 5 }), 'gap');
  assert.equal(world.says({ end: 9_000 }), BOB);
});

test('what a feed before knew is no candidate in the next one', () => {
  for (const name of ['port', 'times'] as const) {
    const world = new World(name, true, { open: 10, ended: 1 }).client(ANN, -1_000).tick(100);
    for (let n = 0; n < 3; n++) world.client(ANN, 200, { port: 5000 }).ends(ANN, 300, 'gone', 5000);
    world.tick(350).apply({ kind: 'gap', t: T0 + 400, source: 'conntrack' });
    world
      .begins(500)
      .client(BOB, 400, { more: { preexisting: true } })
      .tick(50_000);
    assert.equal(world.says({ end: 40_000 }), BOB, name);
    assert.equal(world.table.size, 1);
  }
});

test('after the clock was set back, a record that was not complete stays so', () => {
  const world = new World('port', true).client(ANN, -1_000).ends(ANN, 0).client(ANN, 50, { port: 4001 });
  world.begins(60, false).tick(100);
  world.finder.onClockRollback(T0 - 50_000);
  world.tick(60_000);
  assert.equal(world.says({ end: 50_000, port: 4001 }), 'gap');
  assert.equal(world.table.size, 0);
});

test('at the limit of open connections the table is void until the helper lists them anew', () => {
  const world = new World('port', true, { open: 2, ended: 10 });
  for (let n = 0; n < 3; n++) world.client(ANN, -900, { port: 5000 + n });
  world.tick(100);
  assert.equal(world.table.counters.overflows, 1);
  assert.equal(world.says({ end: 5, port: 5000 }), 'gap');
  assert.equal(world.table.size, 0);
});

test('ended connections are forgotten in time, with all that was kept of them', () => {
  const world = new World('port', true)
    .client(ANN, -1_000)
    .ends(ANN, 0)
    .client(BOB, 10)
    .ends(BOB, 20, 'gone');
  world.tick(61_000);
  assert.equal(world.table.size, 1);
  world.tick(601_000);
  assert.equal(world.table.size, 0);
  assert.equal(world.says({ end: 600_000 }), 'no-flow');
});
