import type { ReaderStats } from '../../feed/source.ts';
import type { FollowerStats } from '../../follow/follower.ts';
import type { Deduction } from '../../join/deduction.ts';
import type { FlowIndex } from '../../join/index/flow-index.ts';
import { CLIENT_EVIDENCE, CLIENT_REASONS } from '../../model/client.ts';
import { EVIDENCE, REASONS } from '../../model/outcome.ts';
import { formatHostPort } from '../../parse/address.ts';
import type { Pipeline } from '../../pipeline.ts';
import type { SinkStats } from '../../write/sink.ts';
import { type LabelledCount, Metrics } from '../metrics.ts';
import type { Refusals } from '../sources.ts';
import { SECONDS_BOUNDS } from './latency.ts';
import { type PodFigures, STATUS_CLASSES } from './pods.ts';
import type { View } from './view.ts';

/** The sources of the sidecar's numbers, read at each scrape. */
export interface SidecarNumbers {
  pipeline: Pipeline;
  index: FlowIndex;
  view: View;
  follower: Readonly<FollowerStats>;
  sink: Readonly<SinkStats>;
  feed: () => Readonly<ReaderStats>;
  /** Options cannot be used, so no line is read and all leave as they are. */
  badOptions?: boolean;
  clock: () => number;
}

export function sidecarMetrics(numbers: SidecarNumbers & { refusals: Readonly<Refusals> }): Metrics {
  const { pipeline, index, view, follower, sink, feed, refusals, clock } = numbers;
  const metrics = new Metrics();
  metrics.counters(
    'realpod_http_refused_total',
    'Connections and requests refused at the limits of one address, or of all, and requests with a foreign Host.',
    'what',
    () => [
      ['connection', refusals.connections],
      ['request', refusals.requests],
      ['host', refusals.hosts],
    ],
  );
  metrics.counters('realpod_lines_total', 'Lines, by result.', 'result', () =>
    Object.entries(pipeline.counters.lines),
  );
  metrics.gauge(
    'realpod_options_bad',
    '1 where options cannot be used: lines leave as nginx wrote them.',
    () => (numbers.badOptions ? 1 : 0),
  );
  metrics.counters(
    'realpod_attempts_resolved_total',
    'Upstream attempts whose pod is known, by evidence.',
    'evidence',
    () => EVIDENCE.map((evidence) => [evidence, pipeline.counters.evidence[evidence] ?? 0]),
  );
  metrics.counters(
    'realpod_attempts_unresolved_total',
    'Upstream attempts left as nginx wrote them, by reason.',
    'reason',
    () => REASONS.map((reason) => [reason, pipeline.counters.reasons[reason] ?? 0]),
  );
  metrics.gauge(
    'realpod_waiting_bytes',
    'Bytes of lines that wait for their evidence.',
    () => pipeline.pending.bytes,
  );
  metrics.counters(
    'realpod_waiting_given_up_total',
    'Blocks of lines that left before their evidence was complete.',
    'why',
    () => [
      ['max-wait', pipeline.pending.counters.timedOut],
      ['limit', pipeline.pending.counters.pushedOut],
    ],
  );
  metrics.gauge(
    'realpod_unwritten_bytes',
    'Bytes of lines that are not written to the outputs yet.',
    () => pipeline.unwrittenBytes,
  );
  metrics.gauge('realpod_recent_bytes', 'Bytes of lines kept for look-ups.', () => view.recent.bytes);
  metrics.gauges('realpod_index_entries', 'Entries of the join index, by kind.', 'what', () => [
    ...Object.entries(index.sizes),
    ['names', index.names.size],
    ['past-names', index.names.past],
    ['endpoints', index.endpoints.size],
  ]);
  metrics.counters(
    'realpod_index_forgotten_total',
    'Entries that the join index dropped at its limits, by kind.',
    'what',
    () => [
      ['connections', index.counters.forgottenConnections],
      ['requests', index.counters.forgottenRequests],
      ['names', index.names.counters.dropped],
      ['endpoints', index.endpoints.counters.dropped],
      ['answers', index.counters.forgottenAnswers],
    ],
  );

  if (pipeline.timing) addTimingMetrics(metrics, pipeline.timing);
  if (pipeline.clients) addClientMetrics(metrics, pipeline.clients);

  metrics.counter(
    'realpod_clock_set_back_total',
    'Times that the clock was set back.',
    () => pipeline.counters.clockSetBack,
  );
  metrics.counter(
    'realpod_quiet_moments_total',
    'Times that nginx was seen without requests of an earlier time. The evidence only-answer begins with one.',
    () => index.quiet.counters.moments,
  );
  metrics.counter(
    'realpod_quiet_moments_refuted_total',
    'Answers that show that nginx went on with a request at such a time (mirror): only-answer begins anew.',
    () => index.quiet.counters.refuted,
  );
  metrics.activeResources('realpod_active_resources');
  metrics.gauge('realpod_feed_connected', '1 while the feed is read.', () => (feed().connected ? 1 : 0));
  metrics.counter('realpod_feed_connects_total', 'Feeds begun.', () => feed().connects);
  metrics.counter('realpod_feed_failures_total', 'Feeds that broke or did not begin.', () => feed().failures);
  metrics.counter('realpod_feed_records_total', 'Records read.', () => feed().records);
  metrics.counter('realpod_feed_bytes_total', 'Bytes of the feed read.', () => feed().bytes);
  metrics.gauge('realpod_feed_lag_seconds', 'Age of the newest watermark.', () =>
    index.coverage.watermark === -Infinity ? 0 : Math.max(0, (clock() - index.coverage.watermark) / 1000),
  );
  metrics.gauges('realpod_feed_gaps', 'Gaps remembered, by source.', 'source', () =>
    index.coverage.sources().map((source) => [source, index.coverage.gaps(source).length]),
  );

  metrics.counter('realpod_log_bytes_total', 'Bytes of the access log read.', () => follower.bytes);
  metrics.gauge(
    'realpod_log_backlog_bytes',
    'Unread bytes of the access log, at the last look.',
    () => follower.backlogBytes,
  );
  metrics.counter('realpod_log_rotations_total', 'Rotations of the access log.', () => follower.rotations);
  metrics.counter(
    'realpod_log_truncations_total',
    'Truncations of the access log.',
    () => follower.truncations,
  );
  metrics.counter(
    'realpod_log_losses_total',
    'Times that lines are, or may be, missing.',
    () => follower.losses,
  );
  metrics.counter('realpod_log_lost_bytes_total', 'Bytes known to be missing.', () => follower.lostBytes);
  metrics.counter(
    'realpod_log_late_bytes_total',
    'Bytes read from an old file after the newer one was begun.',
    () => follower.lateBytes,
  );
  metrics.counter(
    'realpod_log_newlines_added_total',
    'Unfinished last lines that got a newline.',
    () => follower.newlinesAdded,
  );

  metrics.counter('realpod_output_bytes_total', 'Bytes written to each output.', () => sink.bytes);
  metrics.counter(
    'realpod_output_retries_total',
    'Writes that failed and were tried again.',
    () => sink.retries,
  );
  metrics.gauge('realpod_output_stalled', '1 while an output is blocked.', () => sink.stalled);
  metrics.counter('realpod_checkpoints_total', 'Checkpoints written.', () => sink.checkpoints);
  metrics.counter(
    'realpod_checkpoint_failures_total',
    'Checkpoints that could not be written.',
    () => sink.checkpointFailures,
  );
  metrics.gauge('realpod_resident_bytes', 'Resident memory of the process.', () => process.memoryUsage.rss());
  addPodMetrics(metrics, view, clock);
  return metrics;
}

function addTimingMetrics(metrics: Metrics, timing: Deduction): void {
  metrics.gauges('realpod_timing_entries', 'Entries that timing deduces from, by kind.', 'what', () =>
    Object.entries(timing.sizes),
  );
  metrics.counter(
    'realpod_timing_doubts_total',
    'Surplus lines or connections; after each, timing resolves nothing for a minute.',
    () => timing.counters.distrusted,
  );
  metrics.counter(
    'realpod_timing_forgotten_total',
    'Connections forgotten at the limit.',
    () => timing.counters.forgotten,
  );
}

/**
 * The responses of each pod. The labels begin with `destination_`, as in service meshes: a scrape adds `pod`,
 * `namespace` and `service` of the scraped pod, nginx's, and would rename labels of these names.
 */
function addPodMetrics(metrics: Metrics, { pods, stream }: View, clock: () => number): void {
  metrics.labelled(
    'realpod_requests_total',
    'Requests by the pod that served them and the class of status; none: no status was logged.',
    function* requests(): Generator<LabelledCount> {
      for (const pod of pods.all(clock())) {
        const labels = labelsOf(pod);
        for (let c = 0; c < STATUS_CLASSES.length; c++) {
          const value = pod.byStatus[c]!;
          if (value > 0) yield { labels: { ...labels, status: STATUS_CLASSES[c]! }, value };
        }
      }
    },
  );
  metrics.histograms(
    'realpod_upstream_seconds',
    'Response time of a pod: $upstream_response_time of the attempt, or $request_time where that is not logged.',
    SECONDS_BOUNDS,
    function* times() {
      for (const pod of pods.all(clock())) {
        yield { labels: labelsOf(pod), counts: pod.bySeconds, sum: pod.timedMs / 1000 };
      }
    },
  );
  metrics.gauge('realpod_pods', 'Pods with series of their own.', () => pods.size);
  metrics.counter(
    'realpod_pods_refused_total',
    'Requests not counted for their pod because of the limit of pods.',
    () => pods.counters.refused,
  );
  metrics.counter(
    'realpod_upstreams_refused_total',
    'Attempts without a pod that the page leaves out because of the limit of upstreams.',
    () => pods.unresolved.counters.refused,
  );
  metrics.gauge('realpod_stream_clients', 'Readers of the live lines.', () => stream.clients);
  metrics.counter(
    'realpod_stream_skipped_total',
    'Lines left out of the live lines.',
    () => stream.counters.skipped,
  );
  metrics.counter(
    'realpod_stream_cut_off_total',
    'Readers of the live lines disconnected because they did not read.',
    () => stream.counters.cutOff,
  );
}

function labelsOf({ upstream, service, namespace, name, ip, port }: PodFigures): Record<string, string> {
  return {
    upstream,
    destination_service: service,
    destination_namespace: namespace,
    destination_pod: name?.pod ?? '',
    destination_node: name?.node ?? '',
    destination_address: formatHostPort(ip, port),
  };
}

function addClientMetrics(metrics: Metrics, { counters, table }: NonNullable<Pipeline['clients']>): void {
  metrics.counters(
    'realpod_clients_resolved_total',
    'Lines with a node’s address as $remote_addr whose real client is known, by what showed it.',
    'by',
    () => CLIENT_EVIDENCE.map((evidence) => [evidence, counters.evidence[evidence]]),
  );
  metrics.counters(
    'realpod_clients_unresolved_total',
    'Lines with a node’s address as $remote_addr whose real client is not known, by reason.',
    'why',
    () => CLIENT_REASONS.map((reason) => [reason, counters.reasons[reason]]),
  );
  metrics.gauge('realpod_client_connections', 'Connections of clients kept.', () => table.size);
  metrics.counters(
    'realpod_client_connections_dropped_total',
    'Times that a limit of the table of clients was reached: an ended connection forgotten, or all of them.',
    'what',
    () => [
      ['ended', table.counters.forgotten],
      ['all', table.counters.overflows],
    ],
  );
}
