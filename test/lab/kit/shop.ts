import { join } from 'node:path';
import { service, slice } from '../../unit/api-server.ts';
import { startApiServer } from './cluster.ts';
import type { LoadPlan } from './load.ts';
import { type Nginx, startFront } from './nginx.ts';
import { caughtUp, type Program, type Sidecar, startHelper, startSidecar } from './product.ts';
import { createScene, type Pod, type Scene } from './scene.ts';
import { load, startOdd } from './traffic.ts';

/** A pod of the shop and what ails it. */
interface ShopPod {
  name: string;
  node: string;
  /** The longest wait before an answer, ms. */
  slowestMs: number;
  /** Share of its answers that is 503. */
  failing: number;
}

const pod = (name: string, node: string, slowestMs: number, failing = 0): ShopPod => ({
  name,
  node,
  slowestMs,
  failing,
});

/** The pods in the order of the scene's. One of `orders` is slow, one of `catalog` fails now and then. */
export const SHOP_PODS: readonly ShopPod[] = [
  pod('orders-5d8f7c9b4-2xkqm', 'worker-1', 25),
  pod('orders-5d8f7c9b4-9wjzt', 'worker-2', 25),
  pod('orders-5d8f7c9b4-kp4vd', 'worker-3', 180),
  pod('catalog-7b6cf5d8d9-4hq8s', 'worker-1', 6),
  pod('catalog-7b6cf5d8d9-g2m5x', 'worker-2', 6, 0.2),
  pod('catalog-7b6cf5d8d9-zt6wc', 'worker-3', 6),
];

export const SHOP_SERVICES = ['orders', 'catalog'] as const;
const NAMESPACE = 'shop';
const ORDERS = [0, 1, 2];
const CATALOG = [3, 4, 5];
const BACKEND_PORT = 8000;

/** The scene of the demos: two Services with three pods each. */
export async function openShop(): Promise<Scene> {
  const scene = await createScene({
    pods: SHOP_PODS.length,
    services: [
      { name: 'orders', port: 10000, targetPort: BACKEND_PORT, pods: ORDERS },
      { name: 'catalog', port: 80, targetPort: BACKEND_PORT, pods: CATALOG },
    ],
  });
  try {
    await Promise.all(scene.pods.map((at, i) => startOdd(scene, at, BACKEND_PORT, SHOP_PODS[i]!)));
  } catch (error) {
    await scene.dispose();
    throw error;
  }
  return scene;
}

/** nginx in front of the shop. */
export function startShopFront(scene: Scene, format: string): Promise<Nginx> {
  return startFront(scene, scene.fronts[0]!, join(scene.dir, 'front'), {
    format,
    keepalive: true,
    // A quiet shop would otherwise stay on its first connections, and so on the first pods.
    keepaliveRequests: 8,
    services: SHOP_SERVICES,
  });
}

/** The shop with nginx, helper and sidecar, and names for its pods. */
export interface LiveShop {
  scene: Scene;
  /** nginx's. */
  pod: Pod;
  front: Nginx;
  helper: Program;
  sidecar: Sidecar;
  /** Sends so many requests a second until the scene is disposed of. */
  keepBusy(ratePerSecond: number): void;
}

export async function openLiveShop(format: string): Promise<LiveShop> {
  const scene = await openShop();
  try {
    const front = await startShopFront(scene, format);
    const helper = await startHelper(scene, ['--kubeconfig', await startNames(scene)]);
    const at = scene.fronts[0]!;
    const sidecar = await startSidecar(scene, at, {
      accessLog: front.accessLog,
      format,
      dir: join(scene.dir, 'sidecar'),
    });
    const keepBusy = (ratePerSecond: number): void => {
      const whole = { connections: 16, total: Number.MAX_SAFE_INTEGER, limitMs: 2 ** 31 - 1 };
      // It ends with the scene, and only then.
      void load(scene, { ...whole, ratePerSecond, requests: SHOP_REQUESTS }).catch(() => {});
    };
    await untilNamed(scene, sidecar);
    return { scene, pod: at, front, helper, sidecar, keepBusy };
  } catch (error) {
    await scene.dispose();
    throw error;
  }
}

/** Sends single requests until the pod of one is named: from then on the sidecar's record is complete. */
async function untilNamed(scene: Scene, sidecar: Sidecar): Promise<void> {
  for (let n = 0; n < 100; n++) {
    await load(scene, { connections: 1, total: 1, requests: SHOP_REQUESTS });
    await caughtUp(sidecar);
    if ((sidecar.counts().evidence['request-id'] ?? 0) > 0) return;
  }
  throw new Error(`lab: no line was named; the sidecar says: ${sidecar.said()}`);
}

/** Starts the API server's stand-in with the names of the pods; resolves with the kubeconfig. */
export async function startNames(scene: Scene): Promise<string> {
  const api = await startApiServer(scene);
  for (const [i, indexes] of [ORDERS, CATALOG].entries()) {
    const name = SHOP_SERVICES[i]!;
    const pods = indexes.map((n) => ({
      ip: scene.pods[n]!.ip,
      pod: SHOP_PODS[n]!.name,
      node: SHOP_PODS[n]!.node,
    }));
    await api.send({ put: service(NAMESPACE, name, [scene.service(name).clusterIp]) });
    await api.send({ put: slice(NAMESPACE, name, 'lab', pods) });
  }
  return api.kubeconfig;
}

const browser = ['User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0'];
const script = ['User-Agent: curl/7.81.0'];

/** Only the failing pod fails: failures that are spread by chance could make another pod stand out for a while. */
export const SHOP_REQUESTS: LoadPlan['requests'] = [
  { path: '/catalog/', headers: browser, weight: 4 },
  { path: '/catalog/article/{n}', headers: browser, weight: 5 },
  { path: '/catalog/images/{n}?size=20000', headers: browser, weight: 2 },
  { path: '/catalog/images/{n}?size=65536', headers: browser, weight: 1 },
  { path: '/catalog/search?q=teapot&page={n}', headers: browser, weight: 2 },
  { path: '/catalog/old?status=301', headers: browser, weight: 0.4 },
  { path: '/catalog/gone?status=404', headers: script, weight: 0.4 },
  { path: '/orders/{n}', headers: browser, weight: 4 },
  { path: '/orders/{n}?size=900', headers: script, weight: 3 },
  { path: '/orders/', method: 'POST', bodyBytes: 320, headers: browser, weight: 2 },
];
