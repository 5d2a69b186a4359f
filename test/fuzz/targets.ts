/** What is fuzzed: each parser with inputs to begin from, and what must hold of its result whatever the input. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { parseConntrack } from '../../src/capture/conntrack/message.ts';
import { AddressTexts } from '../../src/capture/ip-bytes.ts';
import { parseKmsg } from '../../src/capture/kernel-log/kmsg-message.ts';
import { parseLogRecord } from '../../src/capture/kernel-log/record.ts';
import { parseSyslogLine } from '../../src/capture/kernel-log/syslog-line.ts';
import { parseNflog } from '../../src/capture/tap/nflog.ts';
import { parseTcpPacket } from '../../src/capture/tap/packet.ts';
import { headerName, parseRequestHead } from '../../src/capture/tap/request-head.ts';
import { ConfError, parseConf } from '../../src/doctor/parse-conf.ts';
import { decodeRecord, encodeRecord, RecordDecoder } from '../../src/feed/codec.ts';
import { INJECT_DEFAULTS, inject } from '../../src/inject/inject.ts';
import type { Observation } from '../../src/model/feed.ts';
import { canonicalIp, formatHostPort, parseHostPort } from '../../src/parse/address.ts';
import { unescapeValue } from '../../src/parse/log-escape.ts';
import { compileLogFormat, LogFormatError } from '../../src/parse/log-format.ts';
import { FORMATS, RECOMMENDED } from '../lab/kit/formats.ts';
import { framesTarget } from './frames.ts';
import { joinTarget } from './join.ts';
import { lookupTarget } from './lookup.ts';
import type { Target } from './target.ts';

const fixture = (path: string): Buffer => readFileSync(new URL(`../fixtures/${path}`, import.meta.url));
const lines = (path: string): Buffer[] =>
  fixture(path)
    .toString('latin1')
    .split('\n')
    .filter(Boolean)
    .map((line) => Buffer.from(line, 'latin1'));
const messages = (path: string): Buffer[] =>
  (JSON.parse(fixture(path).toString('utf8')) as { messages: { hex: string }[] }).messages.map(({ hex }) =>
    Buffer.from(hex, 'hex'),
  );

const LINE = Buffer.from(
  '10.244.0.9 - - [23/Nov/2026:07:15:46 +0000] "GET /a/b?c=d HTTP/1.1" 200 10.105.148.194:10000, 10.105.148.195:80 : [fd00::1]:80 41 "-" "curl \\x22 é" "-" "ac40f72eb50d25653645c39eec16241f" 1795418146.480 0.001 "0.000, - : 0.001" "0.000, - : 0.001" "0.000, 0.001 : 0.001" "200, 502 : 200" "90, 0 : 90" "10.244.1.64" "10000" "58406"',
  'latin1',
);
const JSON_LINE = Buffer.from(
  '{"a":"10.105.148.194:10000","r":"GET /\\"x\\\\ HTTP/1.1","i":"ac40f72eb50d25653645c39eec16241f","t":"1795418146.480","d":"0.001"}',
);
const LOG_WORDS = [
  '"',
  '\\"',
  '\\\\',
  '\\x22',
  '\\u0022',
  ', ',
  ' : ',
  '10.9.9.9:80',
  '[::1]:80',
  '-',
  ' ',
  '1795418146.480',
  'GET / HTTP/1.1',
  '23/Nov/2026:07:15:46 +0000',
];

const formats = [
  ...Object.values(FORMATS),
  RECOMMENDED,
  `escape=none ${FORMATS.full}`,
  `escape=json ${FORMATS.full}`,
  'escape=json {"a":"$upstream_addr","r":"$request","i":"$request_id","t":"$msec","d":"$request_time"}',
  '$http_a $upstream_addr|$http_b|$status $request_id $uri',
  '$time_iso8601 $upstream_addr $request_method $request_uri "$http_x"',
].map((text) => compileLogFormat(text));

function accessLine(input: Buffer): void {
  for (const format of formats) {
    const parsed = format.parse(input, 0, input.length);
    if (typeof parsed === 'string') continue;
    let from = 0;
    for (const { start, end, kind, ip, port } of parsed.attempts) {
      assert.ok(start >= from && end >= start && end <= input.length, 'a span lies outside the line');
      from = end;
      if (kind !== 'ip') continue;
      const text = input.toString('latin1', start, end);
      const host = text.startsWith('[')
        ? text.slice(1, text.indexOf(']'))
        : text.slice(0, text.lastIndexOf(':'));
      assert.equal(canonicalIp(host), ip, 'the address is not what the line says');
      assert.equal(text.endsWith(`:${port}`), true, 'the port is not what the line says');
    }
    assert.ok(parsed.endMs === undefined || Number.isFinite(parsed.endMs));
    assert.ok(parsed.requestMs === undefined || parsed.requestMs >= 0);
    void parsed.id;
    void parsed.method;
    void parsed.path;
  }
}

function formatText(input: Buffer): void {
  try {
    compileLogFormat(input.toString('latin1')).parse(LINE, 0, LINE.length);
  } catch (error) {
    if (!(error instanceof LogFormatError)) throw error;
    assert.ok(!error.message.includes('\n'), 'the message is more than one line');
  }
}

function address(input: Buffer): void {
  const text = input.toString('latin1');
  const ip = canonicalIp(text);
  if (ip !== undefined) assert.equal(canonicalIp(ip), ip, 'one address, two texts');
  const peer = parseHostPort(input, 0, input.length);
  if (!peer) return;
  const written = Buffer.from(formatHostPort(peer.ip, peer.port));
  assert.deepEqual(parseHostPort(written, 0, written.length), peer);
}

/** What nginx does to a value with escape=default, in a place of its own. */
function escapes(input: Buffer): void {
  const text = input.toString('latin1');
  for (const escaping of ['default', 'json', 'none'] as const)
    assert.ok(unescapeValue(text, escaping).length <= text.length);
  const written = [...input]
    .map((byte) =>
      byte < 32 || byte > 126 || byte === 34 || byte === 92
        ? `\\x${byte.toString(16).toUpperCase().padStart(2, '0')}`
        : String.fromCharCode(byte),
    )
    .join('');
  assert.equal(unescapeValue(written, 'default'), text);
}

const texts = new AddressTexts();
function conntrack(input: Buffer): void {
  const event = parseConntrack(input, 0, input.length, undefined, texts);
  if (typeof event === 'string') return;
  for (const port of [event.sport, event.vport, event.port]) assert.ok(port >= 0 && port <= 65_535);
  for (const ip of [event.src, event.vip, event.ip]) assert.equal(canonicalIp(ip), ip);
}

const ID = headerName('X-Request-ID');
function head(bytes: Buffer, start: number, end: number): void {
  const parsed = parseRequestHead(bytes, start, end, ID);
  if (parsed === 'not-http') return;
  const { id, path, requestBytes, cut } = parsed;
  if (requestBytes !== undefined) assert.ok(requestBytes > 0 && Number.isSafeInteger(requestBytes));
  if (id !== undefined) assert.ok(id.length <= 256 && /^[\x20-\x7e]*$/.test(id), 'an id of other bytes');
  if (id !== undefined) assert.ok(bytes.includes(id), 'an id that is not there');
  if (path !== undefined) assert.ok(path.length <= end - start);
  assert.equal(typeof cut, 'boolean');
}

function nflog(input: Buffer): void {
  const packet = parseNflog(input, 0, input.length);
  if (typeof packet === 'string') return;
  assert.ok(packet.start >= 0 && packet.start <= packet.end && packet.end <= input.length);
  const segment = parseTcpPacket(input, packet.start, packet.end);
  if (typeof segment === 'string') return;
  const { payloadStart, payloadEnd, payloadLength } = segment;
  assert.ok(payloadStart >= packet.start && payloadStart <= payloadEnd && payloadEnd <= packet.end);
  assert.ok(payloadLength === undefined || payloadLength >= 0);
  head(input, payloadStart, payloadEnd);
}

function kernelLog(input: Buffer): void {
  const text = input.toString('latin1');
  const record = parseKmsg(text);
  const line = parseSyslogLine(text, 1_795_418_146_480);
  for (const candidate of [
    text,
    record?.text,
    typeof line !== 'string' && 'text' in line ? line.text : undefined,
  ]) {
    if (candidate === undefined) continue;
    const parsed = parseLogRecord(candidate);
    if (typeof parsed === 'string') continue;
    assert.ok(parsed.sport >= 0 && parsed.sport <= 65_535 && parsed.dport >= 0 && parsed.dport <= 65_535);
    assert.equal(canonicalIp(parsed.src), parsed.src);
    assert.equal(canonicalIp(parsed.dst), parsed.dst);
  }
}

const FLOW = {
  src: '10.244.0.70',
  sport: 33_454,
  vip: '10.105.148.194',
  vport: 80,
  ip: '10.244.1.64',
  port: 8080,
};
const RECORDS: Observation[] = [
  { kind: 'open', t: 1_795_418_146_480.25, via: 'conntrack', preexisting: true, ...FLOW },
  { kind: 'close', t: 1_795_418_146_481, via: 'conntrack', ...FLOW },
  {
    kind: 'request',
    t: 1_795_418_146_480,
    via: 'tap',
    id: 'a"\\\u00e9',
    idBeforeHost: true,
    method: 'GET',
    path: '/é"',
    cut: true,
    bytes: 90,
    singleSegment: true,
    ...FLOW,
  },
  { kind: 'response', t: 1_795_418_146_481, via: 'tap', ...FLOW },
  { kind: 'unreadable', t: 1_795_418_146_481, via: 'tap', protocol: 'http2', ...FLOW },
  { kind: 'tick', t: 1_795_418_146_482 },
  { kind: 'gap', t: 1_795_418_146_482, from: 1_795_418_146_000, source: 'tap', lost: 3 },
  { kind: 'name', t: 1, ip: FLOW.ip, pod: 'cart-0', namespace: 'shop', node: 'n', service: 'cart' },
];
const encoded = RECORDS.map((record, n) => Buffer.from(encodeRecord(record, n + 1)));

/** The quick reading of a line and the plain one agree, whatever the chunks. */
function feed(input: Buffer): void {
  const bytes = Buffer.from(input);
  const whole = new RecordDecoder().push(bytes);
  const decoder = new RecordDecoder();
  const cut = bytes.length >> 1;
  const first = decoder.push(Buffer.from(bytes.subarray(0, cut)));
  const parts = [first];
  if (first.error === undefined) parts.push(decoder.push(Buffer.from(bytes.subarray(cut))));
  assert.deepEqual(
    parts.flatMap(({ records }) => records),
    whole.records,
    'the chunks matter',
  );
  for (const record of whole.records) {
    const { seq, ...observation } = record;
    // Addresses and names are taken as the helper gives them.
    const { kind } = record;
    const flow = 'src' in record && record.kind !== 'line' && record.kind !== 'untraced' ? record : undefined;
    const named = [kind === 'name' ? record.ip : '', flow?.src ?? '', flow?.ip ?? '', flow?.vip ?? ''];
    if (named.some((text) => text !== '' && canonicalIp(text) !== text)) continue;
    const again = decodeRecord(encodeRecord(observation as Observation, seq).trimEnd());
    assert.ok(typeof again === 'object', 'what was read cannot be written and read again');
  }
}

function conf(input: Buffer): void {
  try {
    parseConf({ path: 'nginx.conf', text: input.toString('latin1') } as Parameters<typeof parseConf>[0]);
  } catch (error) {
    if (!(error instanceof ConfError)) throw error;
  }
}

function yaml(input: Buffer): void {
  const done = inject(input.toString('utf8'), INJECT_DEFAULTS);
  if (!done.ok) assert.ok(done.message.length > 0 && !done.message.includes('    at '), done.message);
}

const configurations = readdirSync(new URL('../fixtures/nginx-conf/', import.meta.url), {
  withFileTypes: true,
})
  .filter((entry) => entry.isFile())
  .map(({ name }) => fixture(`nginx-conf/${name}`));
const nested = readdirSync(new URL('../fixtures/nginx-conf/', import.meta.url), { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .flatMap(({ name }) => {
    try {
      return [fixture(`nginx-conf/${name}/nginx.conf`)];
    } catch {
      return [];
    }
  });
const HEAD = Buffer.from(
  'POST /a HTTP/1.1\r\nX-Request-ID: ac40f72eb50d25653645c39eec16241f\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello',
);

export const TARGETS: readonly Target[] = [
  {
    name: 'access line',
    corpus: [LINE, JSON_LINE, LINE.subarray(0, 120)],
    words: LOG_WORDS,
    weight: 4,
    run: accessLine,
  },
  {
    name: 'log_format',
    corpus: [
      ...Object.values(FORMATS),
      'log_format a escape=json \'$a\' "$b";',
      // biome-ignore lint/suspicious/noTemplateCurlyInString: nginx writes variables so, too
      'escape=none ${upstream_addr}',
    ].map((text) => Buffer.from(text)),
    words: [
      '$',
      '${',
      '}',
      "'",
      '"',
      '\\',
      ';',
      '#',
      '$upstream_addr',
      'escape=',
      'log_format ',
      '$request_id',
      ' ',
    ],
    weight: 1,
    run: formatText,
  },
  {
    name: 'address',
    corpus: ['10.0.0.1:80', '[2001:db8::1]:80', '::ffff:10.0.0.1', 'fe80::1%eth0', '1:2:3:4:5:6:7:8'].map(
      (text) => Buffer.from(text),
    ),
    words: [':', '::', '.', '[', ']', '0', 'ffff', '256', '%', '65535', '65536'],
    weight: 20,
    run: address,
  },
  {
    name: 'log escapes',
    corpus: [LINE.subarray(70, 160), Buffer.from('\\x22\\u0022\\n\\\\')],
    words: LOG_WORDS,
    weight: 4,
    run: escapes,
  },
  {
    name: 'conntrack message',
    corpus: messages('conntrack/messages.json'),
    words: [],
    weight: 40,
    run: conntrack,
  },
  {
    name: 'tap packet',
    corpus: messages('nflog/messages.json'),
    words: ['\r\n', 'X-Request-ID: 1'],
    weight: 30,
    run: nflog,
  },
  {
    name: 'request head',
    corpus: [HEAD, Buffer.from('GET / HTTP/1.0\nx-request-id:1\n\n')],
    words: [
      '\r\n',
      '\n',
      ' ',
      ':',
      'X-Request-ID: ',
      'Content-Length: 9',
      'Upgrade: x',
      'Host: h',
      ' HTTP/1.1',
      '\0',
    ],
    weight: 30,
    run: (input) => head(input, 0, input.length),
  },
  {
    name: 'kernel log',
    corpus: [
      ...lines('kernel-log/kmsg.txt'),
      ...lines('kernel-log/iso.log'),
      ...lines('kernel-log/rfc3164.log'),
    ],
    words: [' SRC=', ' DST=', 'IN=', ' OUT=', 'PROTO=TCP', ' SPT=', ' DPT=', 'kernel: ', ';', '[', ']'],
    weight: 12,
    run: kernelLog,
  },
  {
    name: 'feed',
    corpus: [...encoded, Buffer.concat(encoded)],
    words: ['\n', '"', '\\u0000', '{', '}', 'null', '1e999', ',"seq":', '-1', '"id":'],
    weight: 3,
    run: feed,
  },
  {
    name: 'nginx configuration',
    corpus: [...configurations, ...nested].map((bytes) => bytes.subarray(0, 2_000)),
    words: ['{', '}', ';', '"', "'", '\\', '#', '$', '\n', 'if (', 'content_by_lua_block {'],
    weight: 0.5,
    run: conf,
  },
  {
    name: 'YAML',
    corpus: [fixture('k8s/shop.yaml').subarray(0, 700)],
    words: ['\n', ': ', '- ', '&a ', '*a', '<<: ', '|', '"', '{', '[', '---\n', '!!'],
    weight: 0.01,
    run: yaml,
  },
  framesTarget,
  joinTarget,
  lookupTarget,
];
