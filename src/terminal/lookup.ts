import type { Writable } from 'node:stream';
import type { LookupOptions } from '../config/commands.ts';
import { UsageError } from '../config/option.ts';
import type { LookupMatch } from '../http/sidecar/lookup.ts';
import { formatHostPort } from '../parse/address.ts';
import { ask } from './sidecar-client.ts';
import { type Look, table } from './table.ts';

const HEAD = ['POD', 'NAMESPACE', 'NODE', 'ADDRESS', 'DIALLED', 'OPENED', 'CLOSED', 'SEEN BY'];

/** `realpod lookup PORT`: the pods behind a source port, one a line. Rejects with SidecarError where there is none. */
export async function runLookup(options: LookupOptions, stdout: Writable, look: Look): Promise<number> {
  const { argument: port } = options;
  if (port === undefined || !/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 65_535) {
    throw new UsageError(
      port === undefined
        ? 'give a source port: realpod lookup 33454'
        : `${port} is not a port from 1 to 65535`,
    );
  }
  const response = await ask(options.sidecar, 'lookup', {
    port,
    time: options.time,
    upstream: options.upstream,
  });
  const { matches } = (await response.json()) as { matches: LookupMatch[] };
  stdout.write(table(HEAD, matches.map(row), look));
  return 0;
}

function row({ pod, namespace, node, ip, port, vip, vport, from, to, via }: LookupMatch): string[] {
  return [
    pod || '-',
    namespace || '-',
    node || '-',
    formatHostPort(ip, port),
    vip === undefined ? '-' : formatHostPort(vip, vport ?? 0),
    from === null ? 'before' : new Date(from).toISOString(),
    to === null ? 'open' : new Date(to).toISOString(),
    via,
  ];
}
