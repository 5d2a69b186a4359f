import { canonicalIp } from '../parse/address.ts';
import type { ApiObject } from './reflector.ts';

/** One EndpointSlice. `ports` is undefined where it stands for every port. */
export interface Slice {
  service: string;
  ports: readonly NamedPort[] | undefined;
  /** With the node of each; undefined where it is not told. */
  ips: ReadonlyMap<string, string | undefined>;
}

interface NamedPort {
  name: string;
  port: number;
}

/** An address and port of a Service, with the port's name, which its endpoints' port has too. */
export interface ServicePort {
  name: string;
  vip: string;
  vport: number;
}

/** discovery.k8s.io/v1 EndpointSlice; undefined where it is of no Service. */
export function sliceOf(object: ApiObject): Slice | undefined {
  const labels = object.metadata?.labels as Record<string, string> | undefined;
  const name = labels?.['kubernetes.io/service-name'];
  if (name === undefined || name === '') return undefined;
  const ips = new Map<string, string | undefined>();
  const endpoints = object.endpoints as { addresses?: string[]; nodeName?: string }[] | null | undefined;
  for (const { addresses, nodeName } of endpoints ?? []) {
    for (const address of addresses ?? []) {
      const ip = canonicalIp(address);
      if (ip !== undefined) ips.set(ip, nodeName);
    }
  }
  const ports: NamedPort[] = [];
  let every = false;
  const given =
    (object.ports as { name?: string; port?: number; protocol?: string }[] | null | undefined) ?? [];
  for (const { name: portName = '', port, protocol = 'TCP' } of given) {
    if (typeof port !== 'number') every = true;
    else if (protocol === 'TCP') ports.push({ name: portName, port });
  }
  return { service: `${object.metadata?.namespace}/${name}`, ports: every ? undefined : ports, ips };
}

/** core/v1 Service: its cluster, external and load balancer addresses, with each TCP port. */
export function portsOf(object: ApiObject): ServicePort[] {
  const spec = object.spec as
    | {
        clusterIP?: string;
        clusterIPs?: string[];
        externalIPs?: string[];
        ports?: { name?: string; port?: number; protocol?: string }[];
      }
    | undefined;
  const status = object.status as { loadBalancer?: { ingress?: { ip?: string }[] } } | undefined;
  const addresses = [
    ...(spec?.clusterIPs ?? (spec?.clusterIP ? [spec.clusterIP] : [])),
    ...(spec?.externalIPs ?? []),
    ...(status?.loadBalancer?.ingress ?? []).flatMap(({ ip }) => ip ?? []),
  ];
  return addresses.flatMap((address) => {
    const vip = canonicalIp(address);
    if (vip === undefined) return [];
    return (spec?.ports ?? []).flatMap(({ name = '', port, protocol = 'TCP' }) =>
      protocol === 'TCP' && typeof port === 'number' ? [{ name, vip, vport: port }] : [],
    );
  });
}
