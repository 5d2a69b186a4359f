/** Who the client was, where a NodePort hides it behind the node's address. Whatever is named must be right. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import {
  addClients,
  CLIENT_ADDRESSES,
  type ClientRow,
  FROM,
  judgeClients,
  NODE_PORT,
  narrowPorts,
  throughNode,
  widenPorts,
} from './kit/clients.ts';
import type { LoadPlan } from './kit/load.ts';
import { FRONT_PORT, startBackends, startFront } from './kit/nginx.ts';
import {
  caughtUp,
  countLines,
  type Program,
  type Sidecar,
  startHelper,
  startSidecar,
} from './kit/product.ts';
import { labCanRun } from './kit/requirements.ts';
import { dropLines } from './kit/scenario.ts';
import { createScene, NODE_IP, type Scene } from './kit/scene.ts';
import { load } from './kit/traffic.ts';

const LINE = '$remote_addr - $remote_user [$time_local] "$request" $status $upstream_addr $body_bytes_sent';
const FORMATS = {
  /** The port, times, and what realip left: exact for any configuration. */
  realip: `${LINE} $msec $request_time $remote_port $realip_remote_addr $realip_remote_port`,
  port: `${LINE} $msec $request_time $remote_port`,
  times: `${LINE} $msec $request_time`,
  article: LINE,
};

interface Way {
  format: keyof typeof FORMATS;
  /** The sidecar reads nginx's configuration. */
  conf?: boolean;
  http?: string;
  /** The first seconds, of which the record does not have all, are left out. */
  waitMs?: number;
}

type Plan = Omit<LoadPlan, 'host' | 'port'>;

const plain = [{ path: FROM }];
const every = { connections: 20, requests: plain };
const [first] = CLIENT_ADDRESSES;
const one = { ...every, localAddresses: [first!] };
/** Half are answered at once, the others in a second, which not every client waits for. */
const hasty = [
  { path: FROM, weight: 4 },
  { path: `${FROM}/rate/65536`, weight: 2 },
  { path: `${FROM}/rate/65536`, weight: 2, abortAfterMs: 300 },
];
/** realip believes clients, and they say that they are somebody whom the node translates. */
const FORGED = 'set_real_ip_from 10.244.0.0/16; real_ip_header X-Forged;';
const forging = [
  { path: FROM, headers: [`X-Forged: ${NODE_IP}`] },
  ...Array.from({ length: 20 }, (_, i) => ({ path: FROM, headers: [`X-Forged: ${NODE_IP}:${40_000 + i}`] })),
];

describe('real clients', { skip: !labCanRun(), concurrency: false, timeout: 600_000 }, () => {
  let scene: Scene;
  let runs = 0;
  let helper: Program;
  const rows: Record<string, ClientRow> = {};

  before(async () => {
    scene = await createScene({
      pods: 2,
      services: [
        { name: 'a', port: 10000, targetPort: 10000, pods: [0, 1] },
        { name: 'web', port: 80, targetPort: FRONT_PORT, pods: [], fronts: [0], nodePort: NODE_PORT },
      ],
    });
    addClients(scene);
    await startBackends(scene, [10000]);
    // A pod of two families: the records of both are given.
    helper = await startHelper(scene, ['--auth', 'none']);
  });
  after(async () => {
    await scene?.dispose();
    if (process.env.REALPOD_LAB_ROWS) console.log(JSON.stringify(rows, undefined, 1));
  });

  async function run(
    name: string,
    { format, conf = false, http = '', waitMs = 6_000 }: Way,
    traffic: (sent: (plan: Plan) => Promise<unknown>) => Promise<unknown>,
  ): Promise<ClientRow> {
    const dir = join(scene.dir, `run${++runs}`);
    const text = FORMATS[format];
    const pod = scene.fronts[0]!;
    const front = await startFront(scene, pod, dir, { format: text, services: ['a'], http });
    let sidecar: Sidecar | undefined;
    try {
      sidecar = await startSidecar(scene, pod, {
        accessLog: front.accessLog,
        format: text,
        dir: join(dir, 'sidecar'),
        extra: ['--style', 'annotate', ...(conf ? ['--nginx-conf', join(dir, 'nginx.conf')] : [])],
      });
      await throughNode(scene, { ...one, connections: 1, total: 1 });
      await delay(waitMs);
      const before = countLines(front.accessLog);
      await traffic((plan) => throughNode(scene, { seed: runs, ...plan }));
      await caughtUp(sidecar);
      const tail = (path: string) => dropLines(readFileSync(path), before);
      const row = judgeClients(tail(front.accessLog), tail(sidecar.output));
      rows[name] = row;
      assert.deepEqual([row.wrong, row.altered], [0, 0], `${name}: ${row.findings.join('\n')}`);
      assert.ok(row.lines > 0, name);
      return row;
    } finally {
      await sidecar?.stop();
      await front.stop();
    }
  }

  /** At least `share` of the lines name their client. */
  function assertNamed(row: ClientRow, share: number): void {
    assert.ok(row.right >= share * row.lines, JSON.stringify(row));
  }

  test('clients of a NodePort, in short', async () => {
    const row = await run('in short', { format: 'realip' }, async (sent) => {
      await sent({ ...every, total: 300 });
      await sent({ ...every, total: 300, keepalive: false });
    });
    assertNamed(row, 0.95);
  });

  test('by the port: ten thousand requests, kept and not', async () => {
    const row = await run('ten thousand', { format: 'realip' }, async (sent) => {
      await sent({ ...every, connections: 100, total: 5_000, ratePerSecond: 500 });
      await sent({ ...every, connections: 100, total: 5_000, ratePerSecond: 300, keepalive: false });
    });
    assert.equal(row.lines, 10_000);
    assertNamed(row, 0.5);
  });

  test('by the port: connections are kept', async () => {
    const row = await run('port, kept', { format: 'realip' }, (sent) => sent({ ...every, total: 3_000 }));
    assertNamed(row, 0.99);
  });

  for (const way of [{ format: 'realip' }, { format: 'port', conf: true }] as const) {
    test(`by the port: 400 ports that come round, ${way.format}`, async () => {
      narrowPorts(scene, 400);
      try {
        const row = await run(`400 ports, ${way.format}`, way, (sent) =>
          sent({ ...every, total: 2_000, keepalive: false, ratePerSecond: 120 }),
        );
        assertNamed(row, 0.3);
      } finally {
        widenPorts(scene);
      }
    });

    for (const ignored of [false, true])
      test(`by the port: 60 ports, clients that go away, ${way.format}, ${ignored ? 'and nginx goes on' : 'and nginx ends'}`, async () => {
        narrowPorts(scene, 60);
        try {
          const http = ignored ? 'proxy_ignore_client_abort on;' : '';
          await run(`aborts, ${way.format}, ignored ${ignored}`, { ...way, http }, (sent) =>
            sent({ ...every, total: 300, keepalive: false, ratePerSecond: 30, requests: hasty }),
          );
        } finally {
          widenPorts(scene);
        }
      });
  }

  for (const [format, conf] of [
    ['realip', false],
    ['port', true],
    ['port', false],
    ['times', false],
  ] as const)
    test(`clients that forge their address, ${format}, ${conf ? 'configuration read' : 'configuration not known'}`, async () => {
      narrowPorts(scene, 20);
      try {
        const name = `forged, ${format}, conf ${conf}`;
        await run(name, { format, conf, http: FORGED }, async (sent) => {
          await sent({ ...every, connections: 12, total: 300, requests: forging });
          await sent({ ...one, connections: 4, total: 100, requests: forging });
        });
      } finally {
        widenPorts(scene);
      }
    });

  test('by the port: a helper that starts again', async () => {
    const row = await run('helper starts again', { format: 'realip' }, async (sent) => {
      const load = sent({ ...every, total: 1_800, ratePerSecond: 100 });
      await delay(3_000);
      await helper.stop();
      helper = await startHelper(scene, ['--auth', 'none']);
      await load;
    });
    assertNamed(row, 0.2);
    assert.ok(row.right < row.lines);
  });

  test('by the address: one client at a time, several, and those that nobody translates', async () => {
    const row = await run('address', { format: 'times', conf: true }, async (sent) => {
      for (const address of CLIENT_ADDRESSES) {
        await sent({ ...every, localAddresses: [address], total: 100, connections: 4 });
        await delay(1_500);
      }
      await sent({ ...every, total: 500 });
      // From the node itself, as kubelet's probes: nobody translates them, and they come from the same address.
      const probes = setInterval(() => probe(scene), 200);
      const direct = load(scene, { ...every, localAddresses: CLIENT_ADDRESSES, total: 200 });
      await Promise.all([direct, sent({ ...one, total: 300, ratePerSecond: 100 })]);
      clearInterval(probes);
    });
    // How long a probe stays a candidate, and how soon clients follow one another, depends on the machine.
    assertNamed(row, 0.15);
  });

  for (const conf of [true, false])
    test(`the article’s own format, ${conf ? 'configuration read' : 'configuration not known'}`, async () => {
      const row = await run(
        `article, conf ${conf}`,
        { format: 'article', conf, waitMs: 61_000 },
        async (sent) => {
          await sent({ ...one, total: 20, ratePerSecond: 4, connections: 2, keepalive: false });
          await sent({ ...every, total: 200, ratePerSecond: 50, keepalive: false });
        },
      );
      assertNamed(row, 0.05);
    });
});

function probe(scene: Scene): void {
  const url = `http://${scene.fronts[0]!.ip}:${FRONT_PORT}/a/from/${NODE_IP}/probe`;
  scene.spawnIn(scene.node, 'curl', ['-s', '-o', '/dev/null', url]);
}
