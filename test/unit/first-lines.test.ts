import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FirstLines } from '../../src/first-lines.ts';
import { reachOf } from '../../src/format-reach.ts';
import type { BlockLine } from '../../src/join/pending.ts';
import type { Outcome, Reason } from '../../src/model/outcome.ts';
import { compileLogFormat, DEFAULT_LOG_FORMAT } from '../../src/parse/log-format.ts';

const FIELDS = { requestIdField: 'request_id', localPortField: undefined };
const article = compileLogFormat(DEFAULT_LOG_FORMAT);

function firstLines(format = article) {
  const said: string[] = [];
  const watched = new FirstLines({
    format,
    fields: FIELDS,
    idHeader: 'X-Request-ID',
    formatName: '--log-format',
    log: (level, message) => said.push(`${level} ${message}`),
  });
  return { said, watched };
}

function block(text: string, outcomes: readonly Outcome[]) {
  const bytes = Buffer.from(`${text}\n`);
  const lines: BlockLine[] = [{ start: 0, end: bytes.length - 1, parsed: 'format' }];
  return { bytes, lines: text === '' ? [] : lines, outcomes: outcomes.map((outcome) => [outcome]) };
}

const unresolved = (reason: Reason, n: number): Outcome[] => Array.from({ length: n }, () => ({ reason }));
const named = (n: number): Outcome[] =>
  Array.from({ length: n }, () => ({ evidence: 'request-id', ip: '10.244.1.1', port: 80 }));

test('the first line that does not fit is shown, then the 10th and the 100th', () => {
  const { said, watched } = firstLines();
  for (let n = 1; n <= 150; n++) watched.add(block(`line ${n}\t`, []));
  assert.deepEqual(said, [
    'warn 1 of 1 lines do not fit --log-format and pass unchanged, such as: line 1\\x09',
    'warn 10 of 10 lines do not fit --log-format and pass unchanged, such as: line 10\\x09',
    'warn 100 of 100 lines do not fit --log-format and pass unchanged, such as: line 100\\x09',
  ]);
});

test('fewer than half of the first 100 named is said once, by reason, with what to add', () => {
  const { said, watched } = firstLines();
  watched.add(block('', [...named(40), ...unresolved('ambiguous', 50), ...unresolved('no-flow', 9)]));
  assert.deepEqual(said, []);
  watched.add(block('', unresolved('no-flow', 1)));
  watched.add(block('', unresolved('no-flow', 500)));
  assert.equal(said.length, 1);
  assert.match(
    said[0]!,
    /^warn of the first 100 upstream addresses 40 were named \(50 ambiguous, 10 no-flow\)\. ambiguous: .*add \$msec \$request_time \$upstream_status \$request_id to log_format and proxy_set_header X-Request-ID \$request_id;/,
  );
});

test('half is enough, and addresses with nothing to resolve do not count', () => {
  const { said, watched } = firstLines();
  watched.add(block('', [...named(50), ...unresolved('ambiguous', 50), ...unresolved('direct', 500)]));
  watched.add(block('', unresolved('ambiguous', 500)));
  assert.deepEqual(said, []);
});

test('the gap at the beginning of the record says nothing about the format; a lasting one is said', () => {
  const { said, watched } = firstLines();
  watched.add(block('', [...unresolved('gap', 999), ...named(99)]));
  assert.deepEqual(said, []);
  watched.add(block('', unresolved('gap', 1)));
  assert.match(said[0]!, /99 were named \(1000 gap\)\. gap: .*the helper says why/);
});

test('what a format reaches is one sentence that ends with what to add', () => {
  const reach = (text: string, localPortField?: string): string =>
    reachOf(
      compileLogFormat(text, { localPortField }),
      { requestIdField: 'request_id', localPortField },
      'X-Request-ID',
    );
  assert.equal(
    reach(DEFAULT_LOG_FORMAT),
    'the log format has no id, no duration: it reaches sole-backend; only-answer, where requests do not overlap; add $msec $request_time $upstream_status $request_id to log_format, and proxy_set_header X-Request-ID $request_id;',
  );
  assert.match(reach('$upstream_addr $status'), /has no id, no times: it reaches sole-backend; add \$msec/);
  assert.match(
    reach('$upstream_addr $msec $request_time'),
    /has no id, no \$upstream_status, which decides in quiet traffic: it reaches request-window/,
  );
  assert.equal(
    reach('$upstream_addr $msec $request_time $request_id'),
    'the log format reaches request-id, where nginx sends $request_id as X-Request-ID; request-window, where all requests of its time went to one pod; sole-backend',
  );
  assert.match(reach('$upstream_addr $port', 'port'), /reaches source-port \(\$port\)/);
  const unused = '$upstream_addr $upstream_local_port $msec $request_time';
  assert.match(reach(unused), /; with --local-port-field upstream_local_port: source-port, every line$/);
  assert.match(
    reach(unused, 'upstream_local_port'),
    /reaches source-port \(\$upstream_local_port\): every line$/,
  );
});

test('an nginx that the helper does not trace is told of once', () => {
  const { said, watched } = firstLines();
  const why = 'it has no symbols: it is linked statically, or without dynamic modules';
  for (let i = 0; i < 3; i++)
    watched.untraced({ kind: 'untraced', seq: i, t: i, src: '10.244.0.70', via: 'trace', why });
  assert.deepEqual(said, [
    `warn the helper does not trace the nginx here: ${why}; the other evidence names its lines`,
  ]);
  for (let i = 0; i < 100; i++)
    watched.untraced({ kind: 'untraced', seq: i, t: i, src: '10.244.0.70', via: 'trace', why: `${i}` });
  assert.equal(said.length, 8);
});
