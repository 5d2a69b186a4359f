/**
 * What is named on each kind of network, with each protocol to the backends, each log format, each number of connections. A part
 * of it: REALPOD_NETWORKS, a regular expression for the networks' titles, and --test-name-pattern for protocols.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { skipBecause } from '../required.ts';
import {
  type CellRow,
  cellNginxes,
  cellServices,
  cellTable,
  runCells,
  startCellBackends,
} from './kit/cells.ts';
import { ALL, openStage, RESULTS, type Stage } from './kit/networks.ts';
import { labCanRun } from './kit/requirements.ts';
import { writeSection } from './kit/results.ts';
import type { SceneOptions } from './kit/scene.ts';
import { SOCKET_LB, socketLbObstacle } from './kit/socket-lb.ts';

const PLAN = [
  { connections: 1, lines: 100 },
  { connections: 10, lines: 300 },
  { connections: 100, lines: 800 },
];
/** In the order of `cellNginxes`. */
const NGINXES = ['h1, h2c, gRPC', 'TLS + port'];
const PACKET = ['--sources', 'tap', '--tap-source', 'packet'];
const NETWORKS: readonly { title: string; mode: SceneOptions['mode']; helper?: readonly string[] }[] = [
  { title: 'DNAT (kube-proxy, iptables)', mode: 'iptables' },
  { title: 'nftables (kube-proxy, nftables)', mode: 'nftables' },
  { title: 'socket load balancing', mode: 'socket-lb' },
  { title: 'socket load balancing, past netfilter', mode: 'host-routing', helper: PACKET },
  { title: 'load balancing packet by packet, past netfilter', mode: 'packet-lb', helper: PACKET },
];

const skip = !labCanRun([...SOCKET_LB, 'openssl:openssl'], socketLbObstacle);
const built = mkdtempSync(join(tmpdir(), 'realpod-cells-'));
after(() => rmSync(built, { recursive: true }));

for (const { title, mode, helper = [] } of NETWORKS) {
  const unwanted = !new RegExp(process.env.REALPOD_NETWORKS ?? '').test(title);
  describe(title, { skip: skip || unwanted, concurrency: false, timeout: 900_000 }, () => {
    const rows: CellRow[] = [];
    let stage: Stage;
    before(async () => {
      stage = await openStage(mode, [], helper, cellServices(ALL));
      await startCellBackends(stage.scene);
    });
    after(async () => {
      await stage?.scene.dispose();
      if (rows.length > 0) writeSection(RESULTS, title, cellTable(rows));
    });

    for (const [i, what] of NGINXES.entries())
      for (const keepalive of [false, true])
        test(`${what}, ${keepalive ? 'keepalive' : 'no keepalive'}`, async (t) => {
          const nginx = cellNginxes(join(built, 'port.so'))[i]!;
          if ('missing' in nginx) t.skip(skipBecause(nginx.missing));
          else rows.push(...(await runCells(stage.scene, nginx, keepalive, { plan: PLAN })));
        });
  });
}
