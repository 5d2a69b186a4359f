/** What the kernel of this node can give a helper: each source is opened once and closed again. */
import type { Source } from '../model/feed.ts';
import type { CaptureOptions } from './capture.ts';
import { countsFlows, dumpRequest, openConntrackEvents } from './conntrack/events.ts';
import { CTA_STATUS, IPS_DST_NAT } from './conntrack/message.ts';
import { CaptureError } from './error.ts';
import { openKernelLog } from './kernel-log/open.ts';
import { type Libc, loadLibc } from './netlink/libc.ts';
import { dump } from './netlink/socket.ts';
import {
  AF_INET,
  AF_INET6,
  ATTRIBUTE_HEADER,
  align4,
  attributeEnd,
  attributeType,
  be32,
  NETFILTER_HEADER,
} from './netlink/wire.ts';
import { countOpenings, openingsText } from './packet/check.ts';
import { FlowTables } from './tap/flow-tables.ts';
import { openTap } from './tap/open-tap.ts';
import { tryTrace } from './trace/check.ts';

/** One finding. `can`: undefined where it is no source, but something that decides what a source is good for. */
export interface NodeFinding {
  subject: Source | 'packets' | 'flow tables' | 'byte counts';
  can: boolean | undefined;
  /** One line for people, with what to do where there is something to do. */
  says: string;
}

/** In the order of the options' sources. Never rejects: what cannot be opened is a finding. */
export async function checkNode(options: CaptureOptions): Promise<NodeFinding[]> {
  let libc: Libc;
  try {
    libc = await loadLibc();
  } catch (error) {
    return (['conntrack', 'tap', 'kernel-log'] as const).map((subject) => refusal(subject, error));
  }
  return [
    await checkConntrack(libc, options),
    ...(await checkTaps(libc, options)),
    await checkKernelLog(options),
    ...(options.sources.includes('trace') ? [await checkTrace()] : []),
    checkFlowTables(libc),
    {
      subject: 'byte counts',
      can: undefined,
      says: countsFlows()
        ? 'conntrack counts bytes'
        : 'conntrack counts no bytes (of use for --evidence inferred): sysctl -w net.netfilter.nf_conntrack_acct=1',
    },
  ];
}

async function checkConntrack(libc: Libc, { receiveBufferBytes }: CaptureOptions): Promise<NodeFinding> {
  try {
    openConntrackEvents(libc, receiveBufferBytes).close();
    return { subject: 'conntrack', can: true, says: connectionsText(await countConnections(libc)) };
  } catch (error) {
    return refusal('conntrack', error);
  }
}

export interface ConnectionCount {
  tracked: number;
  /** Those whose destination the kernel translated: a Service's, where kube-proxy works with netfilter. */
  translated: number;
}

/** What the entries of the node say about who translates a Service's address. */
export function connectionsText({ tracked, translated }: ConnectionCount): string {
  if (tracked === 0)
    return 'no connection is tracked in this network namespace: the helper is not on the node’s network (hostNetwork), or packets pass no netfilter: --sources tap --tap-source packet reads them (NET_RAW; k8s/helper-packet)';
  if (translated === 0)
    return (
      `${tracked} connections are tracked, none of them with a translated destination: nobody uses a Service now,` +
      ' or it is not netfilter that translates (a CNI in place of kube-proxy): then lines are named with the endpoints of the API server'
    );
  return `${tracked} connections are tracked, ${translated} of them with a translated destination`;
}

async function countConnections(libc: Libc): Promise<ConnectionCount> {
  const count = { tracked: 0, translated: 0 };
  for (const family of [AF_INET, AF_INET6])
    await dump(
      libc,
      dumpRequest(family),
      () => {},
      (bytes, start, end) => {
        count.tracked++;
        if (isTranslated(bytes, start, end)) count.translated++;
      },
    );
  return count;
}

/** Whether CTA_STATUS of one entry has IPS_DST_NAT (linux/netfilter/nf_conntrack_common.h). */
export function isTranslated(bytes: Buffer, start: number, end: number): boolean {
  for (let at = start + NETFILTER_HEADER; at < end; ) {
    const stop = attributeEnd(bytes, at, end);
    if (stop < 0) return false;
    if (attributeType(bytes, at) === CTA_STATUS && stop - at === ATTRIBUTE_HEADER + 4)
      return (be32(bytes, at + ATTRIBUTE_HEADER) & IPS_DST_NAT) !== 0;
    at += align4(stop - at);
  }
  return false;
}

/** The two ways of the tap, as one finding where `--tap-source` takes what there is. */
async function checkTaps(libc: Libc, options: CaptureOptions): Promise<NodeFinding[]> {
  const { tapSource } = options;
  const packets = await checkPackets(libc, options);
  const rules = await checkTap(libc, options);
  if (tapSource === 'packet' || (tapSource === 'auto' && rules.can === false && packets.can)) {
    const without = tapSource === 'packet' ? '' : ` (by rules not: ${rules.says})`;
    return [{ ...packets, subject: 'tap', says: packets.says + without }];
  }
  if (rules.can === false && packets.can) rules.says += ': --tap-source packet can be used here';
  return [rules, packets];
}

async function checkPackets(libc: Libc, options: CaptureOptions): Promise<NodeFinding> {
  const subject = 'packets';
  try {
    return { subject, can: true, says: openingsText(await countOpenings(libc, options)) };
  } catch (error) {
    return { ...refusal('tap', error), subject };
  }
}

async function checkTap(libc: Libc, options: CaptureOptions): Promise<NodeFinding> {
  const { tapGroup } = options;
  try {
    await tryTap(libc, options);
    const says = `the kernel can copy requests of subscribed addresses (NFLOG group ${tapGroup})`;
    return { subject: 'tap', can: true, says };
  } catch (error) {
    const code = error instanceof CaptureError ? error.code : '';
    if (code === 'table-exists' || (code === 'group-in-use' && (await isHelperThere(libc, options))))
      return { subject: 'tap', can: true, says: 'another realpod helper uses it on this node' };
    return refusal('tap', error);
  }
}

/** Whether it is a helper that has the group: it has the table, too. */
async function isHelperThere(libc: Libc, options: CaptureOptions): Promise<boolean> {
  const { tapGroup } = options;
  try {
    await tryTap(libc, { ...options, tapGroup: tapGroup < 65_535 ? tapGroup + 1 : tapGroup - 1 });
    return false;
  } catch (error) {
    return error instanceof CaptureError && error.code === 'table-exists';
  }
}

async function tryTap(libc: Libc, options: CaptureOptions): Promise<void> {
  const once = { sources: ['tap'], logRule: false, besideAnother: false } as const;
  const { group, table } = await openTap(libc, { ...options, ...once });
  group?.close();
  await table?.close();
}

async function checkKernelLog({ kernelLog, log }: CaptureOptions): Promise<NodeFinding> {
  try {
    const { source } = await openKernelLog(kernelLog, log);
    source.close();
    return {
      subject: 'kernel-log',
      can: true,
      says: `${kernelLog} can be read; it needs a LOG rule, or --log-rule`,
    };
  } catch (error) {
    return refusal('kernel-log', error);
  }
}

/** Only where it is asked for: it loads a program into the kernel. */
async function checkTrace(): Promise<NodeFinding> {
  try {
    return { subject: 'trace', can: true, says: await tryTrace() };
  } catch (error) {
    return refusal('trace', error);
  }
}

function checkFlowTables(libc: Libc): NodeFinding {
  const subject = 'flow tables';
  try {
    const flowTables = FlowTables.open(libc);
    const found = flowTables.find();
    flowTables.close();
    if (found === 'not-known') return { subject, can: undefined, says: 'the kernel does not list them' };
    const { tables } = found;
    const says =
      tables.length === 0
        ? 'none: no request can skip the tap'
        : `${tables.join(', ')}: requests can skip the tap, and lines that need it are gap`;
    return { subject, can: undefined, says };
  } catch (error) {
    return { ...refusal('tap', error), subject, can: undefined };
  }
}

function refusal(subject: Source, error: unknown): NodeFinding {
  return { subject, can: false, says: error instanceof Error ? error.message : String(error) };
}
