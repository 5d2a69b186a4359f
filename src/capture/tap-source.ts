/** Where the tap's packets come from, and what reads them. */
import type { CaptureOptions, CaptureStats } from './capture.ts';
import type { FlowTable } from './conntrack/flow-table.ts';
import { CANNOT_RUN_RULES, CaptureError } from './error.ts';
import type { AddressSet, AddressTexts } from './ip-bytes.ts';
import type { Libc } from './netlink/libc.ts';
import type { NetlinkSource } from './netlink-source.ts';
import { openPackets } from './packet/open.ts';
import type { PacketTap } from './packet/packet-tap.ts';
import { FlowTables } from './tap/flow-tables.ts';
import { HeaderPackets } from './tap/header-tap.ts';
import type { TapTable } from './tap/nft-table.ts';
import { openTap } from './tap/open-tap.ts';
import { headerName } from './tap/request-head.ts';
import { TapPackets, type TapReading } from './tap/request-tap.ts';

/** What no right and no other option helps against: of a kernel without nf_tables or netlink's netfilter, or one too old. */
const WITHOUT_RULES: ReadonlySet<string> = new Set([CANNOT_RUN_RULES, 'EPROTONOSUPPORT']);

export interface TapSourceParts {
  addresses: AddressSet;
  texts: AddressTexts;
  stats: CaptureStats;
  flows: FlowTable;
  /** The addresses whose requests carry hashes of their content. */
  contents: ReadonlySet<string>;
}

export interface OpenedTap {
  /** Undefined without the source `tap`. */
  socket: (NetlinkSource & { close(): void }) | undefined;
  packets: TapReading;
  /** Undefined where no rule is needed. */
  table: TapTable | undefined;
  /** Where packets can go past the rules. */
  flowTables: FlowTables | undefined;
  /** Where the packets are those of a packet socket. */
  packetTap: PacketTap | undefined;
}

/** Rejects with a `CaptureError`; then nothing is left open. */
export async function openTapSource(
  libc: Libc,
  options: CaptureOptions,
  { contents, flows, ...read }: TapSourceParts,
): Promise<OpenedTap> {
  const { sources, tap, tapSource, maxFlows, requestIdHeader, paths, log } = options;
  const request = { ...read, idHeader: headerName(requestIdHeader), paths, contents };
  let table: TapTable | undefined;
  if (tapSource !== 'packet' || !sources.includes('tap')) {
    let flowTables: FlowTables | undefined;
    try {
      flowTables = sources.includes('tap') ? FlowTables.open(libc) : undefined;
      const { group: socket, table } = await openTap(libc, options);
      const packets = tap === 'headers' ? new HeaderPackets({ ...read, maxFlows }) : new TapPackets(request);
      return { socket, packets, table, flowTables, packetTap: undefined };
    } catch (error) {
      flowTables?.close();
      if (!(error instanceof CaptureError) || !WITHOUT_RULES.has(error.code) || options.logRule) throw error;
      if (tapSource !== 'auto')
        throw new CaptureError(
          error.code,
          `${error.message}. Without: --tap-source packet (NET_RAW; k8s/helper-packet), or --sources conntrack`,
        );
      log('warn', `${error.message}. The tap reads a packet socket instead`);
    }
  } else if (options.logRule) {
    ({ table } = await openTap(libc, { ...options, sources: [] }));
  }
  try {
    const { socket, packets } = openPackets(libc, options, { ...request, flows });
    return { socket, packets, table, flowTables: undefined, packetTap: packets };
  } catch (error) {
    await table?.close();
    throw error;
  }
}
