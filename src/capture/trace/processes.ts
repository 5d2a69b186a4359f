/** The nginx processes of this node, from /proc. Other pods' are visible with `hostPID: true` and CAP_SYS_PTRACE only. */
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { basename } from 'node:path';
import { canonicalIp } from '../../parse/address.ts';

/** One executable of nginx that processes in network namespaces of subscribed addresses run. */
export interface RunningBinary {
  /** Device and inode: the same executable. */
  readonly key: string;
  /** Opens it, also when its name leads elsewhere by now. Valid while the process lives. */
  readonly path: string;
  /** For people. */
  readonly named: string;
  /** Subscribed addresses beside which it runs. */
  readonly addresses: ReadonlySet<string>;
}

const NGINX = /^(nginx|nginx-debug|openresty|angie|tengine|freenginx)( \(deleted\))?$/;

/** A network namespace in which nginx has a subscribed address: its inode, and the address. */
export interface Place {
  readonly namespace: string;
  readonly address: string;
}

export interface Found {
  readonly binaries: readonly RunningBinary[];
  readonly places: readonly Place[];
}

/** Each executable once. `addresses`: the subscribed ones, canonical text; undefined: all of nginx, wherever it is. */
export function findNginx(addresses: ReadonlySet<string> | undefined, proc = '/proc'): Found {
  const found = new Map<string, RunningBinary & { addresses: Set<string> }>();
  const own = new Map<string, readonly string[]>();
  for (const pid of readdirSync(proc)) {
    if (!/^\d+$/.test(pid)) continue;
    const path = `${proc}/${pid}/exe`;
    try {
      const name = readlinkSync(path);
      if (!NGINX.test(basename(name))) continue;
      const { dev, ino } = statSync(path, { bigint: true });
      const key = `${dev}:${ino}`;
      const namespace = /^net:\[(\d+)\]$/.exec(readlinkSync(`${proc}/${pid}/ns/net`))?.[1];
      if (namespace === undefined) continue;
      let watched = own.get(namespace);
      if (watched === undefined) {
        const all = localAddresses(read(`${proc}/${pid}/net/fib_trie`), read(`${proc}/${pid}/net/if_inet6`));
        watched = addresses ? all.filter((address) => addresses.has(address)) : all;
        own.set(namespace, watched);
      }
      if (watched.length === 0) continue;
      const binary = found.get(key) ?? {
        key,
        path,
        named: `${name} (process ${pid})`,
        addresses: new Set<string>(),
      };
      for (const address of watched) binary.addresses.add(address);
      found.set(key, binary);
    } catch {
      // It has ended, it is the kernel's, or it is out of reach.
    }
  }
  const places = [...own].flatMap(([namespace, watched]) =>
    watched.map((address) => ({ namespace, address })),
  );
  return { binaries: [...found.values()], places };
}

/** Executables of nginx have a few megabytes. */
const MAX_EXECUTABLE = 64 * 1024 * 1024;

/** Throws where it cannot be read. */
export function readExecutable(path: string): Buffer {
  const { size } = statSync(path);
  if (size > MAX_EXECUTABLE) return Buffer.alloc(0);
  return readFileSync(path);
}

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    // Without IPv6 there is no file.
    return '';
  }
}

/** A network namespace's own addresses, canonical text, from its `/proc/net/fib_trie` and `/proc/net/if_inet6`. */
export function localAddresses(fibTrie: string, ifInet6: string): string[] {
  const addresses = new Set<string>();
  for (const [, address] of fibTrie.matchAll(/\|-- ([\d.]+)\n\s+\/32 host LOCAL/g)) addresses.add(address!);
  for (const [, hex] of ifInet6.matchAll(/^([0-9a-f]{32}) /gm)) {
    const address = canonicalIp(hex!.match(/.{4}/g)!.join(':'));
    if (address !== undefined) addresses.add(address);
  }
  return [...addresses];
}
