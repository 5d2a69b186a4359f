import { readFile } from 'node:fs/promises';

/** Socket states of /proc/net/tcp (include/net/tcp_states.h). */
const TIME_WAIT = '06';
const STATE_CLOSE = '07';
const LISTEN = '0A';

/** The connections to listening TCP ports in the text of /proc/net/tcp and tcp6: local and remote address, as it shows them. */
export function inboundSockets(text: string, exceptPort: number): Set<string> {
  const rows = text.split('\n').map((line) => line.trim().split(/ +/, 4));
  const listening = new Set<string>();
  for (const [, local, , state] of rows) if (state === LISTEN) listening.add(portOf(local!));
  listening.delete(exceptPort.toString(16).toUpperCase().padStart(4, '0'));
  const inbound = new Set<string>();
  for (const [, local, remote, state] of rows) {
    if (state === undefined || state === LISTEN || state === TIME_WAIT || state === STATE_CLOSE) continue;
    if (listening.has(portOf(local!))) inbound.add(`${local} ${remote}`);
  }
  return inbound;
}

function portOf(address: string): string {
  return address.slice(address.lastIndexOf(':') + 1);
}

/** The kernel's socket tables of a network namespace, as text. */
export interface NamespaceTables {
  /** /proc/net/tcp and tcp6. */
  tcp: string;
  /** /proc/net/udp and udp6. */
  udp: string;
  /** /proc/net/unix. */
  unix: string;
}

/** A UDP socket that is bound and not connected has the state of a closed one. */
const UDP_UNCONNECTED = '07';
/** __SO_ACCEPTCON (include/linux/net.h), as /proc/net/unix shows it. */
const UNIX_LISTENING = '00010000';

/** Whether a server may have clients that the TCP tables do not show: HTTP/3 comes by UDP, others by Unix sockets. */
export function hasHiddenClients({ udp, unix }: NamespaceTables): boolean {
  const columns = (text: string): string[][] => text.split('\n').map((line) => line.trim().split(/ +/, 5));
  return (
    columns(udp).some(([, , , state]) => state === UDP_UNCONNECTED) ||
    columns(unix).some(([, , , flags]) => flags === UNIX_LISTENING)
  );
}

/** `hidden`: UDP and Unix sockets too, else those are empty. Undefined where the system shows none. */
export async function readSocketTables(hidden: boolean): Promise<NamespaceTables | undefined> {
  const optional = (path: string): Promise<string> => readFile(path, 'latin1').catch(() => '');
  try {
    const tcp = `${await readFile('/proc/net/tcp', 'latin1')}\n${await optional('/proc/net/tcp6')}`;
    if (!hidden) return { tcp, udp: '', unix: '' };
    const udp = await readFile('/proc/net/udp', 'latin1');
    const unix = await readFile('/proc/net/unix', 'latin1');
    return { tcp, udp: `${udp}\n${await optional('/proc/net/udp6')}`, unix };
  } catch {
    return undefined;
  }
}
