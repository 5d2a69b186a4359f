/** Lines without an id and without a tap: by when connections were opened, and by how much went over them. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { family } from '../bench/process-cost.ts';
import { compare } from './kit/check.ts';
import { FORMATS } from './kit/formats.ts';
import type { LoadPlan } from './kit/load.ts';
import { until } from './kit/nginx.ts';
import { CLI, countLines, HELPER_PORT, type Program, startHelper } from './kit/product.ts';
import { labCanRun } from './kit/requirements.ts';
import { type Row, writeResults } from './kit/results.ts';
import { type Bench, dropLines, type Judge, judge, type ScenarioOptions } from './kit/scenario.ts';
import { createScene, endChild, NODE_IP, type Scene } from './kit/scene.ts';
import { startOdd } from './kit/traffic.ts';

const ALL = [0, 1, 2, 3];
/** Lines that are sent before those that are counted. */
const WARM_UP = 150;
const skip = !labCanRun();
const rows: Row[] = [];
const NOTES = [
  'inferred: at 2000/s nginx and the helper run at a higher priority than the rest, as the traffic’s own processes take most of the two CPUs; nginx still gets round to its connections so late that answers overlap more than in the study.',
  'inferred: `live` is what the sidecar wrote, `offline` what `enrich` made of a recording of the same run; the first 150 lines of each run are not counted.',
];
after(() => writeResults('inferred', rows, NOTES));

const SAME: LoadPlan['requests'] = [{ path: '/a/same?delay=3-75' }];
const VARIED: LoadPlan['requests'] = [{ path: '/a/varied?delay=3-75&size={r}' }];

/** Each of the other kinds of traffic, with its locations. */
const KINDS: readonly { what: string; requests: LoadPlan['requests']; locations?: string }[] = [
  {
    what: 'a tenth of the clients go away',
    requests: [
      { path: '/a/varied?delay=3-75&size={r}', weight: 9 },
      { path: '/a/varied?delay=30-75&size={r}', abortAfterMs: 15 },
    ],
  },
  {
    what: 'a tenth of the answers are tried again',
    locations: 'location /again/ { proxy_pass http://again/; proxy_next_upstream http_503; }',
    requests: [{ path: '/again/same?delay=3-75&size=0&status=503&chance=10' }],
  },
  {
    what: 'slow uploads',
    requests: [
      { path: '/a/varied?delay=3-75&size={r}', weight: 9 },
      { path: '/a/upload?delay=3-20&size={r}', method: 'POST', bodyBytes: 4_000, chunkBytes: 100 },
    ],
  },
];

/** The evidence of the kernel's settings: R, K and B of the study. */
const SETTINGS = {
  'times of reading': '',
  "kernel's times": 'net.netfilter.nf_conntrack_timestamp=1',
  'times of reading, byte counters': 'net.netfilter.nf_conntrack_acct=1',
  "kernel's times, byte counters": 'net.netfilter.nf_conntrack_timestamp=1 net.netfilter.nf_conntrack_acct=1',
};

for (const [setting, sysctl] of Object.entries(SETTINGS)) {
  describe(`answers in 3 to 75 ms, ${setting}`, { skip, concurrency: false, timeout: 400_000 }, () => {
    let scene: Scene;
    let scenario: Judge['scenario'];
    let helper: Program;
    before(async () => {
      scene = await createScene({
        pods: 4,
        services: [
          { name: 'a', port: 10000, targetPort: 8000, pods: ALL },
          { name: 'solo', port: 10000, targetPort: 8001, pods: [0] },
        ],
      });
      if (sysctl) scene.runIn(scene.node, `sysctl -qw ${sysctl}`);
      await Promise.all(scene.pods.map((pod) => startOdd(scene, pod, 8000, { slowestMs: 60 })));
      await startOdd(scene, scene.pods[0]!, 8001);
      helper = await startHelper(scene, ['--sources', 'conntrack']);
      scenario = judge(scene, rows).scenario;
    });
    after(async () => {
      await scene?.dispose();
    });

    const counted = sysctl.includes('acct');
    const loads: [string, LoadPlan['requests']][] = counted
      ? [['varied sizes', VARIED]]
      : [['equal sizes', SAME]];
    for (const [what, requests] of loads) {
      for (const [rate, total] of [
        [100, 1000],
        [300, 2000],
        [500, 3000],
        [1000, 6000],
        [2000, 8000],
      ] as const) {
        const name = `${what}, ${rate}/s, ${setting}`;
        test(name, async () => {
          await twice(scene, scenario, name, {}, ({ front, sentTo }) => {
            if (rate >= 2000) prefer([...family(front.child.pid!), ...family(helper.child.pid!)]);
            return sentTo({ connections: 300, total, ratePerSecond: rate, requests });
          });
        });
      }
    }

    if (sysctl === SETTINGS['times of reading, byte counters']) {
      for (const { what, requests, locations = '' } of KINDS) {
        const name = `${what}, 300/s, ${setting}`;
        test(name, async () => {
          const { address } = scene.service('a');
          const http = `upstream again { server ${address} max_fails=0; server ${address} max_fails=0; }`;
          await twice(scene, scenario, name, { locations, http }, ({ sentTo }) =>
            sentTo({ connections: 200, total: 2000, ratePerSecond: 300, requests }),
          );
        });
      }
    }
  });
}

/** Over the traffic's own processes, which share the two CPUs with them. */
function prefer(pids: readonly number[]): void {
  execFileSync('renice', ['-n', '-19', '-p', ...pids.map(String)], { stdio: 'ignore' });
}

/** One run, as the sidecar named it and as `enrich` does from a recording. */
async function twice(
  scene: Scene,
  scenario: Judge['scenario'],
  name: string,
  options: Partial<ScenarioOptions>,
  traffic: (bench: Bench) => Promise<void>,
): Promise<void> {
  let recorder: ChildProcess | undefined;
  let log = '';
  let feed = '';
  let warm = 0;
  const [front] = scene.fronts;
  try {
    await scenario(
      `${name}, live`,
      {
        format: 'counts',
        withoutIdHeader: true,
        services: ['a', 'solo'],
        sidecarArgs: ['--evidence', 'inferred'],
        ...options,
        async warmUp({ front: { accessLog, dir }, sentTo }) {
          log = accessLog;
          feed = join(dir, 'feed.ndjson');
          const helper = `http://${NODE_IP}:${HELPER_PORT}`;
          recorder = scene.spawnIn(front!, process.execPath, [
            CLI,
            'record',
            '--helper',
            helper,
            '--output',
            feed,
          ]);
          await until('the recording to begin', () => existsSync(feed) && statSync(feed).size > 0);
          warm = countLines(log) + WARM_UP;
          await sentTo({ connections: 10, total: WARM_UP, ratePerSecond: 100, requests: SAME });
        },
      },
      async (bench) => {
        await traffic(bench);
        // At the end of a log lines may be missing, so nothing is deduced of its last second and a half.
        await delay(1_500);
        await bench.sentTo({ connections: 1, total: 2, requests: SAME });
      },
    );
  } finally {
    if (recorder) assert.equal(await endChild(recorder), 0);
  }
  const args = [
    'enrich',
    '--feed',
    feed,
    '--log-format',
    FORMATS[options.format ?? 'counts'],
    '--evidence',
    'inferred',
  ];
  const enriched = execFileSync(process.execPath, [CLI, ...args, log], { maxBuffer: 1e9 });
  const verdict = compare(dropLines(readFileSync(log), warm), dropLines(enriched, warm));
  const row: Row = {
    scenario: `${name}, offline`,
    ...verdict,
    evidence: { timing: verdict.right + verdict.unverified },
    reasons: { ambiguous: verdict.leftAlone },
  };
  rows.push(row);
  if (process.env.REALPOD_LAB_ROWS) console.log(JSON.stringify(row));
  assert.deepEqual([verdict.wrong, verdict.lost, verdict.altered], [0, 0, 0], verdict.findings.join('\n'));
}
