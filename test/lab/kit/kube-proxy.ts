import { createHash } from 'node:crypto';

/** One Service port as kube-proxy sees it. Addresses are all of one family. */
export interface ServiceRules {
  /** `namespace/name:portname`, as in kube-proxy's comments. */
  name: string;
  clusterIp: string;
  port: number;
  endpoints: readonly { ip: string; port: number }[];
  nodePort?: number | undefined;
  externalIps?: readonly string[] | undefined;
  /** `sessionAffinity: ClientIP`, seconds. */
  affinitySeconds?: number | undefined;
}

export interface ProxyOptions {
  family: 4 | 6;
  podCidr: string;
  masqueradeAll?: boolean | undefined;
}

/** kube-proxy's chain names: SHA-256, base32, first 16 characters (pkg/proxy/iptables/proxier.go). */
export function chain(prefix: string, ...parts: string[]): string {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
  const digest = createHash('sha256').update(parts.join('')).digest();
  let bits = '';
  for (const byte of digest.subarray(0, 10)) bits += byte.toString(2).padStart(8, '0');
  let text = '';
  for (let i = 0; i < 16; i++) text += alphabet[Number.parseInt(bits.slice(i * 5, i * 5 + 5), 2)];
  return prefix + text;
}

export const hostPort = (ip: string, port: number) =>
  ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`;

/**
 * Input of `iptables-restore --noflush` (or ip6tables-restore): what kube-proxy's iptables mode writes into the nat
 * and filter tables for these Services.
 */
export function iptablesRules(services: readonly ServiceRules[], options: ProxyOptions): string {
  const bits = options.family === 6 ? 128 : 32;
  const chains = ['KUBE-SERVICES', 'KUBE-NODEPORTS', 'KUBE-POSTROUTING', 'KUBE-MARK-MASQ'];
  const portals: string[] = [];
  const nodePorts: string[] = [];
  const rules: string[] = [];
  const rejects: string[] = [];
  for (const service of services) {
    const { name, clusterIp, port } = service;
    const portal = `-d ${clusterIp}/${bits} -p tcp -m comment --comment "${name} cluster IP" -m tcp --dport ${port}`;
    if (service.endpoints.length === 0) {
      rejects.push(`-A KUBE-SERVICES ${portal} -j REJECT`);
      continue;
    }
    const svc = chain('KUBE-SVC-', name, 'tcp');
    chains.push(svc);
    portals.push(`-A KUBE-SERVICES ${portal} -j ${svc}`);
    const outside = options.masqueradeAll ? '' : `! -s ${options.podCidr} `;
    rules.push(`-A ${svc} ${outside}${portal} -j KUBE-MARK-MASQ`);

    const externals = service.externalIps ?? [];
    if (service.nodePort || externals.length > 0) {
      const ext = chain('KUBE-EXT-', name, 'tcp');
      chains.push(ext);
      for (const ip of externals)
        portals.push(
          `-A KUBE-SERVICES -d ${ip}/${bits} -p tcp -m comment --comment "${name} external IP" -m tcp --dport ${port} -j ${ext}`,
        );
      if (service.nodePort)
        nodePorts.push(
          `-A KUBE-NODEPORTS -p tcp -m comment --comment "${name}" -m tcp --dport ${service.nodePort} -j ${ext}`,
        );
      rules.push(
        `-A ${ext} -m comment --comment "masquerade traffic for ${name} external destinations" -j KUBE-MARK-MASQ`,
      );
      rules.push(`-A ${ext} -j ${svc}`);
    }

    const seps = service.endpoints.map((end) => ({
      end,
      sep: chain('KUBE-SEP-', name, 'tcp', hostPort(end.ip, end.port)),
    }));
    if (service.affinitySeconds)
      for (const { end, sep } of seps)
        rules.push(
          `-A ${svc} -m comment --comment "${name} -> ${hostPort(end.ip, end.port)}" -m recent --name ${sep} --rcheck --seconds ${service.affinitySeconds} --reap -j ${sep}`,
        );
    seps.forEach(({ end, sep }, i) => {
      const left = seps.length - i;
      const chance = left > 1 ? `-m statistic --mode random --probability ${(1 / left).toFixed(10)} ` : '';
      const target = hostPort(end.ip, end.port);
      const recent = service.affinitySeconds ? `-m recent --name ${sep} --set ` : '';
      chains.push(sep);
      rules.push(`-A ${svc} -m comment --comment "${name} -> ${target}" ${chance}-j ${sep}`);
      rules.push(`-A ${sep} -s ${end.ip}/${bits} -m comment --comment "${name}" -j KUBE-MARK-MASQ`);
      rules.push(
        `-A ${sep} -p tcp -m comment --comment "${name}" ${recent}-m tcp -j DNAT --to-destination ${target}`,
      );
    });
  }
  return [
    '*filter',
    ':KUBE-SERVICES - [0:0]',
    '-A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    '-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    '-A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    ...rejects,
    'COMMIT',
    '*nat',
    ...[...new Set(chains)].map((name) => `:${name} - [0:0]`),
    '-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    '-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    '-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING',
    '-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000',
    '-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN',
    '-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0',
    '-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully',
    ...portals,
    '-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS',
    ...nodePorts,
    ...rules,
    'COMMIT',
    '',
  ].join('\n');
}
