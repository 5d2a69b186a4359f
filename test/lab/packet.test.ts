/** Packets that pass no netfilter: the tap reads a packet socket. The same traffic as elsewhere, the truth beside every line. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import {
  CONNECTIONS,
  fewConnections,
  formats,
  ipv6,
  LINES,
  lossesOf,
  mix,
  NAMES,
  quiet,
  type Stage,
  suite,
} from './kit/networks.ts';
import { assertResolved } from './kit/scenario.ts';

const PACKET = ['--sources', 'tap', '--tap-source', 'packet'];

/** By the node's own netfilter nothing is seen of what passes between pods. */
function noNetfilter(stage: () => Stage): void {
  test('no packet between pods passes netfilter or conntrack', () => {
    const { scene } = stage();
    const front = scene.fronts[0]!.ip;
    const seen = scene.runIn(scene.node, `conntrack -L -s ${front} 2>/dev/null || true`);
    assert.equal(seen.includes(scene.pods[0]!.ip), false, seen);
    assert.equal(scene.runIn(scene.node, 'nft list ruleset').trim(), '');
  });
}

suite(
  'chosen in connect(), past netfilter',
  'host-routing',
  (stage) => {
    formats(stage, ['full']);
    noNetfilter(stage);

    fewConnections(stage);
    ipv6(stage);
    quiet(stage, ['times']);

    test('clients send ids of their own, some of them another’s: right or left alone', async () => {
      const options = {
        format: 'full',
        keepalive: true,
        services: NAMES,
        locations: 'location /open/ { proxy_set_header Connection ""; proxy_pass http://svc_b; }',
      } as const;
      await stage().scenario('forged ids', options, ({ sentTo }) =>
        sentTo({
          connections: CONNECTIONS,
          total: LINES,
          requests: [
            ...mix('a', 'b'),
            { path: '/open/{n}', headers: ['X-Request-ID: 0123456789abcdef0123456789abcdef'], weight: 2 },
            { path: '/open/none/{n}' },
          ],
        }),
      );
    });
  },
  [],
  PACKET,
);

suite(
  'chosen packet by packet, past netfilter',
  'packet-lb',
  (stage) => {
    formats(stage, ['full']);
    noNetfilter(stage);
    fewConnections(stage);
    quiet(stage, ['times']);
  },
  [],
  PACKET,
);

suite(
  'translated, the tap reads a packet socket',
  'iptables',
  (stage) => formats(stage, ['full']),
  [],
  ['--tap-source', 'packet'],
);

suite(
  'translated, connections from packets, too',
  'iptables',
  (stage) => formats(stage, ['full']),
  [],
  PACKET,
);

const KEPT = { format: 'full', keepalive: true, services: NAMES } as const;
const STEADY = {
  connections: CONNECTIONS,
  total: LINES,
  ratePerSecond: 1_000,
  requests: mix('a', 'b', 'c'),
};

suite(
  'past netfilter, with losses',
  'host-routing',
  (stage) => {
    test('a helper that stands still loses packets and says so: right or left alone', async () => {
      const row = await stage().scenario('the helper stands still', KEPT, async ({ sentTo }) => {
        const { pid } = stage().helper.child;
        const sent = sentTo(STEADY);
        for (let n = 0; n < 4; n++) {
          await delay(800);
          process.kill(pid!, 'SIGSTOP');
          await delay(400);
          process.kill(pid!, 'SIGCONT');
        }
        await sent;
      });
      assert.match(lossesOf(stage().helper), /realpod_helper_tap_lost_total/);
      assert.ok((row.reasons.gap ?? 0) > 0, JSON.stringify(row.reasons));
      assertResolved(row, 'request-id', 0.3);
    });
  },
  [],
  [...PACKET, '--receive-buffer', '500000'],
);

suite(
  'past netfilter, another helper',
  'host-routing',
  (stage) => {
    test('a helper that starts beside kept connections learns whom they lead to', async () => {
      const row = await stage().scenario('another helper', KEPT, async ({ sentTo }) => {
        await sentTo({ ...STEADY, total: LINES / 3 });
        await stage().restartHelper();
        await delay(3_000);
        await sentTo({ ...STEADY, total: (LINES * 2) / 3 });
      });
      assertResolved(row, 'request-id', 0.6);
    });
  },
  [],
  PACKET,
);
