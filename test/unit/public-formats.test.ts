import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import type { Attempt } from '../../src/model/line.ts';
import { compileLogFormat } from '../../src/parse/log-format.ts';
import { PUBLIC_FORMATS, type PublicFormatName } from '../fixtures/public-formats/formats.ts';

interface Captures {
  captures: { name: string; logs: Record<string, string[]> }[];
}
const { captures } = JSON.parse(
  readFileSync(new URL('../fixtures/public-formats/captures.json', import.meta.url), 'utf8'),
) as Captures;

/** Its last three values have nothing between them: a quote is missing in the original. */
const REFUSED: PublicFormatName = 'missingQuote';

const COLUMNS: readonly [variable: string, field: keyof Attempt, scale: number][] = [
  ['upstream_status', 'status', 1],
  ['upstream_connect_time', 'connectMs', 1000],
  ['upstream_header_time', 'headerMs', 1000],
  ['upstream_response_time', 'responseMs', 1000],
  ['upstream_bytes_sent', 'bytesSent', 1],
  ['upstream_bytes_received', 'bytesReceived', 1],
];

const entries = (list: string) => list.split(/, | : /);

/** Compares every value that was read with what the witness says; returns how many there were. */
function compare(
  parsed: Exclude<ReturnType<ReturnType<typeof compileLogFormat>['parse']>, string>,
  bytes: Buffer,
  truth: Record<string, string>,
  where: string,
): number {
  let values = 0;
  const addresses = parsed.attempts.map(({ start, end }) => bytes.toString('latin1', start, end));
  assert.deepEqual(addresses.join() === '-' ? [''] : addresses, entries(truth.upstream_addr!), where);
  for (const [variable, field, scale] of COLUMNS) {
    const list = truth[variable];
    for (const [k, attempt] of parsed.attempts.entries()) {
      const value = attempt[field];
      if (value === undefined || list === undefined) continue;
      values++;
      const entry = entries(list)[k]!;
      const expected = entry === '-' || entry === '' ? null : Math.round(Number(entry) * scale);
      assert.equal(value, expected, `${where}: $${variable}`);
    }
  }
  const single: [unknown, number][] = [
    [parsed.status, Number(truth.status)],
    [parsed.requestMs, Math.round(Number(truth.request_time ?? truth.session_time) * 1000)],
  ];
  for (const [value, expected] of single) {
    if (value === undefined) continue;
    values++;
    assert.equal(value, expected, where);
  }
  if (parsed.id !== undefined) assert.equal(parsed.id, truth.request_id, where);
  if (parsed.endMs !== undefined) {
    const late = Number(truth.msec) * 1000 - parsed.endMs;
    assert.ok(late > -0.5 && late < parsed.endStepMs, `${where}: ${late} ms`);
  }
  return values;
}

describe('public log formats, on lines that nginx wrote', () => {
  for (const [name, text] of Object.entries(PUBLIC_FORMATS) as [PublicFormatName, string][]) {
    if (name === REFUSED) continue;
    it(`${name}: every line is read, and says what the witness says`, () => {
      const format = compileLogFormat(text);
      let lines = 0;
      let values = 0;
      for (const { name: request, logs } of captures) {
        const truths = logs.witness ?? logs.streamWitness ?? [];
        for (const [index, line] of (logs[name] ?? []).entries()) {
          lines++;
          const bytes = Buffer.from(line, 'latin1');
          const parsed = format.parse(bytes, 0, bytes.length);
          const where = `${name}: ${request}`;
          assert.ok(typeof parsed !== 'string', where);
          values += compare(parsed, bytes, JSON.parse(truths[index]!), where);
        }
      }
      assert.ok(lines >= 5);
      // $upstream_addr, and the status or a time: beside the address each format has at least one of them.
      assert.ok(values >= lines, `${values} values of ${lines} lines`);
    });
  }

  it('that leave nothing between two values are refused, with the place', () => {
    assert.throws(
      () => compileLogFormat(PUBLIC_FORMATS[REFUSED]),
      /nothing between \$upstream_response_time and \$upstream_addr/,
    );
  });
});
