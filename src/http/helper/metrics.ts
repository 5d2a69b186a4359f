import type { CaptureStats, KernelLogStats, TraceStats } from '../../capture/capture.ts';
import type { Feed } from '../../feed/feed.ts';
import { Metrics } from '../metrics.ts';
import type { Refusals } from '../sources.ts';
import { addClusterMetrics, type ClusterNumbers } from './cluster-metrics.ts';
import { addTraceMetrics } from './trace-metrics.ts';

/** The sources of the helper's numbers, read at each scrape. */
export interface HelperNumbers {
  capture: Readonly<CaptureStats>;
  /** Present if the kernel log is read. */
  kernelLog?: Readonly<KernelLogStats> | undefined;
  /** Present if nginx is traced. */
  trace?: Readonly<TraceStats> | undefined;
  feed: Feed;
  routes: { readonly cutOff: number; readonly refused: number };
  refusals: Readonly<Refusals>;
  cluster: ClusterNumbers;
  clock: () => number;
}

export function helperMetrics({
  capture,
  kernelLog,
  trace,
  feed,
  routes,
  refusals,
  cluster,
  clock,
}: HelperNumbers): Metrics {
  const metrics = new Metrics();
  metrics.counters('realpod_helper_events_total', 'Events read from the kernel, by source.', 'source', () => [
    ['conntrack', capture.conntrackEvents],
    ['tap', capture.tapPackets],
    ['kernel-log', kernelLog?.messages ?? 0],
  ]);
  metrics.counters('realpod_helper_records_total', 'Events that became records, by source.', 'source', () => [
    ['conntrack', capture.conntrackRelevant],
    ['tap', capture.tapRequests + capture.tapWithin + capture.tapAnswers],
    ['kernel-log', kernelLog?.opened ?? 0],
  ]);
  metrics.counters(
    'realpod_helper_unused_total',
    'Events and messages that became no record, by reason.',
    'reason',
    () => [
      ['conntrack-malformed', capture.conntrackMalformed],
      ['tap-malformed', capture.tapMalformed],
      ['tap-not-http', capture.tapNotHttp],
      ['unreadable', capture.unreadable],
      ['tap-repeated', capture.tapRepeated],
      ['kernel-log-unknown-layout', kernelLog?.unknownLayout ?? 0],
      ['kernel-log-not-kernel', kernelLog?.notKernel ?? 0],
      ['kernel-log-not-a-record', kernelLog?.notRecords ?? 0],
      ['kernel-log-not-tcp', kernelLog?.notTcp ?? 0],
      ['kernel-log-not-opening', kernelLog?.notOpening ?? 0],
      ['kernel-log-cut', kernelLog?.cut ?? 0],
      ['kernel-log-repeated', kernelLog?.repeated ?? 0],
      ['kernel-log-before-dnat', kernelLog?.beforeDnat ?? 0],
      ['kernel-log-dropped', kernelLog?.dropped ?? 0],
    ],
  );
  metrics.counter(
    'realpod_helper_requests_without_id_total',
    'Requests without an id header in the copied bytes.',
    () => capture.tapWithoutId,
  );
  metrics.counters(
    'realpod_helper_overruns_total',
    'Times the kernel dropped events because a receive buffer was full.',
    'source',
    () => [
      ['conntrack', capture.conntrackOverruns],
      ['tap', capture.tapOverruns],
    ],
  );
  metrics.counter(
    'realpod_helper_tap_lost_total',
    'Packets of the tap that the kernel could not deliver.',
    () => capture.tapLost,
  );
  metrics.counter(
    'realpod_helper_kernel_log_lost_total',
    'Messages of the kernel log that were overwritten or missed before they were read, as far as known.',
    () => kernelLog?.lost ?? 0,
  );
  metrics.counter(
    'realpod_helper_kernel_log_without_vip_total',
    'Connections of the kernel log without an upstream address: they resolve nothing.',
    () => kernelLog?.withoutVip ?? 0,
  );
  metrics.counter(
    'realpod_helper_gaps_total',
    'Gap records, by any source.',
    () => capture.gaps + (kernelLog?.gaps ?? 0),
  );
  metrics.counter(
    'realpod_helper_dumps_total',
    'Dumps of the conntrack table.',
    () => capture.conntrackDumps,
  );
  metrics.counter(
    'realpod_helper_table_restarts_total',
    'Times the nftables table was missing or changed and was created anew.',
    () => capture.tableRestarts,
  );
  metrics.gauge(
    'realpod_helper_flow_tables',
    'Flow tables on the node, which take requests past the tap; -1 where the kernel does not tell.',
    () => capture.flowTables,
  );
  metrics.counter('realpod_helper_clock_steps_total', 'Steps of the wall clock.', () => capture.clockSteps);
  metrics.counter(
    'realpod_helper_flows_refused_total',
    'Connections dropped because the table of flows was full.',
    () => capture.flowsRefused,
  );
  metrics.gauge(
    'realpod_helper_unlisted_connections',
    'Connections with packets at the tap that conntrack has not told of yet.',
    () => capture.unlisted,
  );
  metrics.counter(
    'realpod_helper_unlisted_refused_total',
    'Packets of such connections beyond the limit: connections that are found after that count as unreadable.',
    () => capture.unlistedRefused,
  );
  metrics.gauge(
    'realpod_helper_accounting',
    'Whether the kernel counts packets and bytes of connections (nf_conntrack_acct).',
    () => (capture.accounting ? 1 : 0),
  );
  metrics.counters(
    'realpod_helper_flow_counts_total',
    'Connections that ended while a reader used --evidence inferred, with or without counts.',
    'result',
    () => [
      ['told', capture.counted],
      ['missed', capture.uncounted],
    ],
  );
  metrics.gauge('realpod_helper_flows', 'Connections of subscribed addresses.', () => capture.flows);
  metrics.gauge(
    'realpod_helper_clients',
    'Connections of clients to subscribed addresses, where the node translates some.',
    () => capture.clients,
  );
  metrics.gauge('realpod_helper_addresses', 'Subscribed addresses.', () => capture.addresses);
  metrics.counter('realpod_helper_feed_bytes_total', 'Bytes of records published.', () => feed.stats.bytes);
  metrics.counters(
    'realpod_helper_feed_starts_total',
    'Feeds that began, by whether they resumed at a cursor.',
    'start',
    () => [
      ['fresh', feed.stats.freshStarts],
      ['resumed', feed.stats.resumed],
    ],
  );
  metrics.counter(
    'realpod_helper_readers_cut_off_total',
    'Readers disconnected because they did not read their records.',
    () => routes.cutOff,
  );
  metrics.counter(
    'realpod_helper_requests_refused_total',
    'Requests refused with 401, 403 or 503.',
    () => routes.refused,
  );
  metrics.counters(
    'realpod_helper_http_refused_total',
    'Connections and requests refused at the limits of one address, or of all, and requests with a foreign Host.',
    'what',
    () => [
      ['connection', refusals.connections],
      ['request', refusals.requests],
      ['host', refusals.hosts],
    ],
  );
  metrics.gauge('realpod_helper_readers', 'Readers of the feed.', () => feed.stats.readers);
  metrics.gauge(
    'realpod_helper_ring_bytes',
    'Bytes of records kept for readers that reconnect.',
    () => feed.ringBytes,
  );
  metrics.gauge('realpod_helper_watermark_age_seconds', 'Age of the newest watermark.', () =>
    Math.max(0, (clock() - feed.watermark) / 1000),
  );
  metrics.activeResources('realpod_helper_active_resources');
  if (trace) addTraceMetrics(metrics, trace);
  addClusterMetrics(metrics, cluster, clock);
  return metrics;
}
