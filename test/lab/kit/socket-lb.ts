import { existsSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import { isIPv6 } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bpfMount, removeBpfMount } from './bpf-mount.ts';
import { fails } from './requirements.ts';
import { sh } from './shell.ts';

/**
 * A load balancer in connect(), as Cilium's socket load balancing is: the processes of a cgroup that dial a Service are
 * connected to one of its pods, and no packet ever has the Service's address (socket-lb.bpf.c).
 */
export interface SocketLb {
  /** A process that writes its pid here is in. */
  readonly procs: string;
  /** Replaces all Services at once; connections that are open stay as they are. */
  setServices(services: readonly SocketService[]): void;
}

export interface SocketService {
  ip: string;
  port: number;
  /** At most 8. Without any, connect() fails. */
  endpoints: readonly { ip: string; port: number }[];
}

export const SOCKET_LB = [
  'clang:clang',
  'bpftool:bpftool',
  '/usr/include/bpf/bpf_helpers.h:libbpf-dev',
] as const;

const SOURCE = fileURLToPath(new URL('socket-lb.bpf.c', import.meta.url));
const PROGRAMS = ['connect4', 'connect6', 'getpeername4', 'getpeername6'];
const MOST = 8;

/** Why it cannot run here, in one line. */
export function socketLbObstacle(): string | undefined {
  if (cgroupRoot() === undefined) return 'there is no cgroup of version 2';
  return fails('bpftool', ['prog', 'list']);
}

function cgroupRoot(): string | undefined {
  for (const line of readFileSync('/proc/mounts', 'utf8').split('\n')) {
    const [, path, type] = line.split(' ');
    if (type === 'cgroup2') return path;
  }
  return undefined;
}

/** `dir`: for the compiled program. Removed by `removeSocketLb(prefix)`. */
export function createSocketLb(prefix: string, dir: string): SocketLb {
  const group = join(cgroupRoot()!, prefix);
  const pins = join(bpfMount(prefix), 'socket-lb');
  const object = join(dir, 'socket-lb.o');
  sh(`clang -O2 -g -target bpf -I"/usr/include/$(uname -m)-linux-gnu" -c ${SOURCE} -o ${object}
mkdir ${group}
bpftool prog loadall ${object} ${pins} pinmaps ${pins}-maps`);
  for (const program of PROGRAMS) sh(`bpftool cgroup attach ${group} ${program} pinned ${pins}/${program}`);
  const map = `bpftool map %s pinned ${pins}-maps/services key hex %k`;
  let known = new Set<string>();
  return {
    procs: join(group, 'cgroup.procs'),
    setServices(services) {
      const wanted = new Map(services.map((service) => [addressBytes(service), valueBytes(service)]));
      const script = [...wanted].map(([key, value]) =>
        `${map} value hex ${value} any`.replace('%s', 'update').replace('%k', key),
      );
      for (const key of known)
        if (!wanted.has(key)) script.push(map.replace('%s', 'delete').replace('%k', key));
      known = new Set(wanted.keys());
      if (script.length > 0) sh(script.join('\n'));
    },
  };
}

/** Removes what `createSocketLb` made, if it did. The group has no process any more. */
export function removeSocketLb(prefix: string): void {
  removeBpfMount(prefix);
  const root = cgroupRoot();
  const group = root && join(root, prefix);
  if (!group || !existsSync(group)) return;
  // A process that was killed is in its group for a moment longer.
  for (let n = 0; n < 200; n++) {
    try {
      rmdirSync(group);
      return;
    } catch {
      sh('sleep 0.01');
    }
  }
}

/** Prefixes of runs that left something behind, or still run. */
export function socketLbRuns(): string[] {
  const root = cgroupRoot();
  return root ? readdirSync(root) : [];
}

/** `struct address` of socket-lb.bpf.c, as hexadecimal bytes. */
export function addressBytes({ ip, port }: { ip: string; port: number }): string {
  const address = Buffer.alloc(20);
  if (isIPv6(ip)) {
    const [head = '', tail = ''] = ip.split('::');
    const groups = (text: string) => text.split(':').filter(Boolean);
    const zeros = Array<string>(8 - groups(head).length - groups(tail).length).fill('0');
    for (const [i, group] of [...groups(head), ...zeros, ...groups(tail)].entries())
      address.writeUInt16BE(Number.parseInt(group, 16), 2 * i);
  } else {
    for (const [i, byte] of ip.split('.').entries()) address.writeUInt8(Number(byte), i);
  }
  address.writeUInt16BE(port, 16);
  return bytesOf(address);
}

/** `struct service`; the count is in the machine's order. */
export function valueBytes({ ip, port, endpoints }: SocketService): string {
  if (endpoints.length > MOST) throw new Error(`lab: ${ip}:${port} has more than ${MOST} endpoints`);
  const count = Buffer.alloc(4);
  count.writeUInt32LE(endpoints.length);
  const to = endpoints.map(addressBytes);
  while (to.length < MOST) to.push(bytesOf(Buffer.alloc(20)));
  return [bytesOf(count), ...to].join(' ');
}

function bytesOf(bytes: Buffer): string {
  return bytes.toString('hex').replace(/..(?=.)/g, '$& ');
}
