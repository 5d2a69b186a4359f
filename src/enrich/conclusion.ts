/** What `realpod enrich` says at its end, and what to do where little was named. Pure. */
import { adviceFor } from '../format-reach.ts';
import type { Reason } from '../model/outcome.ts';
import type { LogFormat } from '../parse/log-format.ts';
import type { Progress } from './enrich.ts';

/** How the format came, and what nginx sends as the id. */
export interface FormatOrigin {
  formatName: string;
  requestIdField: string;
  requestIdHeader: string;
}

const time = (ms: number): string => new Date(ms).toISOString();

/** The end of a run: lines, what named them, what stayed and why, how far the feed reaches, what to do. One sentence a line. */
export function conclusion(progress: Progress, format: LogFormat, origin: FormatOrigin): string[] {
  const { lines, resolved, unresolved, unfit, unfitExample, evidence, reasons } = progress;
  const named = resolved === 0 ? '' : ` (${countsOf(evidence)})`;
  const left = Object.keys(reasons).length === 0 ? '' : `; left as they are: ${countsOf(reasons)}`;
  const said = [
    `${lines} lines; ${resolved} of ${resolved + unresolved} upstream addresses named${named}${left}`,
  ];
  if (unfitExample !== undefined) {
    said.push(
      `${unfit} of ${lines} lines do not fit ${origin.formatName}, such as: ${unfitExample}`,
      `give the log_format that nginx wrote these lines by: --log-format 'TEXT', or --nginx-conf with the output of nginx -T`,
    );
  }
  said.push(reachOf(progress));
  if (resolved < unresolved) said.push(adviceOf(progress, format, origin));
  return said;
}

function countsOf(of: Partial<Record<string, number>>): string {
  return Object.entries(of)
    .map(([name, n]) => `${n} ${name}`)
    .join(', ');
}

function reachOf({ feedFrom, feedTo, feedEnded, logFrom, logTo }: Progress): string {
  if (feedFrom === undefined || feedTo === undefined) return 'the feed is empty';
  const feed = `the feed ${feedEnded ? 'reaches' : 'was read'} from ${time(feedFrom)} to ${time(feedTo)}`;
  const log =
    logFrom === undefined || logTo === undefined ? '' : `, the log from ${time(logFrom)} to ${time(logTo)}`;
  return feed + log;
}

function adviceOf(progress: Progress, format: LogFormat, origin: FormatOrigin): string {
  const { resolved, reasons, feedFrom, feedTo, logFrom, logTo } = progress;
  const head = resolved === 0 ? 'nothing was named' : 'less than half was named';
  if (!format.timed) {
    return `${head}: the log format has no time, and without one a finished log cannot be compared with the feed; log $msec`;
  }
  const apart =
    feedFrom !== undefined && feedTo !== undefined && logFrom !== undefined && logTo !== undefined
      ? logTo < feedFrom || logFrom > feedTo
      : false;
  if (apart) {
    return `${head}: the log is of another time than the feed; run realpod record while nginx writes the log`;
  }
  const [most] = Object.entries(reasons).sort(([, a], [, b]) => b - a);
  if (most === undefined) return `${head}: is the log of the same nginx as the feed?`;
  if (most[0] === 'late') {
    return `${head}: late: the feed ends before the lines do, or holds no watermark after them; let realpod record run until a few seconds after the last line`;
  }
  const fields = { requestIdField: origin.requestIdField, localPortField: undefined };
  return `${head}: ${adviceFor(most[0] as Reason, format, fields, origin.requestIdHeader)}`;
}
