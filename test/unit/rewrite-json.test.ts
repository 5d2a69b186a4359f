import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { Outcome } from '../../src/model/outcome.ts';
import { compileLogFormat } from '../../src/parse/log-format.ts';
import { ATTRIBUTES, attributeOf, OWN_ATTRIBUTES, SPLIT_ATTRIBUTES } from '../../src/rewrite/attributes.ts';
import { createStyle } from '../../src/rewrite/create.ts';
import { stabilityOf } from '../docs/conventions.ts';
import { CAPTURED_LINES } from '../fixtures/access-lines/cases.ts';
import { FORMATS } from '../fixtures/access-lines/formats.ts';

type Json = Record<string, unknown>;

function render(text: string, line: string | Buffer, outcomes: Outcome[] = []): Json {
  const format = compileLogFormat(text);
  const block = Buffer.concat([
    typeof line === 'string' ? Buffer.from(line, 'latin1') : line,
    Buffer.from('\n'),
  ]);
  const end = block.length - 1;
  const style = createStyle('json', format);
  const chunks = style.render(block, [{ start: 0, end, parsed: format.parse(block, 0, end) }], [outcomes]);
  const written = Buffer.concat(chunks).toString('utf8');
  assert.equal(written.indexOf('\n'), written.length - 1);
  return JSON.parse(written) as Json;
}

const CART: Outcome = {
  evidence: 'request-id',
  ip: '10.244.0.64',
  port: 8080,
  name: { pod: 'cart-0', namespace: 'shop', node: 'n1', service: 'cart' },
};

describe('style json', () => {
  it('names what was logged as OpenTelemetry does, and says what the attempts led to', () => {
    const json = render(
      FORMATS.full,
      '10.1.1.1 - alice [04/Dec/2025:07:27:17 +0000] "GET /a?b=1 HTTP/1.1" 200 10.96.0.1:80, 10.96.0.1:80 40 "-" "curl/8" "10.2.2.2" "f00" 1764833237.123 0.004 "0.001, 0.000" "-, 0.002" "0.001, 0.002" "502, 200" "0, 98" "0, 160"',
      [{ reason: 'no-flow' }, CART],
    );
    assert.deepEqual(json, {
      timestamp: '2025-12-04T07:27:17.123Z',
      'client.address': '10.1.1.1',
      'user.name': 'alice',
      'nginx.time_local': '04/Dec/2025:07:27:17 +0000',
      'http.request.method': 'GET',
      'url.path': '/a',
      'url.query': 'b=1',
      'network.protocol.name': 'http',
      'network.protocol.version': '1.1',
      'http.response.status_code': 200,
      'nginx.upstream_addr': '10.96.0.1:80, 10.96.0.1:80',
      'http.response.body.size': 40,
      'user_agent.original': 'curl/8',
      'http.request.header.x-forwarded-for': ['10.2.2.2'],
      'nginx.request_id': 'f00',
      'nginx.msec': 1764833237.123,
      'nginx.request_time': 0.004,
      'nginx.upstream_connect_time': '0.001, 0.000',
      'nginx.upstream_header_time': '-, 0.002',
      'nginx.upstream_response_time': '0.001, 0.002',
      'nginx.upstream_status': '502, 200',
      'nginx.upstream_bytes_sent': '0, 98',
      'nginx.upstream_bytes_received': '0, 160',
      'destination.address': '10.244.0.64',
      'destination.port': 8080,
      'destination.k8s.pod.name': 'cart-0',
      'destination.k8s.namespace.name': 'shop',
      'destination.k8s.node.name': 'n1',
      'service.peer.name': 'cart',
      'realpod.attempts': [
        { upstream: '10.96.0.1:80', status: 502, seconds: 0.001, reason: 'no-flow' },
        {
          upstream: '10.96.0.1:80',
          ip: '10.244.0.64',
          port: 8080,
          pod: 'cart-0',
          namespace: 'shop',
          node: 'n1',
          service: 'cart',
          status: 200,
          seconds: 0.002,
          evidence: 'request-id',
        },
      ],
    });
  });

  it('names no pod where the attempt that answered was not resolved', () => {
    const json = render('"$upstream_addr"', '"10.96.0.1:80, 10.96.0.1:80"', [CART, { reason: 'ambiguous' }]);
    assert.equal(json['destination.k8s.pod.name'], undefined);
    assert.equal(json['destination.address'], undefined);
  });

  it('names the pod that nginx addressed itself, where the feed knows it', () => {
    const line = '"10.244.0.64:8080"';
    const name = { pod: 'cart-0', namespace: 'shop', node: '', service: 'cart' };
    const named = render('"$upstream_addr"', line, [{ reason: 'direct', name }]);
    assert.equal(named['destination.k8s.pod.name'], 'cart-0');
    assert.equal(named['destination.port'], 8080);
    assert.deepEqual(named['realpod.attempts'], [
      {
        upstream: '10.244.0.64:8080',
        pod: 'cart-0',
        namespace: 'shop',
        service: 'cart',
        reason: 'direct',
      },
    ]);
    const unnamed = render('"$upstream_addr"', line, [{ reason: 'direct' }]);
    assert.equal(unnamed['destination.address'], '10.244.0.64');
    assert.equal(unnamed['destination.k8s.pod.name'], undefined);
  });

  it('gives the ids of nginx’s own span as those of a log record', () => {
    const json = render(
      '$upstream_addr $otel_trace_id $otel_span_id',
      '- 4bf92f3577b34da6a3ce929d0e0e4736 00f067aa0ba902b7',
      [],
    );
    assert.equal(json.trace_id, '4bf92f3577b34da6a3ce929d0e0e4736');
    assert.equal(json.span_id, '00f067aa0ba902b7');
  });

  it('splits requests as the conventions ask', () => {
    const request = (text: string) => {
      const { 'realpod.attempts': _, ...json } = render('"$request" $upstream_addr', `"${text}" -`);
      return json;
    };
    const http11 = { 'network.protocol.name': 'http', 'network.protocol.version': '1.1' };
    assert.deepEqual(request('FROB * HTTP/1.1'), {
      'http.request.method': '_OTHER',
      'http.request.method_original': 'FROB',
      'url.original': '*',
      ...http11,
    });
    assert.deepEqual(request('GET /a?b?c HTTP/2.0'), {
      'http.request.method': 'GET',
      'url.path': '/a',
      'url.query': 'b?c',
      'network.protocol.name': 'http',
      'network.protocol.version': '2',
    });
    assert.deepEqual(request('\\x16\\x03'), {
      'nginx.request': '\\x16\\x03'.replaceAll('\\x16', '\x16').replaceAll('\\x03', '\x03'),
    });
    assert.deepEqual(request('GET /a'), { 'nginx.request': 'GET /a' });
  });

  it('writes UTF-8 as it is, and bytes that are none as \\xHH', () => {
    const agent = (bytes: string) =>
      render('escape=json "$http_user_agent" $upstream_addr', Buffer.from(`"${bytes}" -`, 'latin1'))[
        'user_agent.original'
      ];
    const utf8 = Buffer.from('ß日🚀').toString('latin1');
    assert.equal(agent(utf8), 'ß日🚀');
    assert.equal(agent(`\xc3${utf8}\xff\xed\xa0\x80`), '\\xC3ß日🚀\\xFF\\xED\\xA0\\x80');
    assert.equal(
      render('"$http_user_agent" $upstream_addr', '"\\xC3\\x9F\\xFF" -')['user_agent.original'],
      'ß\\xFF',
    );
  });

  it('leaves out a time that is none', () => {
    for (const msec of ['9'.repeat(300), '.', '1.2.3', '-']) {
      assert.equal(render('$msec $upstream_addr', `${msec} -`).timestamp, undefined);
    }
    assert.equal(render('$msec $upstream_addr', '0.007 -').timestamp, '1970-01-01T00:00:00.007Z');
    assert.equal(render('$status $upstream_addr', '000 -')['http.response.status_code'], '000');
  });

  it('gives every name once, and loses no variable that shares one', () => {
    const { 'realpod.attempts': _, ...json } = render(
      '"$request" "$args" "$query_string" $status $status "$request_method" "$server_protocol" "$request" $upstream_addr',
      '"GET /a?b HTTP/1.1" "b" "b" 200 200 "GET" "HTTP/1.1" "GET /a?b HTTP/1.1" -',
    );
    assert.deepEqual(json, {
      'http.request.method': 'GET',
      'url.path': '/a',
      'url.query': 'b',
      'network.protocol.name': 'http',
      'network.protocol.version': '1.1',
      'nginx.args': 'b',
      'nginx.query_string': 'b',
      'http.response.status_code': 200,
      'nginx.request_method': 'GET',
      'nginx.server_protocol': 'HTTP/1.1',
    });
  });

  it('keeps a line that does not fit, or not for certain, as it is', () => {
    assert.deepEqual(render('$upstream_addr "$status"', '\xc3\x9f \xff "'), {
      body: 'ß \\xFF "',
      'realpod.unparsed': 'format',
    });
    assert.deepEqual(render('$upstream_addr', ''), { body: '', 'realpod.unparsed': 'empty' });
    const json = render('$upstream_addr "$status" $http_a $http_b', '10.96.0.1:80 "200" a b c');
    assert.equal(json['http.response.status_code'], 200);
    assert.equal(json['http.request.header.a'], undefined);
    assert.equal(json['log.record.original'], '10.96.0.1:80 "200" a b c');
  });

  it('writes valid JSON of any bytes, one line each', () => {
    for (const { format, bytes } of CAPTURED_LINES) render(FORMATS[format], bytes);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        const line = Buffer.from(bytes.filter((byte) => byte !== 10));
        render('escape=none "$http_a" $upstream_addr', line);
        render(
          'escape=none "$http_a" $upstream_addr',
          Buffer.concat([Buffer.from('"'), line, Buffer.from('" -')]),
        );
      }),
      { numRuns: 500 },
    );
  });
});

describe('attribute names', () => {
  it('are those of the semantic conventions, none deprecated, or say whose they are', () => {
    const own = /^(nginx|realpod|destination\.k8s)\.|^(timestamp|body|trace_id|span_id)$/;
    const names = [
      ...Object.keys(ATTRIBUTES).map((variable) => attributeOf(variable).name),
      ...['http_x_request_id', 'sent_http_content_type', 'upstream_addr'].map((v) => attributeOf(v).name),
      ...Object.values(SPLIT_ATTRIBUTES).flat(),
      ...Object.keys(OWN_ATTRIBUTES),
    ];
    for (const name of names) {
      const stability = stabilityOf(name);
      // What follows it in the conventions, server.service.name, would be the service that wrote the log here.
      if (name === 'service.peer.name') assert.equal(stability, 'deprecated');
      else if (own.test(name)) assert.equal(stability, undefined, name);
      else assert.match(stability ?? 'unknown', /^(stable|development)$/, name);
    }
    assert.ok(names.filter((name) => stabilityOf(name) === 'stable').length > 15);
    assert.equal(stabilityOf('http.status_code'), 'deprecated');
    assert.equal(stabilityOf('http.response.status'), undefined);
  });

  it('are one for each variable, in the form of the conventions', () => {
    for (const variable of [
      ...Object.keys(ATTRIBUTES),
      'http_x_a',
      'sent_http_etag',
      'upstream_addr',
      'my_own',
    ]) {
      assert.match(attributeOf(variable).name, /^[a-z][a-z0-9_.-]*$/);
      assert.ok(!(variable in SPLIT_ATTRIBUTES), variable);
    }
    assert.equal(attributeOf('http_x_request_id').name, 'http.request.header.x-request-id');
    assert.equal(attributeOf('sent_http_content_type').name, 'http.response.header.content-type');
    assert.equal(attributeOf('constructor').name, 'nginx.constructor');
  });
});
