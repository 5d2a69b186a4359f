/** The upstream's port in the line: what it names, also on direct connections that nobody can read, and when it is believed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FlowIndex } from '../../src/join/index/flow-index.ts';
import { matchLine } from '../../src/join/match.ts';
import type {
  CloseRecord,
  EndpointPort,
  FeedRecord,
  Observation,
  Place,
  Source,
  UnreadableRecord,
} from '../../src/model/feed.ts';
import type { Attempt } from '../../src/model/line.ts';
import { isResolved } from '../../src/model/outcome.ts';
import { lineOf, NGINX, podIp, T0, Wire } from '../model/wire.ts';

const SHOP = { vip: '10.105.148.194', vport: 443 };
const BLOG = { vip: '10.105.148.195', vport: 443 };
const PORT = 8443;
const HOUR = 3_600_000;

type ServicePort = typeof SHOP;

/** A node where the pod is chosen in connect(), and all requests are encrypted. Times are ms after T0. */
class World {
  readonly index = new FlowIndex();
  readonly #via: Source;
  #seq = 0;
  #lines = 0;

  /** `via`: what tells of the connections. */
  constructor(via: 'conntrack' | 'tap' = 'conntrack') {
    this.#via = via;
    const sources: readonly Source[] = via === 'tap' ? ['tap'] : ['conntrack', 'tap'];
    for (const source of sources) this.index.apply({ kind: 'gap', source, t: T0 - HOUR, seq: 0 });
    this.tick(-HOUR);
  }

  apply(observation: Observation): this {
    this.index.apply({ ...observation, seq: ++this.#seq } as FeedRecord);
    return this;
  }

  tick(t: number): this {
    return this.apply({ kind: 'tick', t: T0 + t });
  }

  endpoint(pod: number, t: number, services: readonly ServicePort[], place?: Place): this {
    const of = services.map((service): EndpointPort => {
      const places = place ? { here: true as const, elsewhere: true as const } : {};
      return { port: PORT, ...service, ...places };
    });
    return this.apply({ kind: 'endpoint', t: T0 + t, ip: podIp(pod), of, ...(place ? { place } : {}) });
  }

  /** A connection opens; `protocol`: and carries what cannot be read. */
  open(sport: number, pod: number, t: number, protocol?: UnreadableRecord['protocol']): this {
    this.apply({ kind: 'open', t: T0 + t, ...flow(sport, pod), via: this.#via });
    return protocol ? this.unreadable(sport, pod, t + 1, protocol) : this;
  }

  unreadable(sport: number, pod: number, t: number, protocol: UnreadableRecord['protocol'] = 'tls'): this {
    return this.apply({ kind: 'unreadable', t: T0 + t, ...flow(sport, pod), via: 'tap', protocol });
  }

  close(sport: number, pod: number, t: number, end?: CloseRecord['end']): this {
    const how = end ? { end } : {};
    return this.apply({ kind: 'close', t: T0 + t, ...flow(sport, pod), via: this.#via, ...how });
  }

  gap(source: Source, from: number, t: number): this {
    return this.apply({ kind: 'gap', source, from: T0 + from, t: T0 + t });
  }

  /** What a line says that ended at `end` and is read 1 ms later. */
  says(end: number, { vip, vport }: ServicePort, localPort: number, more: Partial<Attempt> = {}): string {
    this.tick(end + 1 + ++this.#lines / 1_000);
    const line = lineOf({ end, took: 5 }, { attempts: [{ ip: vip, port: vport, localPort, ...more }] });
    const outcome = matchLine(line, T0 + end + 1, this.index).outcomes[0]!;
    return isResolved(outcome) ? `${outcome.ip.split('.')[3]} ${outcome.evidence}` : outcome.reason;
  }

  /** Lines of the Service, each on its own connection to this pod, until the port is believed. */
  learned(to: ServicePort, pod: number, at: number, lines = 2): this {
    for (let k = 0; k < lines; k++) {
      this.open(50_000 + k, pod, at + 10 * k, 'tls');
      this.says(at + 10 * k + 5, to, 50_000 + k);
      this.close(50_000 + k, pod, at + 10 * k + 8, 'fin');
    }
    return this;
  }
}

function flow(sport: number, pod: number) {
  return { src: NGINX, sport, vip: podIp(pod), vport: PORT, ip: podIp(pod), port: PORT };
}

/** Pods 1 and 2 behind both Services, with an encrypted connection each; the port has been learned to be the upstream's. */
function twoServices(via: 'conntrack' | 'tap' = 'conntrack'): World {
  const world = new World(via);
  for (const pod of [1, 2]) world.endpoint(pod, -HOUR, [SHOP, BLOG]);
  world.tick(-60_000).open(1001, 1, -50_000, 'tls').open(1002, 2, -50_000, 'tls');
  return world.learned(SHOP, 1, -30_000).learned(BLOG, 1, -20_000);
}

for (const via of ['conntrack', 'tap'] as const) {
  test(`the port names the pod of two Services’ connections that cannot be read (${via})`, () => {
    const world = twoServices(via);
    assert.equal(world.says(6, SHOP, 1002), '2 source-port');
    assert.equal(world.says(7, BLOG, 1001), '1 source-port');
    assert.equal(world.says(8, BLOG, 1002), '2 source-port', 'kept connections serve both in turn');
  });

  test(`a port that two connections had while the request ran settles nothing (${via})`, () => {
    const reused = (closed: number): World => twoServices(via).close(1001, 1, closed).open(1001, 2, 2, 'tls');
    assert.equal(reused(2).says(6, SHOP, 1001), 'ambiguous', 'the line’s request may have begun at 1');
    assert.equal(reused(0).says(6, SHOP, 1001), '2 source-port', 'the first was over when the request began');
    const unsent = { headerMs: undefined, status: undefined };
    if (via === 'conntrack')
      assert.equal(reused(0).says(6, SHOP, 1001, unsent), 'ambiguous', 'not for certain');
    const same = twoServices(via).close(1001, 1, -40, 'fin').open(1001, 1, -20, 'tls');
    assert.equal(same.says(6, SHOP, 1001), '1 source-port', 'to the same pod');
  });

  test(`a sidecar’s own connection from the same port is a candidate, too (${via})`, () => {
    const world = twoServices(via).open(1002, 1, -10);
    assert.equal(world.says(6, SHOP, 1002), 'ambiguous');
    // To a pod that is no endpoint of the Service.
    const beside = twoServices(via).endpoint(3, -HOUR, [BLOG]).open(1002, 3, -10);
    assert.equal(beside.says(6, SHOP, 1002), 'ambiguous', 'as far as the helper has learned');
    assert.equal(beside.says(7, BLOG, 1001), '1 source-port');
    const helper = twoServices(via).apply({ kind: 'endpoint', t: T0 - HOUR, ip: podIp(4), helper: PORT });
    assert.equal(helper.open(1002, 4, -10).says(6, SHOP, 1002), '2 source-port', 'to the helper');
  });

  test(`an address that another pod has by now is the former Service’s for connections of that time (${via})`, () => {
    const moved = (opened: number): World => {
      const world = new World(via).endpoint(1, -HOUR, [SHOP]).endpoint(2, -HOUR, [SHOP]);
      world.tick(-500_000).learned(SHOP, 2, -490_000);
      world
        .endpoint(1, -300_000, [])
        .endpoint(1, -290_000, [BLOG])
        .tick(opened - 1);
      return world.open(1001, 1, opened, 'tls');
    };
    assert.equal(moved(-400_000).says(6, SHOP, 1001), '1 source-port');
    assert.equal(
      moved(-181_000).says(6, SHOP, 1001),
      '1 source-port',
      'the load balancer may not have heard',
    );
    assert.equal(moved(-170_000).says(6, SHOP, 1001), 'ambiguous');
  });

  test(`a connection that no Service explains is not named by its port (${via})`, () => {
    const world = twoServices(via).apply({ kind: 'endpoint', t: T0 - HOUR, ip: podIp(3) });
    world.open(1003, 3, -10, 'tls');
    assert.equal(world.says(6, SHOP, 1003), 'ambiguous');
    // Learned later than the load balancer did.
    world.endpoint(3, 30, [SHOP]);
    assert.equal(world.says(40, SHOP, 1003), '3 source-port');
  });
}

test('until lines have shown that the port is the upstream’s, nothing is named by it', () => {
  const unlearned = (): World => {
    const world = new World();
    for (const pod of [1, 2]) world.endpoint(pod, -HOUR, [SHOP]);
    return world.tick(-60_000).open(1001, 1, -50_000, 'tls').open(1002, 2, -50_000, 'tls');
  };
  const world = unlearned();
  assert.deepEqual(
    [0, 1, 2].map((k) => world.says(6 + k, SHOP, k % 2 ? 1002 : 1001)),
    ['ambiguous', '2 source-port', '1 source-port'],
  );
  // With more connections an accident is likelier.
  const busy = unlearned();
  for (let k = 0; k < 3_000; k++) busy.open(2_000 + k, 1, -40_000, 'tls');
  const said = Array.from({ length: 10 }, (_, k) => busy.says(6 + k, SHOP, 2_000 + k));
  assert.equal(said.indexOf('1 source-port'), 6);
  // Of a full index most are of another time than the line's.
  const full = unlearned();
  for (let k = 0; k < 30_000; k++) full.open(2_000 + k, 1, -40_000, 'tls');
  const slowly = Array.from({ length: 30 }, (_, k) => full.says(6 + k, SHOP, 2_000 + k));
  assert.equal(slowly.indexOf('1 source-port'), 19);
  // One port in all lines, as that of a client that keeps its connection, may be a connection's by one accident.
  const kept = unlearned();
  for (let k = 0; k < 30; k++) assert.equal(kept.says(6 + k, SHOP, 1002), 'ambiguous');
  // Not by another rule either: it would select by the port, too.
  const translated = new Wire().open(1, 1, -500).unreadable(1, 1, -499, 'tls').open(2, 2, -500).tick(100);
  const line = lineOf({ end: 5, took: 5 }, { attempt: { localPort: 1 } });
  assert.equal(translated.says(line, 6), 'ambiguous');
  assert.equal(translated.portBelieved().says(line, 6), '1 source-port');
});

test('a field with another number, now and then that of a connection, names nothing', () => {
  const world = new World();
  for (const pod of [1, 2]) world.endpoint(pod, -HOUR, [SHOP]);
  world.tick(-60_000);
  for (let k = 0; k < 200; k++) world.open(40_000 + k, 1 + (k % 2), -50_000, 'tls');
  const said = new Set<string>();
  // A client's port: each fourth line has one that a connection has, too.
  for (let k = 0; k < 400; k++) said.add(world.says(100 * k, SHOP, k % 4 ? 50_000 + k : 40_000 + (k % 200)));
  assert.deepEqual([...said].sort(), ['ambiguous', 'no-flow']);
});

test('a line whose port no connection has ends the belief for ten seconds, and until lines agree anew', () => {
  const world = twoServices();
  assert.equal(world.says(6, SHOP, 1001), '1 source-port');
  assert.equal(world.says(7, SHOP, 1009), 'no-flow');
  assert.equal(world.says(9_000, SHOP, 1002), 'ambiguous');
  assert.equal(world.says(9_001, BLOG, 1001), '1 source-port', 'another Service’s lines are believed');
  assert.equal(world.says(20_000, SHOP, 1001), '1 source-port');
  const missed = twoServices();
  assert.equal(missed.says(7, SHOP, 1009), 'no-flow');
  assert.equal(missed.says(20_000, SHOP, 1001), 'ambiguous');
  assert.equal(missed.says(20_001, SHOP, 1002), '2 source-port');
  // An attempt without an answer may have had a port on which nothing opened.
  const unsent = { headerMs: undefined, status: 502 };
  assert.equal(world.says(20_001, SHOP, 1009, unsent), 'no-flow');
  assert.equal(world.says(20_002, SHOP, 1001), '1 source-port');
});

test('packets of connections that cannot be read show that a place’s connections are in the record', () => {
  const hidden = (protocol: UnreadableRecord['protocol'] | undefined): World => {
    const world = new World().endpoint(1, -HOUR, [SHOP], 'here').endpoint(2, -HOUR, [SHOP], 'elsewhere');
    world.tick(-60_000).open(1001, 1, -50_000, 'tls').open(1002, 2, -50_000, protocol);
    return world;
  };
  assert.equal(hidden(undefined).says(6, SHOP, 1001), 'no-flow');
  assert.equal(hidden('offloaded').says(6, SHOP, 1001), 'no-flow', 'of that conntrack told, not the tap');
  const seen = hidden('tls');
  assert.equal(seen.says(6, SHOP, 1001), 'ambiguous');
  assert.equal(seen.says(7, SHOP, 1002), '2 source-port');
});

test('what was learned outlasts a time in which connections to a new place may pass unseen', () => {
  const here = { place: 'here', of: [{ port: PORT, ...SHOP, here: true }] } as const;
  const world = new World().apply({ kind: 'endpoint', t: T0 - HOUR, ip: podIp(1), ...here });
  world.tick(-60_000).open(1001, 1, -50_000, 'tls').learned(SHOP, 1, -30_000);
  assert.equal(world.says(6, SHOP, 1001), '1 source-port');
  world.endpoint(2, 10, [SHOP], 'elsewhere');
  assert.equal(world.says(20, SHOP, 1001), 'no-flow');
  world.open(1002, 2, 30, 'tls');
  assert.equal(world.says(40, SHOP, 1002), '2 source-port');
  assert.equal(world.says(50, SHOP, 1001), '1 source-port');
});

test('by packets nothing is named across their gap, and only what was certainly sent', () => {
  const world = twoServices('tap');
  assert.equal(world.says(6, SHOP, 1001, { headerMs: undefined, status: undefined }), 'gap');
  world.gap('tap', 10, 20);
  assert.equal(world.says(15, SHOP, 1001), 'gap', 'a packet of an unknown connection may be among the lost');
  assert.equal(world.says(30, SHOP, 1001), '1 source-port');
  const conntrack = twoServices().gap('conntrack', 10, 20);
  assert.equal(
    conntrack.says(15, SHOP, 1001),
    'gap',
    'packets that are no openings do not replace conntrack',
  );
});

test('the packets that a helper reads which reads no openings any more are no evidence for the port', () => {
  const world = twoServices('tap');
  world.index.apply({ kind: 'gap', source: 'tap', t: T0 + 10, seq: 0 });
  world.tick(20).unreadable(1001, 1, 21);
  assert.equal(world.says(30, SHOP, 1001), 'gap');
  world.open(1001, 1, 40);
  assert.equal(world.says(50, SHOP, 1001), '1 source-port');
});

test('refused attempts teach the port, too; one whose connection was not seen only ends what was learned', () => {
  const refused = lineOf(
    { end: 15, took: 15 },
    { attempt: { localPort: 1, connectMs: null, headerMs: null, responseMs: null, status: 502 } },
  );
  const from = (localPort: number) => {
    return { ...refused, attempts: refused.attempts.map((each) => ({ ...each, localPort })) };
  };
  const wire = new Wire().open(1, 1, 5).close(1, 1, 6).open(2, 2, 5).close(2, 2, 6).tick(100);
  const said = [1, 2, 1, 9, 1, 2].map((localPort) => wire.says(from(localPort), 16));
  const not = 'unconnected';
  assert.deepEqual(said, [not, '2 source-port', '1 source-port', not, not, '2 source-port']);
});

test('where nothing tells of all connections, requests teach the port, and name by it', () => {
  for (const times of [{ end: 50, took: 20 }, undefined]) {
    const wire = new Wire(undefined, ['tap']).request(1, 1, 35).request(2, 2, 36).tick(200);
    const line = (localPort: number) => lineOf(times, { attempt: { localPort } });
    const said = [1, 2, 1].map((localPort) => wire.says(line(localPort), 60));
    assert.deepEqual(said, ['gap', '2 request-window', '1 request-window']);
  }
});

test('lines that do not tell whether they were answered teach the port, too', () => {
  for (const times of [{ end: 50, took: 20 }, undefined]) {
    const untold = { connectMs: undefined, headerMs: undefined, responseMs: undefined, status: undefined };
    const wire = new Wire().open(1, 1, -500).open(2, 2, -500).tick(200);
    const line = (localPort: number) => lineOf(times, { attempt: { ...untold, localPort } });
    const said = [1, 2, 1, 9, 1, 2].map((localPort) => wire.says(line(localPort), 60));
    const not = 'ambiguous';
    assert.deepEqual(said, [not, '2 source-port', '1 source-port', 'no-flow', not, '2 source-port']);
  }
});
