/**
 * A line of the kernel's own in a file that a syslog daemon, journalctl or klogd writes:
 *
 *     Dec  4 17:33:23 node kernel: [110211.770728] be: IN= …                      RFC 3164 §4.1
 *     Dec 04 17:33:23.123456 node kernel: be: IN= …                               journalctl -o short-precise
 *     2025-12-04T17:33:23.123456+01:00 node kernel: [110211.770728] be: IN= …     RFC 3339; journalctl -o short-iso
 *     <4>1 2025-12-04T17:33:23.1234+01:00 node kernel - - - [110211.77] be: IN= … RFC 5424 §6
 *     Dec  4 17:33:23 node kern.warn kernel: [110211.770728] be: IN= …            BusyBox syslogd (with -S without the host)
 *     Thu Dec  4 17:33:23 2025 kern.warn kernel: [110211.770728] be: IN= …        OpenWrt's logread
 *     <4>[110211.770728] be: IN= …                                                klogd and dmesg -r: no date
 */
export interface SyslogLine {
  /** Ms since the epoch: the message was taken at `at` at the earliest, and before `at + step`. NaN: the line has no date. */
  at: number;
  step: number;
  text: string;
}

/** Messages that journald says it has missed, which then are missing in what it hands on, too. */
export interface Missed {
  missed: number;
}

/** Why a line gave no message. `not-kernel`: another program's. `unknown-layout`: none of the forms above. */
export type SyslogSkip = 'not-kernel' | 'unknown-layout';

const DAY_MS = 86_400_000;
const TAGS = ['kernel:', 'klogd:'];
/** Facility 0 is the kernel's (RFC 5424 §6.2.1). */
const SEVERITIES = 8;

/** `now` (ms since the epoch) gives stamps without a year theirs; without a zone, theirs is this process's. */
export function parseSyslogLine(line: string, now: number): SyslogLine | Missed | SyslogSkip {
  const priority = /^<(\d{1,3})> ?/.exec(line);
  if (priority && Number(priority[1]) >= SEVERITIES) return 'not-kernel';
  const start = priority ? priority[0].length : 0;
  if (priority && line.startsWith('1 ', start)) return rfc5424(line, start + 2);
  const stamp = stampAt(line, start, now);
  if (stamp) return messageOf(line, stamp);
  if (priority && STAMP_OF_BOOT.test(line.slice(start, start + 24))) {
    return { at: Number.NaN, step: 0, text: line.slice(start) };
  }
  return 'unknown-layout';
}

/** Seconds since boot, as printk writes them. */
const STAMP_OF_BOOT = /^\[ *\d+\.\d+\]/;

interface Stamp {
  at: number;
  step: number;
  /** Behind the stamp and its space. */
  end: number;
}

function stampAt(line: string, start: number, now: number): Stamp | undefined {
  const text = line.slice(start, start + 40);
  const iso = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)([.,]\d{1,9})?(Z|[+-]\d\d:?\d\d) /.exec(text);
  if (iso) {
    const [whole, second, fraction = '', zone] = iso;
    // Date.parse keeps three digits of a fraction.
    const at = Date.parse(second! + fraction.replace(',', '.') + zone!);
    if (Number.isNaN(at)) return undefined;
    return { at, step: fraction === '' ? 1000 : 1, end: start + whole.length };
  }
  const local =
    /^(?:[A-Z][a-z]{2} )?([A-Z][a-z]{2}) ([ \d]\d) (\d\d):(\d\d):(\d\d)(\.\d{1,9})?(?: (\d{4}))? /.exec(text);
  if (!local) return undefined;
  const [whole, month, day, hours, minutes, seconds, fraction, year] = local;
  const at = localTime([month!, day!, hours!, minutes!, seconds!], year, now);
  if (at === undefined) return undefined;
  const ms = fraction === undefined ? 0 : Math.floor(Number(fraction) * 1000);
  return { at: at + ms, step: fraction === undefined ? 1000 : 1, end: start + whole.length };
}

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

function localTime(parts: readonly string[], year: string | undefined, now: number): number | undefined {
  const month = MONTHS.indexOf(parts[0]!);
  const [day, hours, minutes, seconds] = parts.slice(1).map(Number) as [number, number, number, number];
  if (month < 0 || day < 1 || day > 31 || hours > 23 || minutes > 59 || seconds > 60) return undefined;
  const time = (y: number): number => new Date(y, month, day, hours, minutes, seconds).getTime();
  if (year !== undefined) return time(Number(year));
  const thisYear = new Date(now).getFullYear();
  // The last line of December is read in January.
  return time(thisYear) > now + DAY_MS ? time(thisYear - 1) : time(thisYear);
}

/** What stands behind the stamp: `HOST TAG text`, `HOST kern.SEVERITY TAG text`, or either without the host. */
function messageOf(line: string, { at, step, end }: Stamp): SyslogLine | Missed | SyslogSkip {
  let from = end;
  for (let word = 0; word < 3; word++) {
    const tag = TAGS.find((name) => line.startsWith(name, from));
    if (tag) return { at, step, text: line.slice(from + tag.length) };
    const space = line.indexOf(' ', from);
    if (space < 0) break;
    const text = line.slice(from, space);
    if (text.startsWith('systemd-journald[')) return missedOf(line) ?? 'not-kernel';
    // Behind another program's tag all is its own text. Only the facility may stand between host and tag.
    if (text.endsWith(':') || text.endsWith(']') || (word > 0 && !text.startsWith('kern.'))) break;
    from = space + 1;
  }
  return 'not-kernel';
}

/** `TIMESTAMP HOST APP PROCID MSGID STRUCTURED-DATA text`, from the timestamp on. */
function rfc5424(line: string, start: number): SyslogLine | SyslogSkip {
  const head = /^(\S+) \S+ (\S+) \S+ \S+ /.exec(line.slice(start, start + 512));
  if (!head) return 'unknown-layout';
  if (head[2] !== 'kernel') return 'not-kernel';
  const text = withoutData(line, start + head[0].length);
  if (text === undefined) return 'unknown-layout';
  if (head[1] === '-') return { at: Number.NaN, step: 0, text };
  const stamp = stampAt(`${head[1]} `, 0, 0);
  return stamp ? { at: stamp.at, step: stamp.step, text } : 'unknown-layout';
}

/** The text behind `-` or `[id name="value" …][…]`, where `\` takes the character after it with it. */
function withoutData(line: string, start: number): string | undefined {
  if (line[start] === '-') return line.slice(start + 1);
  let at = start;
  while (line[at] === '[') {
    let quoted = false;
    for (at++; at < line.length && (quoted || line[at] !== ']'); at++) {
      if (line[at] === '"') quoted = !quoted;
      else if (quoted && line[at] === '\\') at++;
    }
    at++;
  }
  return at > start && at <= line.length ? line.slice(at) : undefined;
}

function missedOf(line: string): Missed | undefined {
  const at = line.indexOf(': Missed ');
  if (at < 0 || !line.includes(' kernel messages', at)) return undefined;
  const missed = Number.parseInt(line.slice(at + 9, at + 19), 10);
  return missed > 0 ? { missed } : undefined;
}
