/** The scene that all rounds play in: pods, Services, backends of all protocols, a helper. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SIZES, startNginx } from '../lab/kit/nginx.ts';
import type { NginxBuild } from '../lab/kit/nginx-build.ts';
import { type Program, startHelper } from '../lab/kit/product.ts';
import { createScene, type Scene, type ServiceSpec } from '../lab/kit/scene.ts';
import { startOdd } from '../lab/kit/traffic.ts';
import { backendConf, SECOND_IP } from './conf.ts';

const PODS = [0, 1, 2, 3];
const TLS_PORTS: Record<string, [number, number]> = { a: [8443, 8443], c: [8444, 8444] };
const VIPS = { a: '10.105.148.194', b: '10.105.148.195' };

export interface World {
  scene: Scene;
  helper: Program;
  /** Logs of all that answers. */
  servedLogs: readonly string[];
  startHelper(): Promise<void>;
  /** Puts Services a, b and c on these pods; `swapped` gives the ClusterIPs of a and b to each other. */
  place(pods: readonly number[], swapped: boolean): void;
  dispose(): Promise<void>;
}

function specs(pods: readonly number[], swapped: boolean): ServiceSpec[] {
  const [a, b] = swapped ? [VIPS.b, VIPS.a] : [VIPS.a, VIPS.b];
  const some = pods.length > 0 ? pods : PODS;
  const plain: ServiceSpec[] = [
    { name: 'a', port: swapped ? 80 : 10000, targetPort: 10000, pods: some, clusterIp: a },
    { name: 'b', port: swapped ? 10000 : 80, targetPort: 10001, pods: PODS, clusterIp: b },
    { name: 'c', port: 10000, targetPort: 10001, pods: some.slice(0, 2), clusterIp: '10.105.148.196' },
    { name: 'solo', port: 10000, targetPort: 10001, pods: [0], clusterIp: '10.105.148.197' },
    { name: 'host', port: 10000, targetPort: 10000, pods: [0, 1], onNode: true, clusterIp: '10.105.148.198' },
    { name: 'odd', port: 8000, targetPort: 8000, pods: PODS, clusterIp: '10.105.148.199' },
    { name: 'shut', port: 10000, targetPort: 9, pods: PODS, clusterIp: '10.105.148.200' },
  ];
  // The same ClusterIP's TLS port, as one Service with two ports has it.
  const tls = plain.flatMap((spec): ServiceSpec[] => {
    if (spec.name === 'odd' || spec.name === 'shut') return [];
    const [port, targetPort] = TLS_PORTS[spec.name === 'c' || spec.name === 'solo' ? 'c' : 'a']!;
    return [{ ...spec, name: `${spec.name}-tls`, port, targetPort }];
  });
  return [...plain, ...tls];
}

export async function createWorld(backend: NginxBuild): Promise<World> {
  const scene = await createScene({ pods: PODS.length, services: specs(PODS, false) });
  try {
    const files = join(scene.dir, 'files');
    mkdirSync(files, { recursive: true });
    for (const size of SIZES) writeFileSync(join(files, String(size)), Buffer.alloc(size, 'x'));
    scene.runIn(
      scene.node,
      `cd ${scene.dir} && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=lab -keyout key.pem -out cert.pem 2>/dev/null`,
    );
    const backends = [...scene.pods, scene.node];
    await Promise.all(
      backends.map((pod) => {
        const dir = join(scene.dir, pod.name);
        const http = backendConf(dir, files, scene.dir);
        return startNginx(scene, pod, dir, { workers: 1, http, build: backend });
      }),
    );
    await Promise.all(scene.pods.map((pod) => startOdd(scene, pod, 8000)));
    scene.runIn(scene.node, `ip route replace ${SECOND_IP}/32 dev cni0`);
    const world: World = {
      scene,
      helper: await startHelper(scene),
      servedLogs: backends.flatMap(({ name }) =>
        ['served.log', 'odd-served.log'].map((log) => join(scene.dir, name, log)),
      ),
      async startHelper() {
        world.helper = await startHelper(scene);
      },
      place: (pods, swapped) => scene.setServices(specs(pods, swapped)),
      dispose: () => scene.dispose(),
    };
    return world;
  } catch (error) {
    await scene.dispose();
    throw error;
  }
}
