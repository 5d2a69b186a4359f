import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { compileLogFormat, LogFormatError } from '../../src/parse/log-format.ts';
import { shapeOf } from '../../src/parse/log-variable.ts';

/** Runs of each property; raise it to search for longer. */
const numRuns = Number(process.env.REALPOD_PROPERTY_RUNS ?? 4000);

type Escaping = 'default' | 'json' | 'none';
type Piece = { literal: string } | { variable: string };

const VARIABLES = [
  'upstream_addr',
  'upstream_addr',
  'upstream_status',
  'upstream_response_time',
  'status',
  'msec',
  'time_local',
  'request_id',
  'remote_addr',
  'request_method',
  'server_protocol',
  'request',
  'http_a',
  'http_b',
  'http_c',
];
const LITERALS = [' ', ' ', ' ', '" "', '"', ' [', '] ', '|', ' - ', ': ', ',', ' x ', '","b":"'];

/** Text that a client would try: pieces of other values and of the format's own literals. */
const HOSTILE = [
  ...LITERALS,
  ', ',
  ' : ',
  '10.9.9.9:80',
  '[::1]:80',
  '200',
  '-',
  '0.001',
  'f00',
  'GET',
  '04/Dec/2025:07:27:17 +0000',
  '\\',
  'x',
];

const piece = fc.oneof(
  fc.constantFrom(...VARIABLES).map((variable): Piece => ({ variable })),
  fc.constantFrom(...LITERALS).map((literal): Piece => ({ literal })),
);
const pieces = fc
  .array(piece, { minLength: 1, maxLength: 11 })
  .filter((list) => list.some((item) => 'variable' in item && item.variable === 'upstream_addr'));

const hostileText = fc.array(fc.constantFrom(...HOSTILE), { maxLength: 7 }).map((words) => words.join(''));
const number = fc.constantFrom('200', '0', '0.001', '-', '1764837843.123');
const entry = fc.constantFrom('10.0.0.1:80', '[2001:db8::1]:80', 'unix:/run/a.sock', 'shop', '');
const separator = fc.constantFrom(', ', ' : ');

function listOf(entries: fc.Arbitrary<string>): fc.Arbitrary<string> {
  return fc
    .tuple(entries, fc.array(fc.tuple(separator, entries), { maxLength: 2 }))
    .map(([first, rest]) => first + rest.flat().join(''));
}

/** What nginx can write for the variable, escaped as it escapes. */
function textFor(variable: string, escaping: Escaping): fc.Arbitrary<string> {
  const missing = fc.constant(escaping === 'default' ? '-' : '');
  switch (shapeOf(variable)) {
    case 'peer-list':
      return fc.oneof(listOf(entry), missing);
    case 'number-list':
      return fc.oneof(listOf(fc.constantFrom('200', '0.001', '-')), missing);
    case 'count-list':
      return fc.oneof(listOf(fc.constantFrom('200', '502', '-')), missing);
    case 'number':
      return fc.oneof(number, missing);
    case 'count':
    case 'status':
      return fc.constantFrom('200', '009', '1234');
    case 'decimal':
      return fc.constantFrom('0.001', '1764837843.123');
    case 'protocol':
      return fc.oneof(fc.constantFrom('HTTP/1.1', 'HTTP/1.1 ', 'HTTP/2.0', ''), missing);
    case 'time-local':
      return fc.constantFrom('04/Dec/2025:07:27:17 +0000', '05/Dec/2025:07:27:18 -0930');
    case 'word':
      return fc.oneof(fc.constantFrom('GET', 'f00', 'deadbeef', 'M-SEARCH'), missing);
    case 'address':
      return fc.constantFrom('10.1.1.1', '2001:db8::2', 'unix:');
    default:
      return fc.oneof(
        hostileText.map((text) => escaped(text, escaping)),
        missing,
      );
  }
}

function escaped(text: string, escaping: Escaping): string {
  if (escaping === 'default') return text.replaceAll('\\', '\\x5C').replaceAll('"', '\\x22');
  if (escaping === 'json') return text.replaceAll('\\', '\\\\').replaceAll('"', '\\"');
  return text;
}

const written = fc
  .tuple(pieces, fc.constantFrom<Escaping>('default', 'json', 'none'))
  .chain(([list, escaping]) =>
    fc
      .tuple(
        ...list.map((item) =>
          'variable' in item ? textFor(item.variable, escaping) : fc.constant(item.literal),
        ),
      )
      .map((texts) => ({ list, escaping, texts })),
  );

function compile(list: readonly Piece[], escaping: Escaping) {
  const text = list.map((item) => ('variable' in item ? `\${${item.variable}}` : item.literal)).join('');
  try {
    return compileLogFormat(`escape=${escaping} '${text}'`);
  } catch (error) {
    if (error instanceof LogFormatError) return undefined;
    throw error;
  }
}

describe('a client that writes anything into its values', () => {
  it('moves no value: what is given is what nginx wrote', () => {
    let lines = 0;
    let given = 0;
    fc.assert(
      fc.property(written, ({ list, escaping, texts }) => {
        const format = compile(list, escaping);
        if (!format) return;
        const bytes = Buffer.from(texts.join(''));
        lines++;
        const spans = format.split(bytes, 0, bytes.length);
        if (!spans) return;
        // Where each variable's text really stands; neighbours with nothing between them count as one.
        let at = 0;
        let variable = -1;
        let before: Piece | undefined;
        const truth: [number, number][] = [];
        for (const [index, item] of list.entries()) {
          const end = at + texts[index]!.length;
          if ('variable' in item) {
            if (before && 'variable' in before) truth[variable]![1] = end;
            else truth[++variable] = [at, end];
          }
          at = end;
          before = item;
        }
        for (const [index, [start, end]] of truth.entries()) {
          if (spans[2 * index]! < 0) continue;
          given++;
          assert.deepEqual([spans[2 * index], spans[2 * index + 1]], [start, end], format.variables[index]);
        }
      }),
      { numRuns },
    );
    // Else the property would hold of a splitter that never gives anything.
    assert.ok(given > lines, `${given} values of ${lines} lines`);
  });

  it('is left alone where two readings of the line fit, as found by trying all', () => {
    fc.assert(
      fc.property(written, ({ list, escaping, texts }) => {
        const format = compile(list, escaping);
        if (!format || format.forgeable) return;
        const line = texts.join('');
        const result = format.parse(Buffer.from(line), 0, line.length);
        if (typeof result === 'string') return;
        const peers = new Set(readings(list, escaping, line).map((values) => values.get('upstream_addr')));
        assert.equal(peers.size, 1, [...peers].join(' or '));
      }),
      { numRuns: Math.ceil(numRuns / 4) },
    );
  });
});

/** Every way in which the line fits the format, by an expression for each value and plain back-tracking. Short lines only. */
function readings(list: readonly Piece[], escaping: Escaping, line: string): Map<string, string>[] {
  const found: Map<string, string>[] = [];
  let steps = 0;
  const follow = (index: number, at: number, values: Map<string, string>) => {
    if (found.length > 50 || ++steps > 20_000) return;
    const item = list[index];
    if (!item) {
      if (at === line.length) found.push(new Map(values));
      return;
    }
    if ('literal' in item) {
      if (line.startsWith(item.literal, at)) follow(index + 1, at + item.literal.length, values);
      return;
    }
    for (let end = at; end <= line.length; end++) {
      const value = line.slice(at, end);
      if (!languageOf(item.variable, escaping).test(value)) continue;
      const known = values.get(item.variable);
      if (known === undefined) follow(index + 1, end, new Map(values).set(item.variable, value));
      else follow(index + 1, end, values);
    }
  };
  follow(0, 0, new Map());
  return found;
}

function languageOf(variable: string, escaping: Escaping): RegExp {
  const peer = String.raw`(\[[0-9a-f:.]+\]:\d+|unix:[\w./-]*|[A-Za-z0-9.-]+(:\d+)?)?`;
  const single = String.raw`(-|[\d.]*)`;
  switch (shapeOf(variable)) {
    case 'peer-list':
      return new RegExp(`^${peer}((, | : )${peer})*$`);
    case 'number-list':
      return new RegExp(`^${single}((, | : )${single})*$`);
    case 'count-list':
      return /^(-|\d*)((, | : )(-|\d*))*$/;
    case 'number':
      return new RegExp(`^${single}$`);
    case 'count':
      return /^\d+$/;
    case 'status':
      return /^\d{3,}$/;
    case 'decimal':
      return /^\d+\.\d+$/;
    case 'protocol':
      return /^(-|HTTP\/[\d.]+ *)?$/;
    case 'time-local':
      return /^\d\d\/[A-Z][a-z]{2}\/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}$/;
    case 'word':
      return /^[\w.-]*$/;
    case 'address':
      return /^([0-9a-f:.]+|unix:)$/;
    default:
      if (escaping === 'default') return /^[^"]*$/;
      return escaping === 'json' ? /^([^"\\]|\\.)*$/ : /^.*$/s;
  }
}
