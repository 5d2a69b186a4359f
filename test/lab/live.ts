/**
 * `npm run demo:live`: the product beside real nginx in the lab, as root, after a build. Shows what nginx wrote and
 * what came out, line by line, until Ctrl-C.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { FORMATS } from './kit/formats.ts';
import { labObstacle } from './kit/requirements.ts';
import { openLiveShop, SHOP_REQUESTS } from './kit/shop.ts';
import { load } from './kit/traffic.ts';

const obstacle = labObstacle();
if (obstacle) {
  console.error(`demo:live cannot run: ${obstacle}`);
  process.exit(1);
}

/** Complete lines of a log from line `from` on. */
const linesFrom = (path: string, from: number) => readFileSync(path, 'latin1').split('\n').slice(from, -1);

const { scene, pod, front, sidecar } = await openLiveShop(FORMATS.full);
try {
  const inPod = `ip netns exec ${pod.ns} curl -s`;
  console.log(`nginx in a pod (${pod.ip}), two Services with three pods each, real conntrack. Press Ctrl-C to end.
Each pair: the line as nginx wrote it, the line as realpod wrote it. The last three fields are what the pod said itself:
its address, its port, and the source port it was called from.

From another terminal, as root:
  ${inPod} 'http://127.0.0.1:9798/lookup?port=PORT'
  ${inPod} 'http://127.0.0.1:9798/pods'
  tail -F ${sidecar.output}
`);
  let shown = linesFrom(sidecar.output, 0).length;
  for (let round = 1; ; round++) {
    await load(scene, { connections: 8, total: 20, ratePerSecond: 10, seed: round, requests: SHOP_REQUESTS });
    await delay(200);
    const before = linesFrom(front.accessLog, shown);
    const after = linesFrom(sidecar.output, shown);
    shown += after.length;
    // A few of them; the rest can be read in the files.
    for (let i = 0; i < Math.min(3, after.length); i++)
      console.log(`nginx    ${before[i]}\nrealpod  ${after[i]}\n`);
    const port = /"(\d+)"$/.exec(after[0] ?? '')?.[1];
    if (port) console.log(`lookup?port=${port}  ${sidecar.get(`/lookup?port=${port}`).text}\n`);
  }
} finally {
  await scene.dispose();
}
