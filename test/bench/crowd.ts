/** The helper beside very many connections (root): what it holds resident. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { readMetrics } from '../lab/kit/check.ts';
import { until } from '../lab/kit/nginx.ts';
import { HELPER_PORT, startHelper } from '../lab/kit/product.ts';
import { createScene, NODE_IP } from '../lab/kit/scene.ts';
import { memory } from './process-cost.ts';

const FIRST_PORT = 2_000;
const PORTS_EACH = 50_000;
const PORT = 10_000;

export interface Crowd {
  connections: number;
  /** Resident before the first, with all of them, and at most (MB). */
  beforeMb: number;
  withMb: number;
  peakMb: number;
}

/**
 * The kernel tracks the connections for real, and tells the helper of each; but they are entered with `conntrack -R`, as no
 * two ends of so many would fit beside them.
 */
export async function crowd(connections: number): Promise<Crowd> {
  const pods = [0, 1, 2, 3];
  const services = [0, 1].map((n) => ({ name: `s${n}`, port: PORT + n, targetPort: PORT, pods }));
  const scene = await createScene({ pods: pods.length, services });
  try {
    const [front] = scene.fronts;
    const src = front!.ip;
    const helper = await startHelper(scene);
    const pid = helper.child.pid!;
    const flows = (): number =>
      readMetrics(helper.get('/metrics').text).find(({ name }) => name === 'realpod_helper_flows')?.value ??
      0;
    const url = `http://${NODE_IP}:${HELPER_PORT}/v1/feed?src=${src}`;
    scene.spawnIn(front!, 'curl', ['-sN', '-o', '/dev/null', url]);
    await delay(1_000);
    const beforeMb = memory(pid).now;
    const list = join(scene.dir, 'connections');
    let text = '';
    for (let i = 0; i < connections; i++) {
      const service = Math.floor(i / PORTS_EACH);
      const { clusterIp, port } = scene.service(`s${service}`);
      const sport = FIRST_PORT + (i % PORTS_EACH);
      // Another pod for each Service, as no two replies may look alike.
      const { ip } = scene.pods[(i + service) % pods.length]!;
      const reply = `-r ${ip} -q ${src} --reply-port-src ${PORT} --reply-port-dst ${sport}`;
      text += `-I -p tcp -s ${src} -d ${clusterIp} --sport ${sport} --dport ${port} ${reply} --state ESTABLISHED -t 600 -u ASSURED\n`;
    }
    writeFileSync(list, text);
    scene.runIn(scene.node, `conntrack -R ${list}`);
    await until(`${connections} connections`, () => flows() >= connections);
    await delay(2_000);
    const { now, peak } = memory(pid);
    return { connections, beforeMb, withMb: now, peakMb: peak };
  } finally {
    await scene.dispose();
  }
}
