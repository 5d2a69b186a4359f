/**
 * Clients of several addresses behind a NodePort: kube-proxy's rules translate each to the node's address. Every request
 * says in its path who sends it (`/a/from/ADDRESS/…`), which is the truth.
 */
import { splitLines } from './check.ts';
import type { LoadPlan } from './load.ts';
import { NODE_IP, type Scene } from './scene.ts';
import { load } from './traffic.ts';

export const NODE_PORT = 30080;
export const CLIENT_ADDRESSES = Array.from({ length: 8 }, (_, i) => `10.244.0.${201 + i}`);
/** What every client sends, with its address. */
export const FROM = '/a/from/{local}/{n}';

/** Gives the client's namespace its addresses, and lets ports come round soon: 60 of them, free a second after their use. */
export function addClients(scene: Scene): void {
  for (const address of CLIENT_ADDRESSES) {
    scene.runIn(scene.client, `ip addr add ${address}/32 dev eth0`);
    scene.runIn(scene.node, `ip route add ${address}/32 dev cni0`);
  }
}

export function narrowPorts(scene: Scene, ports: number): void {
  scene.runIn(
    scene.node,
    `sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_time_wait=1 net.netfilter.nf_conntrack_tcp_timeout_close=1
     iptables -t nat -I POSTROUTING -p tcp -d ${scene.fronts[0]!.ip} -m mark --mark 0x4000/0x4000 -j MASQUERADE --to-ports 40000-${40000 + ports - 1}`,
  );
}

export function widenPorts(scene: Scene): void {
  scene.runIn(scene.node, 'iptables -t nat -D POSTROUTING 1');
}

/** Load through the NodePort. */
export function throughNode(scene: Scene, plan: Omit<LoadPlan, 'host' | 'port'>): ReturnType<typeof load> {
  const front = { ...scene.node, ip: NODE_IP };
  return load(scene, { localAddresses: CLIENT_ADDRESSES, ...plan, front, port: NODE_PORT });
}

/** How the lines say who the client was. */
export interface ClientRow {
  lines: number;
  /** Lines of clients that the node translated, by what they say. */
  right: number;
  unresolved: Record<string, number>;
  /** They say nothing. */
  silent: number;
  /** Lines of clients that came as themselves, without a word about them. */
  own: number;
  wrong: number;
  altered: number;
  findings: string[];
}

const TRUTH = /\/a\/from\/([\d.]+)\//;
const SAID = / client=(\S+)$/;

/** Compares nginx's lines with the sidecar's of `--style annotate`. */
export function judgeClients(input: Buffer, output: Buffer): ClientRow {
  const before = splitLines(input).lines;
  const after = splitLines(output).lines;
  const row: ClientRow = {
    lines: before.length,
    right: 0,
    unresolved: {},
    silent: 0,
    own: 0,
    wrong: 0,
    altered: Math.abs(before.length - after.length),
    findings: [],
  };
  before.forEach((line, i) => {
    const written = after[i] ?? '';
    const peer = line.slice(0, line.indexOf(' '));
    const truth = TRUTH.exec(line)?.[1];
    const said = SAID.exec(written)?.[1];
    if (!written.startsWith(`${peer} `)) row.altered++;
    if (truth === undefined) return;
    const isRight = said === truth && truth !== peer;
    if (said === undefined && truth === peer) row.own++;
    else if (said === undefined) row.silent++;
    else if (said.startsWith('-:')) row.unresolved[said.slice(2)] = (row.unresolved[said.slice(2)] ?? 0) + 1;
    else if (isRight) row.right++;
    else {
      row.wrong++;
      if (row.findings.length < 10) row.findings.push(written);
    }
  });
  return row;
}
