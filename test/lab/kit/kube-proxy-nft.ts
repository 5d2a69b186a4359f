import { chain, hostPort, type ProxyOptions, type ServiceRules } from './kube-proxy.ts';

/** `HASH-namespace/name/tcp/portname`: what kube-proxy's nftables chains are called after their prefix. */
function label(service: ServiceRules): string {
  const name = service.name.replace(':', '/tcp/');
  return `${chain('', service.name, 'tcp').slice(0, 8)}-${name}`;
}

/**
 * Input of `nft -f -`: what kube-proxy's nftables mode keeps in its table `kube-proxy` (pkg/proxy/nftables) for these
 * Services. It replaces the table in one transaction.
 */
export function nftablesRules(services: readonly ServiceRules[], options: ProxyOptions): string {
  const ip = options.family === 6 ? 'ip6' : 'ip';
  const type = options.family === 6 ? 'ipv6_addr' : 'ipv4_addr';
  const chains: string[] = [];
  const sets: string[] = [];
  const portals: string[] = [];
  const nodePorts: string[] = [];
  for (const service of services) {
    if (service.endpoints.length === 0) {
      portals.push(`${service.clusterIp} . tcp . ${service.port} : drop`);
      continue;
    }
    const own = label(service);
    portals.push(`${service.clusterIp} . tcp . ${service.port} : goto service-${own}`);
    const externals = service.externalIps ?? [];
    for (const address of externals)
      portals.push(`${address} . tcp . ${service.port} : goto external-${own}`);
    if (service.nodePort) nodePorts.push(`tcp . ${service.nodePort} : goto external-${own}`);

    const ends = service.endpoints.map((end) => ({
      ...end,
      name: `${own}__${end.ip.replaceAll(':', '.')}/${end.port}`,
    }));
    for (const end of ends) {
      const sticky = `affinity-${end.name}`;
      if (service.affinitySeconds)
        sets.push(
          `set ${sticky} { type ${type}; flags dynamic,timeout; timeout ${service.affinitySeconds}s; }`,
        );
      chains.push(`chain endpoint-${end.name} {
    ${ip} saddr ${end.ip} jump mark-for-masquerade
    ${service.affinitySeconds ? `update @${sticky} { ${ip} saddr }` : ''}
    meta l4proto tcp dnat to ${hostPort(end.ip, end.port)}
  }`);
    }
    const outside = options.masqueradeAll ? '' : `${ip} saddr != ${options.podCidr} `;
    const stick = service.affinitySeconds
      ? ends.map((end) => `${ip} saddr @affinity-${end.name} goto endpoint-${end.name}`)
      : [];
    const choice = ends.map((end, i) => `${i} : goto endpoint-${end.name}`).join(', ');
    chains.push(`chain service-${own} {
    ${ip} daddr ${service.clusterIp} tcp dport ${service.port} ${outside}jump mark-for-masquerade
    ${stick.join('\n    ')}
    numgen random mod ${ends.length} vmap { ${choice} }
  }`);
    if (service.nodePort || externals.length > 0)
      chains.push(`chain external-${own} {
    jump mark-for-masquerade
    goto service-${own}
  }`);
  }
  const elements = (list: readonly string[]) => (list.length > 0 ? `elements = { ${list.join(', ')} }` : '');
  return `table ${ip} kube-proxy { }
delete table ${ip} kube-proxy
table ${ip} kube-proxy {
  ${sets.join('\n  ')}
  chain mark-for-masquerade { mark set mark or 0x4000; }
  chain masquerading {
    mark and 0x4000 == 0 return
    mark set mark xor 0x4000
    masquerade fully-random
  }
  ${chains.join('\n  ')}
  map service-ips { type ${type} . inet_proto . inet_service : verdict; ${elements(portals)}; }
  map service-nodeports { type inet_proto . inet_service : verdict; ${elements(nodePorts)}; }
  chain services {
    ${ip} daddr . meta l4proto . th dport vmap @service-ips
    fib daddr type local meta l4proto . th dport vmap @service-nodeports
  }
  chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
  chain nat-output { type nat hook output priority -100; jump services; }
  chain nat-postrouting { type nat hook postrouting priority srcnat; jump masquerading; }
}
`;
}
