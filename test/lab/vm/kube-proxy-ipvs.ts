import type { Scene, Service } from '../kit/scene.ts';
import { NODE_IP, UPLINK_IP } from '../kit/scene.ts';

/**
 * Puts kube-proxy's IPVS mode in place of the scene's own rules (pkg/proxy/ipvs): a virtual server for each address of
 * each Service, the addresses on a dummy device, masquerading by iptables. IPv4 only.
 */
export function useIpvs(scene: Scene, services: readonly Service[]): void {
  const lines = [
    'iptables -t nat -F',
    'iptables -t nat -X',
    'iptables -F',
    'iptables -X',
    'ipvsadm -C',
    'ip link show kube-ipvs0 >/dev/null 2>&1 || ip link add kube-ipvs0 type dummy',
    // As kube-proxy sets them.
    'sysctl -qw net.ipv4.vs.conntrack=1 net.ipv4.vs.conn_reuse_mode=0 net.ipv4.vs.expire_nodest_conn=1',
    'iptables -t nat -A POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE --random-fully',
  ];
  for (const service of services) {
    const portals = [`${service.clusterIp}:${service.port}`];
    for (const ip of service.externalIps ?? []) portals.push(`${ip}:${service.port}`);
    if (service.nodePort) for (const ip of [NODE_IP, UPLINK_IP]) portals.push(`${ip}:${service.nodePort}`);
    const sticky = service.affinitySeconds ? ` -p ${service.affinitySeconds}` : '';
    for (const [i, portal] of portals.entries()) {
      const [ip] = portal.split(':');
      if (ip !== NODE_IP && ip !== UPLINK_IP)
        lines.push(`ip addr add ${ip}/32 dev kube-ipvs0 2>/dev/null || true`);
      lines.push(`ipvsadm -A -t ${portal} -s rr${sticky}`);
      for (const pod of service.pods)
        lines.push(`ipvsadm -a -t ${portal} -r ${scene.pods[pod]!.ip}:${service.targetPort} -m`);
      // External destinations are masqueraded; ClusterIPs only for callers outside the pods.
      const outside = i === 0 ? '! -s 10.244.0.0/16 ' : '';
      lines.push(
        `iptables -t nat -A PREROUTING ${outside}-d ${ip} -p tcp --dport ${portal.split(':')[1]} -j MARK --set-xmark 0x4000/0x4000`,
      );
    }
    for (const pod of service.pods) {
      const { ip } = scene.pods[pod]!;
      lines.push(`iptables -t nat -A POSTROUTING -s ${ip} -d ${ip} -j MASQUERADE`);
    }
  }
  scene.runIn(scene.node, lines.join('\n'));
}
