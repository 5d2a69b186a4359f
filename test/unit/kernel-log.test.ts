import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { parseKmsg } from '../../src/capture/kernel-log/kmsg-message.ts';
import { type LogRecord, parseLogRecord } from '../../src/capture/kernel-log/record.ts';
import { parseSyslogLine } from '../../src/capture/kernel-log/syslog-line.ts';

const fixture = (name: string) =>
  readFileSync(new URL(`../fixtures/kernel-log/${name}`, import.meta.url), 'latin1')
    .trimEnd()
    .split('\n');

const KMSG = fixture('kmsg.txt').map((line) => parseKmsg(`${line}\n`)!);
const TEXTS = KMSG.map(({ text }) => text);

function describe(record: LogRecord): string {
  return `${record.src} ${record.sport} > ${record.dst} ${record.dport}`;
}

/** The text of the captured message that begins and goes on like this. */
function message(prefix: string, ...parts: string[]): string {
  const found = TEXTS.find((text) => text.startsWith(prefix) && parts.every((part) => text.includes(part)));
  assert.ok(found, `no captured message ${prefix} … ${parts}`);
  return found;
}

const SYN = 'RES=0x00 SYN URGP';

const CASES: [name: string, text: string, expected: string][] = [
  [
    'after DNAT, in nat POSTROUTING',
    message('backend-service: ', SYN, 'SPT=50294'),
    '10.244.0.70 50294 > 10.244.0.64 10000',
  ],
  [
    'before DNAT, in a KUBE-SEP chain',
    message('kube-sep: ', SYN, 'SPT=50294'),
    '10.244.0.70 50294 > 10.105.148.194 10000',
  ],
  [
    'a prefix with IN= and SRC= that touches the record, TCP options and sequence numbers',
    message('IN=x SRC=10.9.9.9 DST=8.8.8.8IN=cni0', SYN, 'SPT=50294', 'OPT ('),
    '10.244.0.70 50294 > 10.244.0.64 10000',
  ],
  [
    'a prefix that is a whole record',
    message('IN= OUT=x SRC=10.1.1.1 DST=10.2.2.2 ', SYN, 'SPT=50294'),
    '10.244.0.70 50294 > 10.244.0.64 10000',
  ],
  [
    'IPv6 after DNAT',
    message('backend-service: ', SYN, 'SRC=fd00'),
    'fd00:10:244::70 37688 > fd00:10:244::64 10000',
  ],
  [
    'IPv6 before DNAT',
    message('kube-sep: ', SYN, 'SRC=fd00:0010:0244'),
    'fd00:10:244::70 37688 > fd00:10:105::1 10000',
  ],
  [
    'the node itself, with its user id after the record',
    message('hostIN= OUT=up0 SRC=192', SYN, 'UID=0'),
    '192.168.50.10 34974 > 10.105.148.194 10000',
  ],
  ['an answer', message('all:', 'ACK SYN'), 'not-opening'],
  ['a request', message('all:', 'ACK PSH'), 'not-opening'],
  ['a refusal', message('all:', 'ACK RST'), 'not-opening'],
  ['UDP', message('backend-service: ', 'PROTO=UDP'), 'not-tcp'],
  ['an echo request', message('backend-service: ', 'PROTO=ICMP '), 'not-tcp'],
  ['an echo request over IPv6', message('backend-service: ', 'PROTO=ICMPv6'), 'not-tcp'],
  ['an ICMP error with a packet in it', message('all:', 'PROTO=ICMP TYPE=3', '[SRC='), 'not-tcp'],
  ['GRE', message('backend-service: ', 'PROTO=47'), 'not-tcp'],
  ['a TCP header of 6 bytes', message('all:', 'INCOMPLETE'), 'cut'],
  ['another message', 'veth1: left promiscuous mode', 'not-a-record'],
  ['nothing', '', 'not-a-record'],
];

for (const [name, text, expected] of CASES) {
  test(`a record is understood: ${name}`, () => {
    const record = parseLogRecord(text);
    assert.equal(typeof record === 'string' ? record : describe(record), expected);
  });
}

test('every captured message lands in one class, and openings have the addresses of the run', () => {
  const counts: Record<string, number> = {};
  for (const text of TEXTS) {
    const record = parseLogRecord(text);
    const key = typeof record === 'string' ? record : 'opening';
    counts[key] = (counts[key] ?? 0) + 1;
    if (typeof record === 'string') continue;
    assert.match(record.src, /^(10\.244\.0\.70|192\.168\.50\.10|fd00:10:244::70|fd00:50::10)$/);
    assert.match(record.dst, /^(10\.244\.0\.64|10\.105\.148\.194|fd00:10:244::64|fd00:10:105::1)$/);
  }
  // 35 captured packets have SYN, 5 of them ACK, too.
  assert.deepEqual(counts, { opening: 30, 'not-opening': 59, 'not-tcp': 34, cut: 2 });
});

test('a record cut anywhere gives itself or nothing', () => {
  for (const text of TEXTS) {
    const whole = parseLogRecord(text);
    const start = text.lastIndexOf(' SRC=');
    for (let length = start; length < text.length; length++) {
      const cut = parseLogRecord(text.slice(0, length));
      if (typeof cut === 'string') continue;
      // Cut before its own fields, a prefix that is a whole record is all that is left.
      if (cut.src === '10.1.1.1') assert.ok(length < start + ' SRC='.length);
      else assert.deepEqual(cut, whole, text.slice(0, length));
    }
  }
});

test('rsyslog files tell the same records as the ring', () => {
  const now = Date.parse('2026-11-23T06:00:00Z');
  const openings = (lines: readonly string[]) =>
    lines
      .map((line) => parseSyslogLine(line, now))
      .map((line) =>
        typeof line !== 'string' && 'text' in line ? parseLogRecord(line.text) : 'not-a-record',
      )
      .filter((record) => typeof record !== 'string')
      .map(describe);
  const ring = TEXTS.map(parseLogRecord)
    .filter((record) => typeof record !== 'string')
    .map(describe);
  for (const name of ['rfc3164.log', 'iso.log']) {
    const file = openings(fixture(name));
    assert.ok(file.length > 10);
    // The files' first messages were left out.
    assert.deepEqual(file, ring.slice(-file.length), name);
  }
});

test('a syslog line is dated as precisely as it says', () => {
  const now = Date.parse('2026-11-23T06:00:00Z');
  const iso = parseSyslogLine(fixture('iso.log')[0]!, now);
  assert.ok(typeof iso !== 'string' && 'text' in iso);
  assert.equal(iso.at, Date.parse('2026-11-23T05:14:19.969Z'));
  assert.equal(iso.step, 1);
  const rfc = parseSyslogLine(fixture('rfc3164.log')[0]!, now);
  assert.ok(typeof rfc !== 'string' && 'text' in rfc);
  assert.equal(rfc.at, new Date(2026, 10, 23, 5, 14, 19).getTime());
  assert.equal(rfc.step, 1000);
  // Read after New Year, the line is of the year before.
  const read = new Date(2027, 0, 1, 0, 0, 5).getTime();
  const december = parseSyslogLine(fixture('rfc3164.log')[0]!.replace('Nov 23', 'Dec 31'), read);
  assert.ok(typeof december !== 'string' && 'text' in december);
  assert.equal(december.at, new Date(2026, 11, 31, 5, 14, 19).getTime());
});

test('lines that are not the kernel’s are no messages, and what journald missed is counted', () => {
  const now = Date.now();
  const line = fixture('rfc3164.log')[0]!;
  assert.equal(parseSyslogLine(line.replace(' kernel: ', ' sshd[1]: '), now), 'not-kernel');
  assert.equal(parseSyslogLine('', now), 'unknown-layout');
  assert.equal(parseSyslogLine('Nov', now), 'unknown-layout');
  assert.equal(parseSyslogLine(line.replace('Nov 23', 'Nov 99'), now), 'unknown-layout');
  assert.deepEqual(
    parseSyslogLine('Nov 23 05:14:19 node systemd-journald[245]: Missed 12 kernel messages', now),
    { missed: 12 },
  );
});

/** One record behind each form of line, as public logs show the forms. */
const RECORD =
  'IN= OUT=cni0 SRC=10.244.0.70 DST=10.244.0.64 LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=59709 DF PROTO=TCP SPT=33454 DPT=10000 WINDOW=64860 RES=0x00 SYN URGP=0 ';
const DAY = new Date(2026, 10, 23, 5, 14, 19).getTime();
const FORMS: [form: string, head: string, at: number, step: number][] = [
  // RSYSLOG_SyslogProtocol23Format, as in a bug report on fs/smb to the kernel's lists (2024-04-10).
  [
    'RFC 5424',
    '<4>1 2026-11-23T05:14:19.163826-07:00 T01 kernel - - - [25523.801864] be: ',
    Date.parse('2026-11-23T12:14:19.163Z'),
    1,
  ],
  // A space behind the priority: the kernel's netdev list, on bonding (2020-11-19).
  [
    'RFC 5424 with a space',
    '<6> 1 2026-11-23T05:14:19.111549+01:00 LABNBS5A kernel - - - [  153.655776] ',
    Date.parse('2026-11-23T04:14:19.111Z'),
    1,
  ],
  [
    'RFC 5424 with structured data',
    '<4>1 2026-11-23T05:14:19Z node kernel - - [a@1 b="x \\"] y"][c@2] be: ',
    Date.parse('2026-11-23T05:14:19Z'),
    1000,
  ],
  ['RFC 5424 without a time', '<4>1 - node kernel - - - be: ', Number.NaN, 0],
  ['journalctl -o short-precise', 'Nov 23 05:14:19.123456 node kernel: be: ', DAY + 123, 1],
  [
    'journalctl -o short-iso',
    '2026-11-23T05:14:19+0100 node kernel: be: ',
    Date.parse('2026-11-23T04:14:19Z'),
    1000,
  ],
  // Alpine's BusyBox: a wiki's page on its init system.
  ['BusyBox syslogd', 'Nov 23 05:14:19 alpine kern.warn kernel: [  152.014434] be: ', DAY, 1000],
  ['BusyBox syslogd -S', 'Nov 23 05:14:19 kernel: [  152.014434] be: ', DAY, 1000],
  // libreCMC's and OpenWrt's documentation of logread.
  ['logread of OpenWrt', 'Mon Nov 23 05:14:19 2026 kern.warn kernel: [34592.938265] be: ', DAY, 1000],
  ['klogd', '<4>[34592.938265] be: ', Number.NaN, 0],
];

for (const [form, head, at, step] of FORMS) {
  test(`a line is read in the form of ${form}`, () => {
    const line = parseSyslogLine(head + RECORD, DAY + 60_000);
    assert.ok(typeof line !== 'string' && 'text' in line, String(line));
    assert.deepEqual([line.at, line.step], [at, step]);
    const record = parseLogRecord(line.text);
    assert.ok(typeof record !== 'string', String(record));
    assert.equal(describe(record), '10.244.0.70 33454 > 10.244.0.64 10000');
  });
}

test('what another program writes is not taken for the kernel’s, whatever it says', () => {
  for (const head of [
    '<12>1 2026-11-23T05:14:19Z node kernel - - - ',
    '<4>1 2026-11-23T05:14:19Z node app - - - kernel: ',
    'Nov 23 05:14:19 node app[7]: kernel: ',
    'Nov 23 05:14:19 node app: kernel: ',
    'Nov 23 05:14:19 node user.notice kernel: ',
    'Nov 23 05:14:19 app: kernel: ',
    'Nov 23 05:14:19 node kern.warn app: kernel: ',
    '<14>[34592.938265] ',
  ]) {
    assert.equal(parseSyslogLine(head + RECORD, DAY), 'not-kernel', head);
  }
});

test('a record of the ring gives number, stamp and text; what a process wrote is not the kernel’s', () => {
  assert.deepEqual(parseKmsg('6,3025,5158137166,-;realpod: IN=\n SUBSYSTEM=net\n'), {
    sequence: 3025,
    stampMs: 5158137.166,
    kernel: true,
    text: 'realpod: IN=',
  });
  assert.equal(parseKmsg('14,3025,5158137166,-;realpod clock probe\n')!.kernel, false);
  assert.equal(parseKmsg('4,7,8,-,caller=T1;x\n')!.text, 'x');
  for (const bad of ['', ';', 'a,1,2,-;x', '1,2;x', '1,,3,-;x']) assert.equal(parseKmsg(bad), undefined);
  for (const { sequence, kernel } of KMSG) assert.ok(kernel && sequence > 3000);
});
