/**
 * `npm run demo:live [-- --once]`: the product beside real nginx in the lab, as root, after a build. Shows what nginx wrote
 * and what came out, until Ctrl-C; with `--once`, or where the output is no terminal, one round, and then exit 1 unless
 * every line names the pod that answered.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { FORMATS } from './kit/formats.ts';
import { forwardPort } from './kit/port-forward.ts';
import { caughtUp } from './kit/product.ts';
import { labObstacle } from './kit/requirements.ts';
import { openLiveShop, SHOP_REQUESTS } from './kit/shop.ts';
import { load } from './kit/traffic.ts';

const SHOWN = 3;
/** The last fields are what the pod said itself: its address, its port, and the source port it was called from. */
const TRUTH = /"([^" ]+)" "(\d+)" "(\d+)"$/;

const obstacle = labObstacle();
if (obstacle) {
  console.error(`demo:live cannot run: ${obstacle}`);
  process.exit(1);
}
const once = process.argv.includes('--once') || !process.stdout.isTTY;

/** Complete lines of a log from line `from` on. */
const linesFrom = (path: string, from: number) => readFileSync(path, 'latin1').split('\n').slice(from, -1);

/** Whether a line names the pod that says itself that it answered. Lines that no pod answered have nothing to name. */
function isNamed(line: string): boolean {
  const [, ip, port] = TRUTH.exec(line) ?? [];
  return ip === undefined || line.includes(` ${ip}:${port} `);
}

const { scene, pod, front, sidecar } = await openLiveShop(FORMATS.full);
try {
  const page = `http://127.0.0.1:${await forwardPort(scene, pod, 9798)}/`;
  console.log(`nginx in a pod (${pod.ip}), two Services with three pods each, real conntrack.${once ? '' : ' Press Ctrl-C to end.'}
Open ${page} in a browser to see the pods: a slow one and a failing one are marked.
Each pair: the line as nginx wrote it, the line as realpod wrote it. The last three fields are what the pod said itself:
its address, its port, and the source port it was called from.

From another terminal:
  curl '${page}lookup?port=PORT'
  curl '${page}pods'
  tail -F ${sidecar.output}
`);
  let shown = linesFrom(sidecar.output, 0).length;
  for (let round = 1; ; round++) {
    await load(scene, { connections: 8, total: 20, ratePerSecond: 10, seed: round, requests: SHOP_REQUESTS });
    await caughtUp(sidecar);
    const before = linesFrom(front.accessLog, shown);
    const after = linesFrom(sidecar.output, shown).slice(0, before.length);
    shown += after.length;
    // A few of them; the rest can be read in the files.
    for (let i = 0; i < Math.min(SHOWN, after.length); i++)
      console.log(`nginx    ${before[i]}\nrealpod  ${after[i]}\n`);
    const port = TRUTH.exec(after[0] ?? '')?.[3];
    if (port)
      console.log(`$ curl '${page}lookup?port=${port}'\n${sidecar.get(`/lookup?port=${port}`).text}\n`);
    const named = after.filter(isNamed).length;
    console.log(`${after.length} lines; ${named} name the pod that answered.\n`);
    if (once) {
      process.exitCode = named === after.length && named > 0 ? 0 : 1;
      break;
    }
    await delay(200);
  }
} finally {
  await scene.dispose();
}
