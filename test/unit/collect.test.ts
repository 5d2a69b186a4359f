/**
 * The snippets for collectors against what the sidecar really writes, as far as that can be told without the collectors:
 * paths as the kubelet makes them, and the layout of the time.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { parse } from 'yaml';
import { createStyle } from '../../src/rewrite/create.ts';
import { demoFormat, settledDemo } from './serve-demo.ts';

const COLLECT = new URL('../../k8s/collect/', import.meta.url);
const read = <T>(file: string): T => parse(readFileSync(new URL(file, COLLECT), 'utf8')) as T;

const fits = (path: string, glob: string): boolean =>
  new RegExp(
    `^${glob.replaceAll('.', '\\.').replace(/\*\*\/|\*/g, (star) => (star === '*' ? '[^/]*' : '(.*/)?'))}$`,
  ).test(path);

/** Where the kubelet puts the log of a container: the file, and the link to it. */
const file = (container: string) => `/var/log/pods/web_nginx-5c8d-x2lbv_0a1b2c3d/${container}/0.log`;
const link = (container: string) =>
  `/var/log/containers/nginx-5c8d-x2lbv_web_${container}-${'0a1b2c3d'.repeat(8)}.log`;

const { blocks } = settledDemo();
const style = createStyle('json', demoFormat);
const written = Buffer.concat(
  blocks.flatMap(({ bytes, lines, outcomes }) => style.render(bytes, lines, outcomes)),
)
  .toString()
  .trimEnd()
  .split('\n');
const times = written.map((line) => (JSON.parse(line) as { timestamp: string }).timestamp);

test('Fluent Bit reads the sidecar and not nginx, and its time format is that of the lines', () => {
  const { parsers, pipeline } = read<{
    parsers: { name: string; format: string; time_key: string; time_format: string }[];
    pipeline: {
      inputs: { path: string; tag: string }[];
      filters: { match: string; parser: string; key_name: string }[];
    };
  }>('fluent-bit.yaml');
  const [input] = pipeline.inputs;
  assert.ok(fits(link('realpod'), input!.path));
  assert.ok(!fits(link('nginx'), input!.path));
  const [filter] = pipeline.filters;
  assert.equal(filter!.match, input!.tag);
  const parser = parsers.find(({ name }) => name === filter!.parser)!;
  assert.deepEqual([parser.format, parser.time_key, filter!.key_name], ['json', 'timestamp', 'log']);
  const parts: Record<string, string> = { Y: '\\d{4}', L: '\\d+', z: '(Z|[+-]\\d{4})' };
  const layout = parser.time_format
    .replace('.', '\\.')
    .replace(/%(\w)/g, (_, c: string) => parts[c] ?? '\\d\\d');
  for (const time of times) assert.match(time, new RegExp(`^${layout}$`));
});

test('the OpenTelemetry Collector reads the sidecar and not nginx, and its layout is that of the lines', () => {
  const { receivers, service } = read<{
    receivers: Record<
      string,
      { include: string[]; operators: { type: string; if?: string; timestamp?: { layout: string } }[] }
    >;
    service: { pipelines: { logs: { receivers: string[] } } };
  }>('otel-collector.yaml');
  const [name] = service.pipelines.logs.receivers;
  const { include, operators } = receivers[name!]!;
  assert.ok(include.some((glob) => fits(file('realpod'), glob)));
  assert.ok(!include.some((glob) => fits(file('nginx'), glob)));
  assert.deepEqual(
    operators.map(({ type }) => type),
    ['container', 'json_parser'],
  );
  const taken = new RegExp(/^body matches "(.*)"$/.exec(operators[1]!.if!)![1]!);
  for (const line of written) assert.match(line, taken);
  assert.doesNotMatch('realpod: started', taken);
  // Go's layouts are the reference time, written as it is to look.
  const layout = operators[1]!
    .timestamp!.layout.replace('Z07:00', '(Z|[+-]\\d\\d:\\d\\d)')
    .replace('.999', '(\\.\\d+)?')
    .replace('2006', '\\d{4}')
    .replace(/0[1-5]|15/g, '\\d\\d');
  for (const time of times) assert.match(time, new RegExp(`^${layout}$`));
});

test('Vector reads the sidecar and not nginx, and gives the line what is parsed', () => {
  const { sources, transforms, sinks } = read<{
    sources: Record<string, { include_paths_glob_patterns: string[] }>;
    transforms: Record<string, { inputs: string[]; source: string }>;
    sinks: Record<string, { inputs: string[] }>;
  }>('vector.yaml');
  const [[source, { include_paths_glob_patterns: globs }]] = Object.entries(sources) as [
    [string, { include_paths_glob_patterns: string[] }],
  ];
  assert.ok(globs.some((glob) => fits(file('realpod'), glob)));
  assert.ok(!globs.some((glob) => fits(file('nginx'), glob)));
  const [[transform, { inputs, source: program }]] = Object.entries(transforms) as [
    [string, { inputs: string[]; source: string }],
  ];
  assert.deepEqual([inputs, Object.values(sinks)[0]!.inputs], [[source], [transform]]);
  assert.match(program, /parse_timestamp\(\.timestamp, "%\+"\)/);
  for (const time of times) assert.equal(new Date(time).toISOString(), time, 'RFC 3339, which %+ is');
});

test('the fleet’s Collector reads as the snippet does, and keeps what it could not send', () => {
  const snippet = read<{ receivers: Record<string, { include: string[]; operators: object[] }> }>(
    'otel-collector.yaml',
  ).receivers['filelog/realpod']!;
  const fleet = read<{
    receivers: Record<string, { include: string[]; operators: object[]; storage: string }>;
    exporters: Record<string, { sending_queue: { block_on_overflow: boolean } }>;
    service: { extensions: string[] };
  }>('fleet/collector-config.yaml');
  const receiver = fleet.receivers['file_log/realpod']!;
  assert.deepEqual(receiver.include, snippet.include);
  for (const operator of snippet.operators) {
    assert.ok(receiver.operators.some((each) => JSON.stringify(each) === JSON.stringify(operator)));
  }
  assert.ok(fleet.service.extensions.includes(receiver.storage));
  assert.equal(fleet.exporters['otlp_http/logs']!.sending_queue.block_on_overflow, true);
});
