import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { inboundSockets } from '../../src/client-sockets.ts';
import { BlindSpots } from '../../src/join/index/blind-spots.ts';
import type { QuietMoment } from '../../src/join/index/quiet-moments.ts';
import { NamespaceWatch } from '../../src/namespace-watch.ts';
import { lineOf, T0, VIP, Wire } from '../model/wire.ts';

const tables = (): string =>
  `${readFileSync('/proc/net/tcp', 'latin1')}\n${readFileSync('/proc/net/tcp6', 'latin1')}`;

async function served(run: (port: number, client: Socket) => void | Promise<void>): Promise<void> {
  const server = createServer(() => {});
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  const client = connect(port, '127.0.0.1');
  await Promise.all([once(client, 'connect'), once(server, 'connection')]);
  try {
    await run(port, client);
  } finally {
    client.destroy();
    server.close();
  }
}

test("the kernel's table shows the clients of listening ports, and not what was dialed from here", async () => {
  const before = inboundSockets(tables(), 0);
  await served((port, client) => {
    const more = [...inboundSockets(tables(), 0)].filter((socket) => !before.has(socket));
    const hex = (n: number): string => n.toString(16).toUpperCase().padStart(4, '0');
    assert.deepEqual(more, [`0100007F:${hex(port)} 0100007F:${hex(client.localPort!)}`]);
    assert.equal(inboundSockets(tables(), port).has(more[0]!), false, 'the own port is left out');
  });
});

const row = (local: string, remote: string, state: string): string =>
  `  0: ${local} ${remote} ${state} 00000000:00000000`;
const LISTENING = row('00000000:0050', '00000000:0000', '0A');
const CLIENT = row('0100007F:0050', '0200007F:1234', '01');
const LATER = row('0100007F:0050', '0200007F:1235', '08');

function watch(addresses: string[], own: () => string[] = () => addresses, quietIsOfUse = true) {
  const blindSpots = new BlindSpots();
  const state = {
    now: T0,
    cpu: 0,
    text: '',
    udp: '',
    unix: '',
    quiet: [] as QuietMoment[],
    looks: 0,
    hiddenAsked: [] as boolean[],
    subscribed: [] as string[][],
    hasFeed: true,
    served: addresses,
  };
  const watching = new NamespaceWatch({
    blindSpots,
    addresses: own,
    served: () => state.served,
    subscribe: (all) => state.hasFeed && state.subscribed.push([...all]) > 0,
    sockets: async (hidden) => {
      state.looks++;
      state.hiddenAsked.push(hidden);
      return { tcp: state.text, udp: state.udp, unix: state.unix };
    },
    onQuiet: quietIsOfUse ? (moment) => state.quiet.push(moment) : undefined,
    isQuietWanted: () => false,
    clockSetBack: () => 0,
    ownPort: 9798,
    clock: () => state.now,
    cpuMs: () => state.cpu,
  });
  watching.close();
  return { blindSpots, state, watching };
}

test('lines without times wait until no client is left that is older than the record', async () => {
  const { blindSpots, state, watching } = watch(['10.244.0.70']);
  assert.equal(blindSpots.isWithinRecord(T0), true);
  state.text = [LISTENING, CLIENT].join('\n');
  watching.recordBegins();
  await new Promise(setImmediate);
  state.now += 5_000;
  state.text = [LISTENING, CLIENT, LATER].join('\n');
  await watching.poll();
  assert.equal(blindSpots.isWithinRecord(T0 + 1e9), false);
  state.now += 5_000;
  state.text = [LISTENING, LATER].join('\n');
  await watching.poll();
  assert.equal(blindSpots.isWithinRecord(state.now), false);
  assert.equal(blindSpots.isWithinRecord(state.now + 1), true);
});

test('where no line needs quiet moments, the sockets of TCP alone are read, and only while clients may be older than the record', async () => {
  const { state, watching } = watch(['10.244.0.70'], undefined, false);
  await watching.poll();
  assert.equal(state.looks, 0);
  state.text = [LISTENING, CLIENT].join('\n');
  watching.recordBegins();
  await new Promise(setImmediate);
  await watching.poll();
  assert.equal(state.looks, 2);
  state.text = LISTENING;
  state.now += 1_000;
  await watching.poll();
  await watching.poll();
  assert.equal(state.looks, 3);
  assert.deepEqual(state.hiddenAsked, [false, false, false]);
  const needed = watch(['10.244.0.70']);
  await needed.watching.poll();
  assert.deepEqual(needed.state.hiddenAsked, [true]);
});

test('after an hour clients older than the record no longer count, as a scraper may stay for days', async () => {
  const { blindSpots, state, watching } = watch(['10.244.0.70']);
  state.text = [LISTENING, CLIENT].join('\n');
  watching.recordBegins();
  await new Promise(setImmediate);
  state.now += 3_599_999;
  await watching.poll();
  assert.equal(blindSpots.isWithinRecord(state.now + 1), false);
  state.now += 1;
  await watching.poll();
  assert.equal(blindSpots.isWithinRecord(state.now + 1), true);
});

test('a new address of nginx voids its family until its records are read, and is asked for once', async () => {
  const own = ['10.244.0.70'];
  const { blindSpots, state, watching } = watch(['10.244.0.70'], () => own);
  await watching.poll();
  assert.equal(blindSpots.isServed(VIP, T0, T0), true);
  own.push('10.244.0.71');
  await watching.poll();
  await watching.poll();
  assert.deepEqual(state.subscribed, [['10.244.0.70', '10.244.0.71']]);
  assert.equal(blindSpots.isServed(VIP, T0 + 1e9, T0 + 1e9), false);
  assert.equal(blindSpots.isServed('fd00::1', T0, T0), true);
  state.served = own;
  state.now += 1_000;
  await watching.poll();
  assert.equal(
    blindSpots.isServed(VIP, T0 + 1_000, T0 + 1_000),
    false,
    'what began before may have left from the new address',
  );
  assert.equal(blindSpots.isServed(VIP, T0 + 1_001, T0 + 1_001), true);
});

test('an address that has come since the last look is found before a line from after it is joined', async () => {
  const own = ['10.244.0.70'];
  let looks = 0;
  const { blindSpots, state, watching } = watch(['10.244.0.70'], () => {
    looks++;
    return own;
  });
  await watching.poll();
  own.push('10.244.0.71');
  assert.equal(blindSpots.isServed(VIP, T0 - 10, T0), true, 'a line from before the look');
  assert.equal(looks, 1);
  state.now += 5;
  assert.equal(blindSpots.isServed(VIP, T0 - 10, T0 + 1), false);
  assert.equal(blindSpots.isServed(VIP, T0 - 10, T0 + 5), false);
  assert.equal(looks, 2, 'one look serves all lines of a block');
  assert.deepEqual(state.subscribed, [['10.244.0.70', '10.244.0.71']]);
});

test('after the clock was set back, addresses are looked at by its new time', async () => {
  const own = ['10.244.0.70'];
  const { blindSpots, state, watching } = watch(['10.244.0.70'], () => own);
  await watching.poll();
  own.push('10.244.0.71');
  state.now -= 3_600_000;
  blindSpots.onClockRollback();
  assert.equal(blindSpots.isServed(VIP, state.now - 10, state.now), false);
});

test('where a look takes 2 ms of CPU, lines cause one in 40 ms', async () => {
  const own = ['10.244.0.70'];
  let looks = 0;
  const { blindSpots, state, watching } = watch(['10.244.0.70'], () => {
    looks++;
    state.cpu += 2;
    return own;
  });
  await watching.poll();
  const line = (): boolean => blindSpots.isServed(VIP, T0, state.now);
  for (; state.now < T0 + 40; state.now++) line();
  assert.equal(looks, 1);
  line();
  assert.equal(looks, 2);
  state.now -= 3_600_000;
  blindSpots.onClockRollback();
  line();
  assert.equal(looks, 3, 'a clock that was set back puts nothing off');
});

for (const [what, line] of [
  ['by requests in the window', lineOf({ end: 5, took: 10 })],
  ['by id', lineOf({ end: 5, took: 10 }, { id: 'a' })],
  ['by port', lineOf({ end: 5, took: 10 }, { attempt: { localPort: 1001 } })],
] as const)
  test(`an address whose records are not read contradicts a match ${what}`, () => {
    const wire = new Wire().open(1002, 2, -1_000).request(1002, 2, -900).open(1001, 1, -1_000);
    wire.request(1001, 1, 0, { id: 'a' }).tick(100).portBelieved();
    wire.index.blindSpots.setUnserved(['10.244.0.71'], T0 - 20);
    assert.equal(wire.says(line, 6), 'gap');
    wire.index.blindSpots.setUnserved([], T0 - 10);
    assert.match(wire.says(line, 6), /^1 /);
  });

test('a line without times is left alone while a client is older than the record, and a line with times is not', () => {
  const wire = new Wire().open(1001, 1, -1_000).request(1001, 1, 0).tick(100);
  wire.index.blindSpots.setOlderClients(true, T0 - 100_000);
  assert.equal(wire.says(lineOf(undefined), 6), 'gap');
  assert.equal(wire.says(lineOf({ end: 5, took: 10 }), 6), '1 sole-backend');
  wire.index.blindSpots.setOlderClients(false, T0 - 20_000);
  assert.equal(wire.says(lineOf(undefined), 6), '1 sole-backend');
});

test('it looks ten times a second only while quiet moments are wanted and of use', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  for (const [ofUse, looks] of [
    [false, 1],
    [true, 10],
  ] as const) {
    let now = T0;
    let looked = 0;
    const watching = new NamespaceWatch({
      blindSpots: new BlindSpots(),
      addresses() {
        looked++;
        return [];
      },
      served: () => [],
      subscribe: () => true,
      sockets: async () => undefined,
      onQuiet: ofUse ? () => {} : undefined,
      isQuietWanted: () => true,
      clockSetBack: () => 0,
      ownPort: 9798,
      clock: () => now,
      cpuMs: () => 0,
    });
    for (let ms = 0; ms < 1_000; ms++) {
      now++;
      t.mock.timers.tick(1);
    }
    watching.close();
    assert.ok(Math.abs(looked - looks) <= 1, `${looked} looks where quiet is ${ofUse ? '' : 'not '}of use`);
  }
});

test('looks that the machine holds up put off none of later lines', async () => {
  const own = ['10.244.0.70'];
  let ofOthers = 0;
  const { blindSpots, state, watching } = watch(['10.244.0.70'], () => {
    state.now += 100;
    state.cpu += ofOthers;
    return [...own];
  });
  await watching.poll();
  ofOthers = 50;
  await watching.poll();
  ofOthers = 0;
  state.now += 5;
  own.push('10.244.0.71');
  assert.equal(blindSpots.isServed(VIP, T0, state.now), false);
});

test('an address that comes while a look is held up is found by the next line', async () => {
  const own = ['10.244.0.70'];
  let during = (): void => {};
  const { blindSpots, state, watching } = watch(['10.244.0.70'], () => {
    const found = [...own];
    during();
    return found;
  });
  await watching.poll();
  during = () => {
    own.push('10.244.0.71');
    state.now += 100;
  };
  await watching.poll();
  during = () => {};
  state.now += 1;
  assert.equal(blindSpots.isServed(VIP, T0, T0 + 90), false, 'of a request that went within the look');
});

test('beside a helper whose clock is ahead, lines do not each cause a look', async () => {
  let looks = 0;
  const { blindSpots, state, watching } = watch(['10.244.0.70'], () => {
    looks++;
    return ['10.244.0.70'];
  });
  await watching.poll();
  looks = 0;
  state.now += 5;
  for (let k = 0; k < 100; k++) blindSpots.isServed(VIP, T0, state.now + 9);
  assert.equal(looks, 1);
  state.now += 1;
  blindSpots.isServed(VIP, T0, state.now + 9);
  assert.equal(looks, 2);
});

test('an address that comes before there is a feed is asked for once there is one', async () => {
  const { state, watching } = watch(['10.244.0.70'], () => ['10.244.0.70', '10.244.0.71']);
  state.hasFeed = false;
  await watching.poll();
  state.hasFeed = true;
  await watching.poll();
  assert.deepEqual(state.subscribed, [['10.244.0.70', '10.244.0.71']]);
});
