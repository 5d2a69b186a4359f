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

/** Reads both families; undefined where the system shows none. */
export async function readSocketTables(): Promise<string | undefined> {
  try {
    const four = await readFile('/proc/net/tcp', 'latin1');
    const six = await readFile('/proc/net/tcp6', 'latin1').catch(() => '');
    return `${four}\n${six}`;
  } catch {
    return undefined;
  }
}
