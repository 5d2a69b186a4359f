/** What clients of the look-up interface may write behind the `?`. */
import assert from 'node:assert/strict';
import { lineFilter } from '../../src/http/sidecar/line-filter.ts';
import { parseTime } from '../../src/http/sidecar/lookup.ts';
import type { ShownBlock } from '../../src/http/sidecar/shown.ts';
import { parseHostPort } from '../../src/parse/address.ts';
import type { Target } from './target.ts';

const LINE = {
  attempts: [{ start: 0, end: 9, kind: 'ip', ip: '10.0.0.1', port: 80 }],
  endMs: 1_795_418_146_480,
  endStepMs: 1,
  requestMs: 1,
  id: 'a',
  method: 'GET',
  path: '/cart',
  status: 200,
};
const BLOCK = {
  bytes: Buffer.alloc(0),
  readAt: 1_795_418_146_481,
  lines: [
    { start: 0, end: 0, parsed: LINE },
    { start: 0, end: 0, parsed: 'format' },
  ],
  outcomes: [
    [
      {
        evidence: 'request-id',
        ip: '10.244.1.64',
        port: 8080,
        name: { pod: 'cart-6d4-x', namespace: 'shop', node: 'n', service: 'cart' },
      },
    ],
    [],
  ],
} as unknown as ShownBlock;

function query(input: Buffer): void {
  const asked = new URLSearchParams(input.toString('latin1'));
  const [time, upstream, pod, status, path] = ['time', 'upstream', 'pod', 'status', 'path'].map(
    (name) => asked.get(name) ?? undefined,
  );
  const at = time === undefined ? undefined : parseTime(time);
  if (at) assert.ok(Number.isFinite(at.first) && at.last > at.first, 'a moment without an end');
  const bytes = Buffer.from(upstream ?? '');
  const target = parseHostPort(bytes, 0, bytes.length);
  if (target) assert.ok(target.port >= 0 && target.port <= 65_535);
  const filter = lineFilter(
    {
      ...(pod === undefined ? {} : { pod }),
      ...(status === undefined ? {} : { status }),
      ...(path === undefined ? {} : { path }),
    },
    () => undefined,
  );
  const shown = [filter(BLOCK, 0), filter(BLOCK, 1)];
  assert.ok(!shown[1] || (pod ?? status ?? path) === undefined, 'a line that was not read fits a filter');
  if (shown[0] && path) assert.ok('/cart'.includes(path));
}

export const lookupTarget: Target = {
  name: 'look-up parameters',
  corpus: [
    'port=33454&time=2025-12-04T17:33:23Z&upstream=10.105.148.194:10000',
    'port=1&time=1764869603.123',
    'time=1764869603123&upstream=[fd00::1]:80',
    'time=2025-12-04%2017:33:23,5%2B01:00',
    'pod=shop/cart&status=5xx&path=/cart',
    'pod=10.244.1.64:8080&status=200',
  ].map((text) => Buffer.from(text)),
  words: ['&', '=', '%', '%00', '%2B', 'time=', 'T', ':', '.', ',', '-', 'Z', '99999999999', 'xx', '[', ']'],
  weight: 6,
  run: query,
};
