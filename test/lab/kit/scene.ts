import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createHostRouting, type HostRouting } from './host-routing.ts';
import { iptablesRules, type ServiceRules } from './kube-proxy.ts';
import { nftablesRules } from './kube-proxy-nft.ts';
import { removeRun, runPrefix, sweepDeadRuns } from './namespaces.ts';
import { LAB_PATH } from './requirements.ts';
import { sh } from './shell.ts';
import { createSocketLb, type SocketLb } from './socket-lb.ts';

/**
 * The article's scene on a real kernel, in network namespaces of its own:
 *
 *     client ──▶ front (nginx pod, 10.244.0.70) ──▶ ClusterIP ──(DNAT in `node`)──▶ pod0, pod1, … (10.244.1.64 …)
 *
 * Every pod sits with a /32 on a veth of the node's bridge `cni0` and sends everything to the node's address, so the
 * replies pass the node's conntrack whether bridge netfilter is there or not.
 */
export interface SceneOptions {
  /** Number of backend pods. */
  pods?: number;
  /** Number of nginx pods. */
  fronts?: number;
  services?: readonly ServiceSpec[];
  masqueradeAll?: boolean;
  /**
   * kube-proxy's mode, or none: processes of nginx pods get their pod in connect() (`socket-lb`), also where packets go past
   * the node's stack (`host-routing`), or the node puts a pod's address into each packet there (`packet-lb`, IPv4 only).
   * Default iptables.
   */
  mode?: 'iptables' | 'nftables' | 'socket-lb' | 'host-routing' | 'packet-lb';
}

export interface ServiceSpec {
  name: string;
  port: number;
  targetPort: number;
  /** Indexes of the backend pods behind it. */
  pods: readonly number[];
  /** Indexes of nginx pods behind it, of IPv4. */
  fronts?: readonly number[];
  /** Whether a process with the node's own network (hostNetwork) is behind it too, at `UPLINK_IP`. */
  onNode?: boolean;
  clusterIp?: string;
  nodePort?: number;
  externalIps?: readonly string[];
  affinitySeconds?: number;
  family?: 4 | 6;
}

export interface Pod {
  name: string;
  /** Name of its network namespace. */
  ns: string;
  ip: string;
  ip6: string;
}

export interface Service extends ServiceSpec {
  clusterIp: string;
  /** `ip:port` or `[ip]:port`: what nginx dials. */
  address: string;
}

export interface RunOptions extends SpawnOptions {
  /** Start without any capability (still uid 0, the log's owner). */
  powerless?: boolean;
}

export const NODE_IP = '10.244.0.1';
/** The node's address on its own network (`status.hostIP` in a cluster). */
export const UPLINK_IP = '192.168.50.10';
const NODE_IP6 = 'fd00:10:244::1';

export interface Scene {
  prefix: string;
  /** A directory of the run's own; removed with the scene. */
  dir: string;
  node: Pod;
  client: Pod;
  fronts: readonly Pod[];
  pods: readonly Pod[];
  /** Starts a process in a pod's namespace; `dispose` ends it. */
  spawnIn(pod: Pod, command: string, args: readonly string[], options?: RunOptions): ChildProcess;
  /** Runs a shell script in a pod's namespace to its end and returns its stdout. */
  runIn(pod: Pod, script: string, input?: string): string;
  /** Replaces all Services (kube-proxy's rules) at once; connections that are open stay as they are. */
  setServices(specs: readonly ServiceSpec[]): void;
  service(name: string): Service;
  dispose(): Promise<void>;
}

const living = new Set<string>();
let hooked = false;

/** Scenes go also when the process ends by an error or a signal; kill -9 is left to the next run's sweep. */
function hookExit(): void {
  if (hooked) return;
  hooked = true;
  process.on('exit', () => {
    for (const prefix of living) removeRun(prefix);
  });
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const)
    process.on(signal, () => process.exit(code));
}

function podScript(node: Pod, pod: Pod, index: number): string {
  const host = `veth${index}`;
  return `
ip netns add ${pod.ns}
ip link add ${host} netns ${node.ns} type veth peer name eth0 netns ${pod.ns}
ip -n ${node.ns} link set ${host} master cni0 up
ip netns exec ${node.ns} bridge link set dev ${host} hairpin on
ip -n ${node.ns} route add ${pod.ip}/32 dev cni0
ip -n ${pod.ns} link set lo up
ip -n ${pod.ns} addr add ${pod.ip}/32 dev eth0
ip -n ${pod.ns} link set eth0 up
ip -n ${pod.ns} route add default via ${NODE_IP} dev eth0 onlink
ip netns exec ${pod.ns} sysctl -qw net.ipv4.conf.all.accept_redirects=0 net.core.somaxconn=4096
if [ -e /proc/sys/net/ipv6 ]; then
  ip -n ${node.ns} route add ${pod.ip6}/128 dev cni0
  ip -n ${pod.ns} addr add ${pod.ip6}/128 dev eth0 nodad
  ip -n ${pod.ns} route add default via ${NODE_IP6} dev eth0 onlink
fi`;
}

function nodeScript(node: Pod): string {
  return `
ip netns add ${node.ns}
ip -n ${node.ns} link set lo up
ip -n ${node.ns} link add cni0 type bridge
ip -n ${node.ns} addr add ${NODE_IP}/32 dev cni0
ip -n ${node.ns} link set cni0 up
# The node's own network: nothing is on it, but packets to a ClusterIP need a route before they are translated.
ip -n ${node.ns} link add uplink type bridge
ip -n ${node.ns} addr add ${UPLINK_IP}/24 dev uplink
ip -n ${node.ns} link set uplink up
ip -n ${node.ns} route add default dev uplink
ip netns exec ${node.ns} sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.cni0.rp_filter=0 \
  net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.cni0.send_redirects=0
if [ -e /proc/sys/net/ipv6 ]; then
  ip -n ${node.ns} addr add ${NODE_IP6}/128 dev cni0 nodad
  ip netns exec ${node.ns} sysctl -qw net.ipv6.conf.all.forwarding=1
fi`;
}

function resolveService(spec: ServiceSpec, index: number): Service {
  const v6 = spec.family === 6;
  const clusterIp =
    spec.clusterIp ?? (v6 ? `fd00:10:105::${(index + 1).toString(16)}` : `10.105.148.${194 + index}`);
  return { ...spec, clusterIp, address: v6 ? `[${clusterIp}]:${spec.port}` : `${clusterIp}:${spec.port}` };
}

export async function createScene(options: SceneOptions = {}): Promise<Scene> {
  hookExit();
  sweepDeadRuns();
  const prefix = runPrefix();
  const dir = join(tmpdir(), prefix);
  const pod = (name: string, ip: string, ip6: string): Pod => ({ name, ns: `${prefix}-${name}`, ip, ip6 });
  const node = pod('node', NODE_IP, NODE_IP6);
  const client = pod('client', '10.244.0.9', 'fd00:10:244::9');
  const fronts = Array.from({ length: options.fronts ?? 1 }, (_, i) =>
    pod(`front${i}`, `10.244.0.${70 + i}`, `fd00:10:244::${70 + i}`),
  );
  const pods = Array.from({ length: options.pods ?? 4 }, (_, i) =>
    pod(`pod${i}`, `10.244.1.${64 + i}`, `fd00:10:244:1::${64 + i}`),
  );
  const children = new Set<ChildProcess>();
  let services: Service[] = [];
  let socketLb: SocketLb | undefined;
  let routing: HostRouting | undefined;

  living.add(prefix);
  mkdirSync(dir, { recursive: true });
  try {
    sh([nodeScript(node), ...[client, ...fronts, ...pods].map((p, i) => podScript(node, p, i))].join('\n'));
    if (options.mode === 'socket-lb' || options.mode === 'host-routing')
      socketLb = createSocketLb(prefix, dir);
    if (options.mode === 'host-routing' || options.mode === 'packet-lb') {
      const routed = [client, ...fronts, ...pods].map(({ ip, ip6 }, i) => ({
        device: `veth${i}`,
        ips: [ip, ip6],
      }));
      routing = createHostRouting(prefix, dir, node.ns, routed);
    }
  } catch (error) {
    removeRun(prefix);
    living.delete(prefix);
    throw error;
  }

  const scene: Scene = {
    prefix,
    dir,
    node,
    client,
    fronts,
    pods,
    spawnIn(where, command, args, { powerless, ...spawnOptions } = {}) {
      const drop = powerless ? ['setpriv', '--bounding-set=-all', '--inh-caps=-all', '--no-new-privs'] : [];
      const run = ['ip', 'netns', 'exec', where.ns, ...drop, command, ...args];
      if (socketLb && fronts.includes(where))
        run.unshift('sh', '-ec', `echo $$ >${socketLb.procs}; exec "$@"`, 'sh');
      const child = spawn(run[0]!, run.slice(1), {
        stdio: ['ignore', 'ignore', 'inherit'],
        ...spawnOptions,
        env: { ...process.env, ...spawnOptions.env, PATH: LAB_PATH },
      });
      children.add(child);
      child.once('exit', () => children.delete(child));
      return child;
    },
    runIn: (where, script, input) =>
      sh(`exec ip netns exec ${where.ns} sh -ec '${script.replaceAll("'", `'\\''`)}'`, input),
    setServices(specs) {
      services = specs.map(resolveService);
      const balancer = socketLb ?? routing;
      if (balancer) {
        balancer.setServices(
          services.map((s) => ({
            ip: s.clusterIp,
            port: s.port,
            endpoints: s.pods.map((i) => ({
              ip: pods[i]![s.family === 6 ? 'ip6' : 'ip'],
              port: s.targetPort,
            })),
          })),
        );
        return;
      }
      for (const family of [4, 6] as const) {
        const rules: ServiceRules[] = services
          .filter((s) => (s.family ?? 4) === family)
          .map((s) => ({
            name: `default/${s.name}:http`,
            clusterIp: s.clusterIp,
            port: s.port,
            endpoints: [
              ...s.pods.map((i) => (family === 6 ? pods[i]!.ip6 : pods[i]!.ip)),
              ...(s.fronts ?? []).map((i) => fronts[i]!.ip),
              ...(s.onNode ? [UPLINK_IP] : []),
            ].map((ip) => ({ ip, port: s.targetPort })),
            nodePort: s.nodePort,
            externalIps: s.externalIps,
            affinitySeconds: s.affinitySeconds,
          }));
        if (family === 6 && rules.length === 0) continue;
        const podCidr = family === 6 ? 'fd00:10:244::/48' : '10.244.0.0/16';
        const proxy = { family, podCidr, masqueradeAll: options.masqueradeAll };
        if (options.mode === 'nftables') sh(`ip netns exec ${node.ns} nft -f -`, nftablesRules(rules, proxy));
        else {
          const restore = family === 6 ? 'ip6tables-restore' : 'iptables-restore';
          sh(`ip netns exec ${node.ns} ${restore}`, iptablesRules(rules, proxy));
        }
      }
    },
    service(name) {
      const found = services.find((s) => s.name === name);
      if (!found) throw new Error(`lab: no Service named ${name}`);
      return found;
    },
    async dispose() {
      if (!living.has(prefix)) return;
      await Promise.all([...children].map((child) => endChild(child)));
      removeRun(prefix);
      living.delete(prefix);
    },
  };
  try {
    scene.setServices(options.services ?? []);
  } catch (error) {
    await scene.dispose();
    throw error;
  }
  return scene;
}

/** SIGTERM, then SIGKILL after `graceMs`. Resolves with the exit code (null when a signal ended it). */
export function endChild(
  child: ChildProcess,
  signal: NodeJS.Signals = 'SIGTERM',
  graceMs = 5000,
): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve(child.exitCode);
  return new Promise((resolve) => {
    const timer = setTimeout(() => child.kill('SIGKILL'), graceMs);
    child.once('exit', (code) => {
      clearTimeout(timer);
      resolve(code);
    });
    child.kill(signal);
  });
}
