import type { TraceStats } from '../../capture/capture.ts';
import type { Metrics } from '../metrics.ts';

/** Those of the source `trace`, where it is in use. */
export function addTraceMetrics(metrics: Metrics, trace: Readonly<TraceStats>): void {
  metrics.counter(
    'realpod_helper_trace_lines_total',
    'Lines that nginx was seen to write.',
    () => trace.lines,
  );
  metrics.counters(
    'realpod_helper_trace_lost_total',
    'What was not learned of nginx, by reason.',
    'reason',
    () => [
      ['ring', trace.lost],
      ['contradicted', trace.contradicted],
      ['unexpected', trace.unexpected],
      ['malformed', trace.malformed],
    ],
  );
  metrics.counter(
    'realpod_helper_trace_restarts_total',
    'Times the trace was started again.',
    () => trace.restarts,
  );
  metrics.gauge(
    'realpod_helper_trace_binaries',
    'Executables of nginx that are traced.',
    () => trace.binaries,
  );
}
