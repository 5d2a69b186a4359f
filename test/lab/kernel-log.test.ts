/** The source `kernel-log` with rules as people have them: iptables LOG in several places, and the helper's own. */
import assert from 'node:assert/strict';
import {
  appendFileSync,
  closeSync,
  constants,
  openSync,
  readFileSync,
  readSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { LOCAL_PORT_FIELD } from './kit/formats.ts';
import { chain } from './kit/kube-proxy.ts';
import type { LoadPlan } from './kit/load.ts';
import { startBackends } from './kit/nginx.ts';
import { NODE_LOG_RECORDS, nodeLogRecords } from './kit/node-log.ts';
import { type Program, startHelper } from './kit/product.ts';
import { labCanRun } from './kit/requirements.ts';
import { type Row, writeResults } from './kit/results.ts';
import { assertResolved, type Judge, judge, type ScenarioOptions } from './kit/scenario.ts';
import { createScene, NODE_IP, type Scene } from './kit/scene.ts';
import { collect, saturate } from './kit/traffic.ts';

const PORT = 10002;
const MIX: LoadPlan['requests'] = [
  { path: '/apart/item/{n}', weight: 4 },
  { path: '/apart/same', weight: 2 },
  { path: '/apart/form', method: 'POST', bodyBytes: 600 },
  { path: '/apart/status/500', weight: 0.2 },
];
const BASE: ScenarioOptions = {
  format: 'times',
  services: ['apart', 'solo'],
  withoutIdHeader: true,
  sidecarArgs: ['--local-port-field', LOCAL_PORT_FIELD],
};

describe('the kernel log', { skip: !labCanRun(), concurrency: false, timeout: 600_000 }, () => {
  let scene: Scene;
  let scenario: Judge['scenario'];
  let before_ = '';
  const rows: Row[] = [];

  before(async () => {
    before_ = readFileSync(NODE_LOG_RECORDS, 'utf8').trim();
    nodeLogRecords('1');
    scene = await createScene({
      pods: 4,
      services: [
        { name: 'solo', port: 10000, targetPort: 10001, pods: [0] },
        { name: 'apart', port: 10000, targetPort: PORT, pods: [0, 1, 2, 3] },
      ],
    });
    await startBackends(scene, [10001, PORT]);
    ({ scenario } = judge(scene, rows));
  });
  after(async () => {
    await scene?.dispose();
    nodeLogRecords(before_);
    writeResults('kernel log', rows);
  });

  /** The article's rule for a pod: `-t nat -I POSTROUTING -d POD -j LOG`. */
  const afterDnat = (pods: readonly number[]) =>
    pods.map((i) => `-t nat -I POSTROUTING -d ${scene.pods[i]!.ip} -j LOG --log-prefix "backend-service: "`);
  /** The same in the chain of each endpoint, where the packet still has the Service's address. */
  const beforeDnat = () =>
    [0, 1, 2, 3].map((i) => {
      const sep = chain('KUBE-SEP-', 'default/apart:http', 'tcp', `${scene.pods[i]!.ip}:${PORT}`);
      return `-t nat -I ${sep} -j LOG --log-prefix "SRC=1.2.3.4 kube-sep: "`;
    });
  const iptables = (rules: readonly string[]) => {
    for (const rule of rules) scene.runIn(scene.node, `iptables ${rule}`);
  };

  async function withHelper(
    args: readonly string[],
    rules: readonly string[],
    run: (helper: Program) => Promise<void>,
  ) {
    iptables(rules);
    const helper = await startHelper(scene, ['--sources', 'kernel-log', ...args]);
    try {
      await run(helper);
    } finally {
      await helper.stop();
      iptables(rules.map((rule) => rule.replace(' -I ', ' -D ')));
    }
  }

  const ports = (from: number, to: number) =>
    scene.runIn(scene.fronts[0]!, `sysctl -qw net.ipv4.ip_local_port_range="${from} ${to}"`);

  for (const format of ['times', 'article'] as const)
    test(`the article's rules alone, 50 requests/s, ${format} format: the port names the pod`, async () => {
      await withHelper([], [...afterDnat([0, 1, 2, 3]), ...beforeDnat()], async () => {
        const name = `article's LOG rules, 50 requests/s, ${format} format`;
        const row = await scenario(name, { ...BASE, format }, ({ sentTo }) =>
          sentTo({ connections: 20, total: 1500, ratePerSecond: 50, requests: MIX }),
        );
        assertResolved(row, 'source-port', 0.99);
      });
    });

  test('rules before DNAT alone: no Service address is ever taken for a pod', async () => {
    await withHelper(
      [],
      [...beforeDnat(), ...afterDnat([0]).map((r) => r.replace('-d', `-p tcp --dport 10001 -d`))],
      async () => {
        const row = await scenario('LOG rules before DNAT alone', BASE, ({ sentTo }) =>
          sentTo({ connections: 10, total: 300, ratePerSecond: 100, requests: MIX }),
        );
        assert.deepEqual(row.evidence, {});
      },
    );
  });

  test('rules that know only some of the pods: their pods are named, and no other', async () => {
    await withHelper([], afterDnat([0, 1]), async () => {
      const row = await scenario('LOG rules for two of four pods', BASE, ({ sentTo }) =>
        sentTo({ connections: 10, total: 1500, ratePerSecond: 150, requests: MIX }),
      );
      assert.ok(row.right > 0.3 * row.attempts && row.right < 0.7 * row.attempts, JSON.stringify(row));
    });
  });

  test("the helper's own rule, 300 requests/s: the port names the pod", async () => {
    await withHelper(['--log-rule'], [], async () => {
      const row = await scenario('own LOG rule, 300 requests/s', BASE, ({ sentTo }) =>
        sentTo({ connections: 20, total: 3000, ratePerSecond: 300, requests: MIX }),
      );
      assertResolved(row, 'source-port', 0.99);
    });
  });

  for (const [rules, pods] of [
    ['all', [0, 1, 2, 3]],
    ['two of four', [0, 1]],
  ] as const)
    test(`ports come round within a second, rules for ${rules} pods: right or left alone`, async () => {
      await withHelper([], afterDnat(pods), async () => {
        ports(40_000, 40_199);
        try {
          await scenario(`LOG rules for ${rules} pods, 200 ports reused`, BASE, ({ sentTo }) =>
            sentTo({ connections: 10, total: 2000, ratePerSecond: 150, requests: MIX }),
          );
        } finally {
          ports(32_768, 60_999);
        }
      });
    });

  test("the helper's own rule and keepalive: right or left alone", async () => {
    // The judge's own probes need a connection each.
    const locations =
      'location = /solo/probe { proxy_http_version 1.0; proxy_set_header Connection close; proxy_pass http://svc_solo; }';
    await withHelper(['--log-rule'], [], async () => {
      await scenario('own LOG rule, keepalive', { ...BASE, locations, keepalive: true }, ({ sentTo }) =>
        sentTo({ connections: 20, total: 1000, ratePerSecond: 200, requests: MIX }),
      );
    });
  });

  for (const stamps of ['RFC 3164', 'ISO 8601'] as const)
    test(`a syslog file with ${stamps} stamps, rotated once: the port names the pod`, async () => {
      const file = join(scene.dir, 'kern.log');
      writeFileSync(file, '');
      const daemon = new SyslogDaemon(file, stamps);
      try {
        await withHelper(['--kernel-log', file], afterDnat([0, 1, 2, 3]), async () => {
          const name = `syslog file, ${stamps} stamps, 50 requests/s`;
          const row = await scenario(name, BASE, async ({ sentTo }) => {
            const sent = sentTo({ connections: 20, total: 500, ratePerSecond: 50, requests: MIX });
            await delay(4000);
            // The daemon makes the new file with its next line.
            scene.runIn(scene.node, `mv ${file} ${file}.1`);
            await sent;
          });
          assertResolved(row, 'source-port', 0.99);
        });
      } finally {
        daemon.stop();
      }
    });

  test('records overwritten while the helper could not read: a gap that says how many', async () => {
    const everyPacket = ['-t mangle -I FORWARD -p tcp -j LOG --log-prefix "all: "'];
    await withHelper(['--log-rule'], everyPacket, async (helper) => {
      const feed = `http://${NODE_IP}:9797/v1/feed?src=${scene.fronts[0]!.ip}`;
      const reading = collect(scene, scene.fronts[0]!, 'sh', ['-c', `curl -sN -m 8 '${feed}' || true`]);
      const front = scenario('kernel log overwritten', BASE, async () => {
        helper.child.kill('SIGSTOP');
        await saturate(scene, { connections: 20, seconds: 2, path: '/apart/same' });
        helper.child.kill('SIGCONT');
        await delay(500);
      });
      const records = (await reading)
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line));
      await front;
      const lost = records.filter((r) => r.kind === 'gap' && r.source === 'kernel-log' && r.lost > 0);
      assert.ok(lost.length > 0, JSON.stringify(records.filter((r) => r.kind === 'gap')));
    });
  });
});

/** Writes the kernel's messages into a file as rsyslog does (test/fixtures/kernel-log has its lines). */
class SyslogDaemon {
  readonly #kmsg = openSync('/dev/kmsg', constants.O_RDONLY | constants.O_NONBLOCK);
  readonly #timer: NodeJS.Timeout;

  constructor(file: string, stamps: 'RFC 3164' | 'ISO 8601') {
    this.#read();
    this.#timer = setInterval(() => {
      const now = new Date();
      const pad = (n: number, width = 2, fill = '0') => String(n).padStart(width, fill);
      const month = now.toLocaleString('en', { month: 'short' });
      const time = `${pad(now.getHours())}:${pad(now.getMinutes())}:${pad(now.getSeconds())}`;
      const stamp =
        stamps === 'ISO 8601'
          ? now.toISOString().replace('Z', '123+00:00')
          : `${month} ${pad(now.getDate(), 2, ' ')} ${time}`;
      const lines = this.#read().map((text) => `${stamp} node kernel: [12345.678901] ${text}\n`);
      if (lines.length > 0) appendFileSync(file, lines.join(''));
    }, 20);
  }

  #read(): string[] {
    const texts: string[] = [];
    const buffer = Buffer.alloc(8192);
    for (;;) {
      try {
        const record = buffer.toString('latin1', 0, readSync(this.#kmsg, buffer));
        texts.push(record.slice(record.indexOf(';') + 1).split('\n', 1)[0]!);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EPIPE') return texts;
      }
    }
  }

  stop(): void {
    clearInterval(this.#timer);
    closeSync(this.#kmsg);
  }
}
