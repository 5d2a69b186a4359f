/** A load balancer in connect() chooses the pod: nginx logs the Service's address, and every connection goes to a pod's own. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FlowIndex } from '../../src/join/index/flow-index.ts';
import { DEFAULT_LIMITS, type IndexLimits } from '../../src/join/index/limits.ts';
import { matchLine } from '../../src/join/match.ts';
import type {
  EndpointPort,
  FeedRecord,
  Observation,
  Place,
  RequestRecord,
  Source,
} from '../../src/model/feed.ts';
import type { Attempt } from '../../src/model/line.ts';
import { isResolved } from '../../src/model/outcome.ts';
import { lineOf, NGINX, podIp, T0 } from '../model/wire.ts';

const SHOP = { vip: '10.105.148.194', vport: 80 };
const BLOG = { vip: '10.105.148.195', vport: 80 };
const PORT = 8000;
const HOUR = 3_600_000;

type ServicePort = typeof SHOP;
const at = ({ vip, vport }: ServicePort, more: Partial<Attempt> = {}) => ({ ip: vip, port: vport, ...more });
const leads = (...services: readonly ServicePort[]): EndpointPort[] =>
  services.map((service) => ({ port: PORT, ...service }));

/** A feed whose record begins an hour ago. Times are ms after T0. */
class World {
  readonly index: FlowIndex;
  #seq = 0;

  constructor(limits: IndexLimits = DEFAULT_LIMITS, sources: readonly Source[] = ['conntrack', 'tap']) {
    this.index = new FlowIndex(limits);
    this.begin(-HOUR, sources);
  }

  /** A feed of a helper with these sources begins. */
  begin(t: number, sources: readonly Source[]): this {
    for (const source of sources) this.index.apply({ kind: 'gap', source, t: T0 + t, seq: 0 });
    return this.tick(t);
  }

  #apply(observation: Observation): this {
    this.index.apply({ ...observation, seq: ++this.#seq } as FeedRecord);
    return this;
  }

  tick(t: number): this {
    return this.#apply({ kind: 'tick', t: T0 + t });
  }

  /** From `t` on the pod's address is an endpoint of these. */
  endpoint(pod: number, t: number, of: readonly EndpointPort[] | undefined, place?: Place): this {
    const known = { ...(of ? { of } : {}), ...(place ? { place } : {}) };
    return this.#apply({ kind: 'endpoint', t: T0 + t, ip: podIp(pod), ...known });
  }

  /** The helper serves the feed at this address and port. */
  helper(pod: number, t: number, helper: number): this {
    return this.#apply({ kind: 'endpoint', t: T0 + t, ip: podIp(pod), helper });
  }

  open(sport: number, pod: number, t: number, to: Partial<ServicePort> & { port?: number } = {}): this {
    return this.#apply({ kind: 'open', t: T0 + t, ...flow(sport, pod, to), via: 'conntrack' });
  }

  request(
    sport: number,
    pod: number,
    t: number,
    id: string | undefined,
    more: Partial<RequestRecord> & { port?: number } = {},
  ): this {
    const of = { ...flow(sport, pod, more), bytes: 100, singleSegment: true as const };
    return this.#apply({ kind: 'request', t: T0 + t, via: 'tap', ...(id ? { id } : {}), ...of, ...more });
  }

  /** What a line says that is read 1 ms after its end, at `end`: `pod evidence`, or the reason. */
  says(end: number, id: string | undefined, ...attempts: readonly Partial<Attempt>[]): string {
    return this.saysAll(end, id, ...attempts).at(-1)!;
  }

  saysAll(end: number, id: string | undefined, ...attempts: readonly Partial<Attempt>[]): string[] {
    this.tick(end + 1_000);
    const line = lineOf({ end, took: 5 }, { attempts, ...(id ? { id } : {}) });
    const { outcomes, matched } = matchLine(line, T0 + end + 1, this.index);
    this.index.markMatched(matched);
    return outcomes.map((outcome) =>
      isResolved(outcome) ? `${outcome.ip.split('.')[3]} ${outcome.evidence}` : outcome.reason,
    );
  }
}

function flow(
  sport: number,
  pod: number,
  { vip = podIp(pod), vport, port = PORT }: Partial<ServicePort> & { port?: number },
) {
  return { src: NGINX, sport, vip, vport: vport ?? port, ip: podIp(pod), port };
}

/** Pods 1 and 2 behind both Services, with one connection each; nginx's requests go to pod 1. */
function twoServices(): World {
  const world = new World();
  for (const pod of [1, 2]) world.endpoint(pod, -HOUR, leads(SHOP, BLOG));
  return world.tick(-60_000).open(1001, 1, -50_000).open(1002, 2, -50_000).tick(-1);
}

test('by its id a request on a direct connection names the pod for an attempt on the Service', () => {
  const world = twoServices().request(1001, 1, 1, 'one').request(1002, 2, 2, 'two');
  assert.equal(world.says(6, 'one', at(SHOP)), '1 request-id');
  assert.equal(world.says(7, 'two', at(BLOG)), '2 request-id');
});

test('where nothing is known of endpoints nothing is named, and an address that is no Service’s has none', () => {
  const unknown = new World().open(1001, 1, -50_000).tick(-1).request(1001, 1, 1, 'one');
  assert.equal(unknown.says(6, 'one', at(SHOP)), 'no-flow');
  // A sidecar’s own loopback, say: the request with the id is an auth_request’s to a Service.
  const world = twoServices().request(1001, 1, 1, 'one');
  assert.equal(world.says(6, 'one', { ip: '127.0.0.1', port: 9000 }), 'no-flow');
});

/** A connection of two minutes ago: whatever the load balancer knew of endpoints then the helper has told since. */
const OLD = -130_000;

test('a pod that is an endpoint of another Service only has not served the attempt', () => {
  const world = new World()
    .endpoint(1, -HOUR, leads(SHOP))
    .endpoint(2, -HOUR, leads(BLOG))
    .tick(OLD - 1);
  world.open(1001, 1, OLD).open(1002, 2, OLD).tick(-1);
  world.request(1001, 1, 1, 'mirrored').request(1002, 2, 2, 'mirrored');
  assert.equal(world.says(6, 'mirrored', at(SHOP)), '1 request-id');
  assert.equal(world.says(7, undefined, at(SHOP)), '1 sole-backend');
});

test('of a young connection the helper may have yet to learn that its pod is an endpoint', () => {
  const young = (opened: number): World => {
    const world = new World().endpoint(1, -HOUR, leads(SHOP)).endpoint(2, -HOUR, leads(BLOG));
    world
      .tick(OLD - 1)
      .open(1001, 1, OLD)
      .tick(opened - 1)
      .open(1002, 2, opened)
      .tick(-1);
    return world.request(1001, 1, 1, 'mirrored').request(1002, 2, 2, 'mirrored');
  };
  assert.equal(young(-119_000).says(6, 'mirrored', at(SHOP)), '1 request-id');
  assert.equal(young(-118_000).says(6, 'mirrored', at(SHOP)), 'ambiguous');
  assert.equal(young(-119_000).says(7, undefined, at(SHOP)), '1 sole-backend');
  assert.equal(young(-118_000).says(7, undefined, at(SHOP)), 'ambiguous');
  // The one request with the id is a mirror's to the other Service: the line's own has its client's.
  assert.equal(young(-118_000).request(1002, 2, 8, 'one').says(10, 'one', at(SHOP)), 'ambiguous');
});

test('of two Services over the same pods, a request with the id to each leaves both in doubt', () => {
  const world = twoServices().request(1001, 1, 1, 'mirrored').request(1002, 2, 2, 'mirrored');
  assert.equal(world.says(6, 'mirrored', at(SHOP)), 'ambiguous');
  // A connection without a request may hide one.
  const used = (): World => twoServices().request(1002, 2, -20_000, undefined);
  assert.equal(used().request(1001, 1, 1, undefined).says(6, undefined, at(SHOP)), '1 request-window');
  const both = used().request(1001, 1, 1, undefined).request(1002, 2, 2, undefined);
  assert.equal(both.says(6, undefined, at(SHOP)), 'ambiguous');
});

test('Services whose endpoints share an address are told apart by their ports', () => {
  const world = new World().endpoint(1, -HOUR, [
    { port: 8000, ...SHOP },
    { port: 9000, ...BLOG },
  ]);
  world.endpoint(2, -HOUR, leads(SHOP)).tick(OLD - 1);
  world.open(1001, 1, OLD, { port: 9000 }).open(1002, 2, OLD).tick(-1);
  world.request(1001, 1, 1, 'mirrored', { port: 9000 }).request(1002, 2, 2, 'mirrored');
  assert.equal(world.says(6, 'mirrored', at(SHOP)), '2 request-id');
  assert.equal(world.says(6, 'mirrored', at(BLOG)), '1 request-id');
});

test('an address that another pod has by now is the former Service’s for connections of that time, and two minutes longer', () => {
  const moved = (opened: number): World => {
    const world = new World().endpoint(1, -HOUR, leads(SHOP)).endpoint(2, -HOUR, leads(SHOP));
    world
      .endpoint(1, -300_000, [])
      .endpoint(1, -290_000, leads(BLOG))
      .tick(opened - 1);
    return world.open(1001, 1, opened).tick(-1).request(1001, 1, 1, 'one');
  };
  assert.equal(moved(-400_000).says(6, 'one', at(SHOP)), '1 request-id');
  // The load balancer may not have heard of the change yet.
  assert.equal(moved(-181_000).says(6, 'one', at(SHOP)), '1 request-id');
  assert.equal(moved(-170_000).says(6, 'one', at(SHOP)), 'no-flow');
  assert.equal(moved(-170_000).says(6, 'one', at(BLOG)), '1 request-id');
});

test('a pod is an endpoint for connections from two minutes before the helper learned of it', () => {
  const learned = (t: number): World => {
    const world = new World().endpoint(1, -HOUR, leads(BLOG)).endpoint(2, -HOUR, leads(SHOP));
    world.tick(-50_001).open(1001, 1, -50_000).tick(-1).request(1001, 1, 1, 'one');
    return world.endpoint(1, t, leads(BLOG, SHOP));
  };
  assert.equal(learned(69_000).says(6, 'one', at(SHOP)), '1 request-id');
  assert.equal(learned(71_000).says(6, 'one', at(SHOP)), 'ambiguous');
});

test('a pod that is connected to for the first time, or becomes an endpoint, counts though the Service was asked for before', () => {
  const world = new World().endpoint(1, -HOUR, leads(SHOP)).endpoint(2, -HOUR, leads(SHOP));
  world
    .endpoint(3, -HOUR, leads(BLOG))
    .tick(OLD - 1)
    .open(1001, 1, OLD)
    .tick(-1);
  assert.equal(world.request(1001, 1, 1, 'one').says(6, 'one', at(SHOP)), '1 request-id');
  world.open(1002, 2, 2_000).request(1001, 1, 2_006, 'two').request(1002, 2, 2_007, undefined);
  assert.equal(world.says(2_010, 'two', at(SHOP)), 'ambiguous');
  world
    .open(1003, 3, 4_000)
    .tick(124_001)
    .request(1001, 1, 124_006, 'three')
    .request(1003, 3, 124_007, undefined);
  assert.equal(world.says(124_010, 'three', at(SHOP)), '1 request-id', 'an endpoint of another Service');
  world.endpoint(3, 126_000, leads(BLOG, SHOP));
  world.open(1004, 3, 126_001).request(1001, 1, 126_006, 'four').request(1004, 3, 126_007, undefined);
  assert.equal(world.says(126_010, 'four', at(SHOP)), 'ambiguous');
});

test('a connection that no Service explains may be any Service’s', () => {
  const beside = (of: EndpointPort[] | undefined): World => {
    const world = new World()
      .endpoint(1, -HOUR, leads(SHOP))
      .endpoint(3, -HOUR, of)
      .tick(OLD - 1);
    return world.open(1001, 1, OLD).open(1003, 3, OLD).tick(-1);
  };
  // Another cluster’s pod, one whose Services are not known, and one on a port that no Service leads to.
  for (const of of [undefined, [], [{ port: 9000, ...BLOG }]]) {
    const world = beside(of).request(1001, 1, 1, undefined).request(1003, 3, 2, undefined);
    assert.equal(world.says(6, undefined, at(SHOP)), 'ambiguous');
    assert.equal(beside(of).request(1003, 3, 2, 'one').says(6, 'one', at(SHOP)), '3 request-id');
  }
  const explained = beside(leads(BLOG)).request(1001, 1, 1, undefined).request(1003, 3, 2, undefined);
  assert.equal(explained.says(6, undefined, at(SHOP)), '1 sole-backend');
  const headless = beside([{ port: PORT }])
    .request(1001, 1, 1, undefined)
    .request(1003, 3, 2, undefined);
  assert.equal(headless.says(6, undefined, at(SHOP)), '1 sole-backend');
});

test('where packets alone tell of connections, those of the helper before are over when the next one begins', () => {
  const world = new World(DEFAULT_LIMITS, ['tap']);
  for (const pod of [1, 2]) world.endpoint(pod, -HOUR, leads(SHOP));
  world.tick(-260_000).open(1001, 1, -250_000).open(1002, 2, -250_000).tick(-240_000);
  world.request(1001, 1, -239_000, undefined);
  // The connection to pod 2, on which no request was seen, may carry one unseen.
  assert.equal(world.request(1001, 1, -199_994, undefined).says(-199_990, undefined, at(SHOP)), 'gap');
  world.begin(-90_000, ['tap']).tick(-10_000);
  assert.equal(world.request(1001, 1, 1, undefined).says(6, undefined, at(SHOP)), '1 request-window');
  // One that is open in truth is told of by its next request.
  world.tick(2_000).request(1002, 2, 2_001, undefined).request(1001, 1, 2_002, undefined);
  assert.equal(world.says(2_006, undefined, at(SHOP)), 'gap');
});

test('a sidecar’s own connection to the helper is no attempt’s', () => {
  const beside = (helper: number | undefined): World => {
    const world = new World().endpoint(1, -HOUR, leads(SHOP));
    if (helper !== undefined) world.helper(3, -10, helper);
    world.tick(-60_000).open(1001, 1, -50_000).open(1003, 3, -50_000).tick(-1);
    return world.request(1001, 1, 1, undefined).request(1003, 3, 2, undefined);
  };
  assert.equal(beside(undefined).says(6, undefined, at(SHOP)), 'ambiguous');
  assert.equal(beside(PORT + 1).says(6, undefined, at(SHOP)), 'ambiguous');
  assert.equal(beside(PORT).says(6, undefined, at(SHOP)), '1 sole-backend');
  // Where a Service leads to the helper, nginx may have dialed that.
  const behind = beside(PORT).endpoint(3, -HOUR, leads(SHOP));
  assert.equal(behind.says(6, undefined, at(SHOP)), 'ambiguous');
});

test('without an id no pod is named that is not known as an endpoint', () => {
  const world = new World().endpoint(1, -HOUR, leads(SHOP)).endpoint(3, -HOUR, undefined).tick(-60_000);
  world.open(1003, 3, -50_000).tick(-1).request(1003, 3, 1, undefined);
  assert.equal(world.says(6, undefined, at(SHOP)), 'ambiguous');
});

test('a pod that nginx names itself keeps its address, and its requests are no other Service’s', () => {
  const world = new World()
    .endpoint(1, -HOUR, leads(SHOP))
    .endpoint(3, -HOUR, [{ port: PORT }])
    .tick(-60_000);
  world.open(1001, 1, -50_000).open(1003, 3, -50_000).tick(-1);
  world.request(1001, 1, 1, 'one').request(1003, 3, 2, 'two');
  assert.equal(world.says(6, 'two', { ip: podIp(3), port: PORT }), 'direct');
  assert.equal(world.says(6, 'one', at(SHOP)), '1 request-id');
  assert.equal(world.says(6, 'two', at(SHOP)), 'ambiguous');
});

test('a client that sends an id of another request leaves the line in doubt', () => {
  const forged = (bare: boolean): World => {
    const world = twoServices();
    // A location that sets no id: clients write their own.
    if (bare) world.request(1002, 2, -2, undefined);
    return world.request(1001, 1, 1, 'seen-elsewhere').request(1002, 2, 2, 'the-lines');
  };
  assert.equal(forged(false).says(6, 'the-lines', at(SHOP)), '2 request-id');
  assert.equal(forged(true).says(6, 'the-lines', at(SHOP)), 'ambiguous');
  const unread = twoServices().request(1001, 1, 1, 'the-lines').request(1002, 2, 2, undefined);
  assert.equal(unread.says(6, 'the-lines', at(SHOP)), 'ambiguous');
});

test('a line whose id was not seen is not named by what else was seen', () => {
  const world = twoServices().request(1001, 1, -20, 'before').request(1001, 1, 1, undefined);
  assert.equal(world.says(6, 'not-seen', at(SHOP)), 'ambiguous');
});

const UNSENT = { connectMs: undefined, headerMs: undefined, responseMs: undefined, status: undefined };

test('an attempt that a load balancer may have refused without a packet is not named by another’s request', () => {
  const gone = (): World => {
    const world = new World()
      .endpoint(1, -HOUR, leads(SHOP, BLOG))
      .tick(-60_000)
      .open(1001, 1, -50_000)
      .tick(-10);
    return world;
  };
  const stays = gone().request(1001, 1, 1, 'one');
  assert.equal(stays.says(6, 'one', at(SHOP, UNSENT)), '1 request-id');
  const left = gone().endpoint(1, -5, leads(BLOG)).request(1001, 1, 1, 'one');
  assert.equal(left.says(6, 'one', at(SHOP, UNSENT)), 'ambiguous');
  const answered = gone().endpoint(1, -5, leads(BLOG)).request(1001, 1, 1, 'one');
  assert.equal(answered.says(6, 'one', at(SHOP)), '1 request-id');
  const redirected = gone().request(1001, 1, 1, 'one');
  const outcomes = redirected.saysAll(6, 'one', at(SHOP, UNSENT), at(BLOG));
  assert.deepEqual(outcomes, ['ambiguous', '1 request-id']);
});

test('connections that are translated and direct ones are candidates together', () => {
  const mixed = (of: EndpointPort[] | undefined): World => {
    const world = new World().endpoint(1, -HOUR, leads(SHOP)).endpoint(2, -HOUR, of).tick(-60_000);
    return world.open(1001, 1, -50_000, SHOP).open(1002, 2, -50_000).tick(-1);
  };
  assert.equal(mixed(leads(SHOP)).says(6, undefined, at(SHOP)), 'ambiguous');
  assert.equal(mixed(leads(BLOG)).says(6, undefined, at(SHOP)), '1 sole-backend');
  // All of the Service’s own, and of each other pod one.
  const several = mixed(leads(BLOG)).open(1003, 2, -40_000, SHOP).tick(-1);
  assert.equal(several.says(6, undefined, at(SHOP)), 'ambiguous');
  // Where the Service is translated, a plain server beside is none of its pods.
  assert.equal(mixed(undefined).says(6, undefined, at(SHOP)), '1 sole-backend');
  assert.equal(mixed([]).says(6, undefined, at(SHOP)), '1 sole-backend');
});

test('an address that is dialed as it is keeps its address, though Services have it too', () => {
  const world = twoServices()
    .open(1003, 3, -50_000)
    .endpoint(1, -HOUR, leads({ vip: podIp(3), vport: PORT }));
  world.tick(-1).request(1001, 1, 1, 'one').request(1003, 3, 2, 'one');
  assert.equal(world.says(6, 'one', { ip: podIp(3), port: PORT }), 'direct');
});

test('while no connection to pods of one of the places was seen, they may be in no record', () => {
  const hidden = (here: boolean): World => {
    const of = [{ port: PORT, ...SHOP, here: true as const, elsewhere: true as const }];
    const world = new World()
      .endpoint(1, -HOUR, of, 'elsewhere')
      .endpoint(2, -HOUR, of, 'here')
      .tick(-60_000);
    world.open(1001, 1, -50_000).open(1002, 2, -50_000).request(1001, 1, -40_000, 'before');
    if (here) world.request(1002, 2, -40_000, 'before, too');
    return world.tick(-1).request(1001, 1, 1, 'one');
  };
  assert.equal(hidden(false).says(6, 'one', at(SHOP)), 'no-flow');
  assert.equal(hidden(true).says(6, 'one', at(SHOP)), '1 request-id');
  // A Service of the other place only.
  const of = [{ port: PORT, ...BLOG, elsewhere: true as const }];
  const far = hidden(false).endpoint(3, -HOUR, of, 'elsewhere').open(1003, 3, 1).request(1003, 3, 2, 'two');
  assert.equal(far.says(6, 'two', at(BLOG)), '3 request-id');
});

test('what was forgotten of a pod at the limit may have been the attempt’s', () => {
  const world = new World({ ...DEFAULT_LIMITS, connections: 1 });
  for (const pod of [1, 2]) world.endpoint(pod, -HOUR, leads(SHOP));
  world.tick(-60_000).open(1001, 1, -50_000).request(1001, 1, -45_000, undefined);
  world.open(1002, 2, -40_000).tick(-1).request(1002, 2, 1, undefined);
  assert.equal(world.says(6, undefined, at(SHOP)), 'gap');
});

test('across a gap nothing is named', () => {
  const world = twoServices().request(1001, 1, 1, 'one');
  world.index.apply({ kind: 'gap', seq: 1e6, source: 'tap', from: T0 + 2, t: T0 + 3 });
  assert.equal(world.says(6, 'one', at(SHOP)), 'gap');
});
