/** Lines written as nginx writes them (src/http/modules/ngx_http_log_module.c, src/core/ngx_string.c), read back field by field. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Escaping } from '../../src/parse/format-text.ts';
import { compileLogFormat } from '../../src/parse/log-format.ts';
import { RECOMMENDED } from '../lab/kit/formats.ts';

const RUNS = Number(process.env.REALPOD_ROUND_TRIPS ?? 1_000);
const LETTERS = new Map([...'\n\r\t\b\f'].map((char, i) => [char, `\\${'nrtbf'[i]}`]));

/** ngx_http_log_escape: `"`, `\\`, control characters and all from DEL on; ngx_escape_json: not what is above DEL. */
function escaped(value: string, escaping: Escaping): string {
  if (escaping === 'none') return value;
  let text = '';
  for (const char of value) {
    const code = char.charCodeAt(0);
    const hex = code.toString(16).toUpperCase().padStart(2, '0');
    if (escaping === 'json') {
      if (char === '"' || char === '\\') text += `\\${char}`;
      else if (code < 32) text += LETTERS.get(char) ?? `\\u00${hex}`;
      else text += char;
    } else if (code < 32 || code > 126 || char === '"' || char === '\\') text += `\\x${hex}`;
    else text += char;
  }
  return text;
}

const seconds = (ms: number): string => `${Math.floor(ms / 1000)}.${String(ms % 1000).padStart(3, '0')}`;
const MONTHS = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ');
const timeLocal = (ms: number): string => {
  const at = new Date(ms);
  const two = (n: number): string => String(n).padStart(2, '0');
  return `${two(at.getUTCDate())}/${MONTHS[at.getUTCMonth()]}/${at.getUTCFullYear()}:${at.toISOString().slice(11, 19)} +0000`;
};

const bytesOf = (least: number, most: number, less = ''): fc.Arbitrary<string> =>
  fc.string({
    unit: fc
      .integer({ min: 1, max: 255 })
      .map((code) => String.fromCharCode(code))
      .filter((char) => !less.includes(char)),
    minLength: least,
    maxLength: most,
  });
const millis = fc.option(fc.integer({ min: 0, max: 4_000_000 }));
const attempt = fc.record({
  ip: fc.oneof(fc.ipV4(), fc.constantFrom('2001:db8::1', 'fd00::a')),
  port: fc.integer({ min: 1, max: 65_535 }),
  connectMs: millis,
  headerMs: millis,
  responseMs: millis,
  status: fc.option(fc.integer({ min: 100, max: 599 })),
  bytesSent: fc.integer({ min: 0, max: 2 ** 40 }),
});
const exchange = fc.record({
  attempts: fc.array(fc.tuple(attempt, fc.constantFrom(', ', ' : ')), { minLength: 1, maxLength: 4 }),
  endMs: fc.integer({ min: 1_500_000_000_000, max: 2_000_000_000_000 }),
  requestMs: fc.integer({ min: 0, max: 90_000_000 }),
  id: fc.option(fc.stringMatching(/^[0-9a-f]{32}$/)),
  method: fc.stringMatching(/^[A-Z][A-Z_-]{0,8}$/),
  target: bytesOf(0, 40, ' \n\r').map((rest) => `/${rest}`),
  status: fc.integer({ min: 100, max: 599 }),
  user: fc.option(fc.stringMatching(/^[!-~]{1,12}$/)),
  referer: fc.option(bytesOf(0, 40)),
  agent: fc.option(bytesOf(0, 60)),
});
type Exchange = typeof exchange extends fc.Arbitrary<infer T> ? T : never;

/** What the variables of the recommended format hold; undefined where nginx has none. */
function variablesOf(it: Exchange): Record<string, string | undefined> {
  const each = (write: (one: Exchange['attempts'][number][0]) => string): string =>
    it.attempts.map(([one, after], k) => write(one) + (k < it.attempts.length - 1 ? after : '')).join('');
  const time = (ms: number | null): string => (ms === null ? '-' : seconds(ms));
  return {
    remote_addr: '10.244.0.9',
    remote_user: it.user ?? undefined,
    time_local: timeLocal(it.endMs),
    request: `${it.method} ${it.target} HTTP/1.1`,
    status: String(it.status),
    upstream_addr: each(({ ip, port }) => (ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`)),
    body_bytes_sent: '40',
    http_referer: it.referer ?? undefined,
    http_user_agent: it.agent ?? undefined,
    request_id: it.id ?? undefined,
    msec: seconds(it.endMs),
    request_time: seconds(it.requestMs),
    upstream_connect_time: each(({ connectMs }) => time(connectMs)),
    upstream_header_time: each(({ headerMs }) => time(headerMs)),
    upstream_response_time: each(({ responseMs }) => time(responseMs)),
    upstream_status: each(({ status }) => (status === null ? '-' : String(status))),
    upstream_bytes_sent: each(({ bytesSent }) => String(bytesSent)),
  };
}

const OBJECT =
  '{"addr":"$upstream_addr","request":"$request","id":"$request_id","end":"$msec","took":"$request_time","status":"$status","c":"$upstream_connect_time","h":"$upstream_header_time","r":"$upstream_response_time","s":"$upstream_status","b":"$upstream_bytes_sent","agent":"$http_user_agent"}';

for (const [escaping, text] of [
  ['default', RECOMMENDED],
  ['json', RECOMMENDED],
  ['json', OBJECT],
] as const)
  test(`escape=${escaping}, ${text === OBJECT ? 'an object' : 'the recommended format'}: what nginx wrote is what is read`, () => {
    const format = compileLogFormat(`escape=${escaping} ${text}`);
    fc.assert(
      fc.property(exchange, (it) => {
        const values = variablesOf(it);
        const none = escaping === 'default' ? '-' : '';
        const line = text.replaceAll(/\$(\w+)/g, (_, name: string) => {
          const value = values[name];
          return value === undefined ? none : escaped(value, escaping);
        });
        const bytes = Buffer.from(line, 'latin1');
        const parsed = format.parse(bytes, 0, bytes.length);
        assert.ok(typeof parsed === 'object', `${parsed}: ${line}`);
        const { endMs, requestMs, id, method, path, status } = parsed;
        assert.deepEqual(
          { endMs, requestMs, id, method, path, status },
          {
            endMs: it.endMs,
            requestMs: it.requestMs,
            id: it.id ?? undefined,
            method: it.method,
            path: it.target,
            status: it.status,
          },
        );
        assert.deepEqual(
          parsed.attempts.map(
            ({ ip, port, connectMs, headerMs, responseMs, status, bytesSent, start, end }) => {
              const span = bytes.toString('latin1', start, end);
              assert.equal(span, ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`);
              return { ip, port, connectMs, headerMs, responseMs, status, bytesSent };
            },
          ),
          it.attempts.map(([one]) => ({ ...one })),
        );
      }),
      { numRuns: RUNS },
    );
  });
