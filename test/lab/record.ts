/**
 * Makes the recording that `npm start` replays: `node --import tsx test/lab/record.ts`, as root, after a build. Runs the
 * shop for about 20 s and keeps `demo/access.log` as nginx wrote it and `demo/feed.ndjson` as the helper sent it.
 */
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { RECOMMENDED } from './kit/formats.ts';
import { until } from './kit/nginx.ts';
import { get, HELPER_PORT, startHelper } from './kit/product.ts';
import { labObstacle } from './kit/requirements.ts';
import { endChild, NODE_IP } from './kit/scene.ts';
import { openShop, SHOP_REQUESTS, startNames, startShopFront } from './kit/shop.ts';
import { load } from './kit/traffic.ts';

const REQUESTS = 400;
const LIMIT_BYTES = 300_000;
const demo = fileURLToPath(new URL('../../demo/', import.meta.url));

const obstacle = labObstacle();
if (obstacle) {
  console.error(`cannot record: ${obstacle}`);
  process.exit(1);
}
const scene = await openShop();
try {
  const pod = scene.fronts[0]!;
  const helper = await startHelper(scene, ['--kubeconfig', await startNames(scene)]);
  const front = await startShopFront(scene, RECOMMENDED);
  const feedPath = join(scene.dir, 'feed.ndjson');
  const feedFile = openSync(feedPath, 'w');
  const url = `http://${NODE_IP}:${HELPER_PORT}/v1/feed?src=${pod.ip}`;
  const reader = scene.spawnIn(pod, 'curl', ['-sN', url], { stdio: ['ignore', feedFile, 'inherit'] });
  closeSync(feedFile);
  await until('the first tick of the feed', () => readFileSync(feedPath, 'utf8').includes('"tick"'));
  await delay(1000);
  const sent = await load(scene, {
    connections: 12,
    total: REQUESTS,
    ratePerSecond: REQUESTS / 20,
    requests: SHOP_REQUESTS,
  });
  // One more second, so that the last lines have their evidence, and a tick after it.
  await delay(1000);
  get(scene, pod, `http://${NODE_IP}:${HELPER_PORT}/v1/watermark?src=${pod.ip}`);
  await delay(500);
  await endChild(reader);
  await front.stop();
  await helper.stop();

  const log = readFileSync(front.accessLog);
  const feed = readFileSync(feedPath, 'utf8');
  const whole = feed.slice(0, feed.lastIndexOf('\n') + 1);
  const bytes = log.length + Buffer.byteLength(whole);
  console.log(
    `${sent.completed} requests, access.log ${log.length} bytes, feed.ndjson ${whole.length} bytes`,
  );
  if (bytes > LIMIT_BYTES) throw new Error(`the recording has ${bytes} bytes, more than ${LIMIT_BYTES}`);
  mkdirSync(demo, { recursive: true });
  writeFileSync(join(demo, 'access.log'), log);
  writeFileSync(join(demo, 'feed.ndjson'), whole);
  writeFileSync(join(demo, 'log_format'), `${RECOMMENDED}\n`);
} finally {
  await scene.dispose();
}
