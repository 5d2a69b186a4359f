import type { LoadPlan } from './load.ts';
import { startBackends } from './nginx.ts';
import { createScene, type Scene } from './scene.ts';
import { startOdd } from './traffic.ts';

/**
 * The scene of the demo: two Services over the same four pods. `catalog` is fast and serves files, `orders` takes its
 * time, and one pod of it much more than the others. `solo` is there to see when the record is complete.
 */
export async function openShop(): Promise<Scene> {
  const scene = await createScene({
    pods: 4,
    services: [
      { name: 'orders', port: 10000, targetPort: 8000, pods: [0, 1, 2, 3] },
      { name: 'catalog', port: 80, targetPort: 10000, pods: [0, 1, 2, 3] },
      { name: 'solo', port: 80, targetPort: 10001, pods: [0] },
    ],
  });
  try {
    await startBackends(scene, [10000, 10001]);
    await Promise.all(scene.pods.map((pod, i) => startOdd(scene, pod, 8000, i === 2 ? 180 : 25)));
  } catch (error) {
    await scene.dispose();
    throw error;
  }
  return scene;
}

export const SHOP_SERVICES = ['orders', 'catalog', 'solo'] as const;

const browser = ['User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0'];
const script = ['User-Agent: curl/7.81.0'];

export const SHOP_REQUESTS: LoadPlan['requests'] = [
  { path: '/catalog/', headers: browser, weight: 4 },
  { path: '/catalog/article/{n}', headers: browser, weight: 5 },
  { path: '/catalog/images/size/20000', headers: browser, weight: 2 },
  { path: '/catalog/images/size/65536', headers: browser, weight: 1 },
  { path: '/catalog/search?q=teapot&page={n}', headers: browser, weight: 2 },
  { path: '/catalog/old/status/301', headers: browser, weight: 0.4 },
  { path: '/catalog/gone/status/404', headers: script, weight: 0.4 },
  { path: '/orders/{n}', headers: browser, weight: 4 },
  { path: '/orders/{n}?size=900', headers: script, weight: 3 },
  { path: '/orders/', method: 'POST', bodyBytes: 320, headers: browser, weight: 2 },
  { path: '/orders/{n}?status=503&size=120', headers: script, weight: 0.3 },
];
