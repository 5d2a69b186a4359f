import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bpfMount } from './bpf-mount.ts';
import { sh } from './shell.ts';
import { addressBytes, type SocketService, valueBytes } from './socket-lb.ts';

/**
 * Packets go from one pod's device to another's past the node's stack, its netfilter and its conntrack
 * (host-routing.bpf.c). With Services, each packet to one is sent to a pod of it, and each of the pod's comes from it.
 */
export interface HostRouting {
  /** Replaces all Services, of IPv4 only. */
  setServices(services: readonly SocketService[]): void;
}

export interface RoutedPod {
  /** The host's side of its veth, in the node's namespace. */
  device: string;
  ips: readonly string[];
}

const SOURCE = fileURLToPath(new URL('host-routing.bpf.c', import.meta.url));

/** `node`: the node's network namespace. Goes with the namespace and `removeBpfMount(prefix)`. */
export function createHostRouting(
  prefix: string,
  dir: string,
  node: string,
  pods: readonly RoutedPod[],
): HostRouting {
  const pins = join(bpfMount(prefix), 'host-routing');
  const object = join(dir, 'host-routing.o');
  sh(`clang -O2 -g -target bpf -I"/usr/include/$(uname -m)-linux-gnu" -c ${SOURCE} -o ${object}
bpftool prog loadall ${object} ${pins} pinmaps ${pins}-maps`);
  const map = (name: string) => `bpftool map update pinned ${pins}-maps/${name} key hex`;
  const script = pods.flatMap(({ device, ips }) => {
    // `ip netns exec` has a /sys of its own, without the pins.
    const index = Number(sh(`ip -n ${node} -o link show ${device}`).split(':', 1)[0]);
    const value = Buffer.alloc(4);
    value.writeUInt32LE(index);
    return [
      `nsenter --net=/run/netns/${node} tc qdisc add dev ${device} clsact`,
      // tc mounts /sys/fs/bpf where it is not, and leaves it.
      `unshare -m nsenter --net=/run/netns/${node} tc filter add dev ${device} ingress bpf da object-pinned ${pins}/from_pod`,
      ...ips.map(
        (ip) =>
          `${map('devices')} ${addressBytes({ ip, port: 0 })} value hex ${[...value].map((b) => b.toString(16)).join(' ')}`,
      ),
    ];
  });
  sh(script.join('\n'));
  return {
    setServices(services) {
      sh(
        services
          .map(
            (service) => `${map('services')} ${addressBytes(service)} value hex ${valueBytes(service)} any`,
          )
          .join('\n'),
      );
    },
  };
}
