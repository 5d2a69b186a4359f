/**
 * A line of a file that a syslog daemon writes, of the kernel's own messages:
 *
 *     Dec  4 17:33:23 node kernel: [110211.770728] backend-service: IN= OUT=cni0 …      (RFC 3164, section 4.1)
 *     2025-12-04T17:33:23.123456+01:00 node kernel: [110211.770728] backend-service: …  (ISO 8601, RFC 3339)
 */
export interface SyslogLine {
  /** Ms since the epoch: the daemon took the message at `at` at the earliest, and before `at + step`. */
  at: number;
  step: number;
  text: string;
}

/** Messages that journald says it has missed, which then are missing in what it hands on, too. */
export interface Missed {
  missed: number;
}

const MONTHS = 'JanFebMarAprMayJunJulAugSepOctNovDec';
const DAY_MS = 86_400_000;
const TAG = 'kernel:';

/** `now` (ms since the epoch) gives RFC 3164 stamps their year; their time zone is this process's. */
export function parseSyslogLine(line: string, now: number): SyslogLine | Missed | undefined {
  const iso = line.charCodeAt(4) === 45; // '-'
  const stampEnd = iso ? line.indexOf(' ') : 15;
  if (stampEnd < 0 || line[stampEnd] !== ' ') return undefined;
  const stamp = line.slice(0, stampEnd);
  const at = iso ? Date.parse(stamp) : rfc3164Time(stamp, now);
  const hostEnd = line.indexOf(' ', stampEnd + 1);
  if (hostEnd < 0 || at === undefined || Number.isNaN(at)) return undefined;
  const rest = hostEnd + 1;
  if (line.startsWith(TAG, rest)) {
    // Fractions finer than ms are cut by Date.parse.
    return { at, step: iso && stamp.includes('.') ? 1 : 1000, text: line.slice(rest + TAG.length) };
  }
  return line.startsWith('systemd-journald[', rest) ? missedOf(line) : undefined;
}

/** `Mmm dd hh:mm:ss`, the day padded with a space, in local time and without a year. */
function rfc3164Time(stamp: string, now: number): number | undefined {
  const month = MONTHS.indexOf(stamp.slice(0, 3)) / 3;
  const day = Number(stamp.slice(4, 6));
  const hours = Number(stamp.slice(7, 9));
  const minutes = Number(stamp.slice(10, 12));
  const seconds = Number(stamp.slice(13, 15));
  if (!Number.isInteger(month) || month < 0 || stamp[9] !== ':' || stamp[12] !== ':') return undefined;
  if (!(day >= 1 && day <= 31 && hours < 24 && minutes < 60 && seconds <= 60)) return undefined;
  const year = new Date(now).getFullYear();
  const time = (y: number): number => new Date(y, month, day, hours, minutes, seconds).getTime();
  // The last line of December is read in January.
  return time(year) > now + DAY_MS ? time(year - 1) : time(year);
}

function missedOf(line: string): Missed | undefined {
  const at = line.indexOf(': Missed ');
  if (at < 0 || !line.includes(' kernel messages', at)) return undefined;
  const missed = Number.parseInt(line.slice(at + 9, at + 19), 10);
  return missed > 0 ? { missed } : undefined;
}
