import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { headerName, parseRequestHead } from '../../src/capture/tap/request-head.ts';

const ID = headerName('X-Request-ID');

function parse(head: string) {
  const bytes = Buffer.from(head, 'latin1');
  return parseRequestHead(bytes, 0, bytes.length, ID);
}

function idOf(head: string) {
  const parsed = parse(head);
  assert.ok(parsed !== 'not-http');
  return [parsed.id, parsed.cut];
}

const START = 'GET /a HTTP/1.1\r\nHost: h\r\n';

test('a whole head gives method, path and id', () => {
  assert.deepEqual(parse('DELETE /a%20b?c=d HTTP/1.0\r\nX-Request-ID: 12-ab\r\nHost: h\r\n\r\nbody'), {
    method: 'DELETE',
    path: '/a%20b?c=d',
    id: '12-ab',
    idBeforeHost: true,
    cut: false,
    requestBytes: 'DELETE /a%20b?c=d HTTP/1.0\r\nX-Request-ID: 12-ab\r\nHost: h\r\n\r\n'.length,
    upgrade: false,
    chunked: false,
  });
});

test("a request's length is known where its whole head tells it", () => {
  const entire = (head: string) => {
    const parsed = parse(head);
    assert.ok(parsed !== 'not-http');
    return parsed.requestBytes;
  };
  assert.equal(entire(`${START}\r\n`), START.length + 2);
  const plain = START.length + 2;
  const announcing = (header: string) => {
    const length = entire(`${START}${header}\r\n\r\n`);
    return length === undefined ? undefined : length - plain - header.length - 2;
  };
  assert.equal(announcing('Content-Length: 0'), 0);
  assert.equal(announcing('content-length:\t5'), 5);
  assert.equal(announcing('Content-Length: 70000'), 70_000);
  for (const header of [
    'Content-Length: 5 ',
    'Content-Length: -1',
    'Content-Length: 1e3',
    'Content-Length:',
    `Content-Length: ${'9'.repeat(16)}`,
    'Content-Length: 5\r\nContent-Length: 5',
    'Content-Length: 5\r\nTransfer-Encoding: chunked',
    'Transfer-Encoding: chunked\r\nContent-Length: 5',
    'Transfer-Encoding: chunked',
    'Upgrade: websocket',
    'Upgrade: websocket\r\nContent-Length: 5',
  ]) {
    assert.equal(announcing(header), undefined, header);
  }
  assert.equal(entire(START), undefined);
});

test('an id is known to be none that the client sent only where it stands before Host', () => {
  const own = (head: string) => {
    const parsed = parse(head);
    assert.ok(parsed !== 'not-http');
    return parsed.idBeforeHost;
  };
  assert.equal(own('GET / HTTP/1.1\r\nX-Request-ID: 1\r\nHost: h\r\n\r\n'), true);
  assert.equal(own('GET / HTTP/1.1\r\nHost: h\r\nX-Request-ID: 1\r\n\r\n'), false);
  assert.equal(own('GET / HTTP/1.1\r\nhost:h\r\nX-Request-ID: 1\r\nHost: h\r\n\r\n'), false);
});

test('the name of the header matches in any case, whole names only', () => {
  assert.deepEqual(idOf(`${START}x-REQUEST-id:\t 7 \r\n\r\n`), ['7', false]);
  assert.deepEqual(idOf(`${START}X-Request-ID2: 7\r\nY-X-Request-ID: 8\r\n\r\n`), [undefined, false]);
});

test('no id in a whole head is a fact, in a cut one it is not', () => {
  assert.deepEqual(idOf(`${START}\r\n`), [undefined, false]);
  assert.deepEqual(idOf(START), [undefined, true]);
  assert.deepEqual(idOf(`${START}X-Request-ID: 123`), [undefined, true]);
  assert.deepEqual(idOf(`${START}X-Request-ID: 123\r\nAcc`), ['123', true]);
});

test('an id that is not one value of printable characters is left out, and proves nothing', () => {
  assert.deepEqual(idOf(`${START}X-Request-ID: 1\r\nX-Request-ID: 2\r\n\r\n`), [undefined, true]);
  assert.deepEqual(idOf(`${START}X-Request-ID: 1\r\nx-request-id: 1\r\n\r\n`), [undefined, true]);
  assert.deepEqual(idOf(`${START}X-Request-ID: 1\r\n 2\r\n\r\n`), [undefined, true]);
  assert.deepEqual(idOf(`${START}X-Request-ID: 1\r\n\t2`), [undefined, true]);
  assert.deepEqual(idOf(`${START}X-Request-ID: 1\r\n`), [undefined, true]);
  assert.deepEqual(idOf(`${START}X-Request-ID: a\0b\r\n\r\n`), [undefined, true]);
  assert.deepEqual(idOf(`${START}X-Request-ID: \xe9\r\n\r\n`), [undefined, true]);
  assert.deepEqual(idOf(`${START}X-Request-ID: ${'x'.repeat(257)}\r\n\r\n`), [undefined, true]);
  assert.deepEqual(idOf(`${START}X-Request-ID: ${'x'.repeat(256)}\r\n\r\n`), ['x'.repeat(256), false]);
});

test('lines that end with a bare line feed are lines', () => {
  assert.deepEqual(idOf('GET / HTTP/1.1\nX-Request-ID: 5\n\n'), ['5', false]);
});

test('a target is taken byte for byte, also with spaces and high bytes', () => {
  const parsed = parse('GET /caf\xc3\xa9 x HTTP/1.1\r\n\r\n');
  assert.ok(parsed !== 'not-http');
  assert.equal(parsed.path, '/caf\xc3\xa9 x');
});

test('a cut target ends where it may have ended', () => {
  const parsed = parse('GET /abc HTT');
  assert.deepEqual(parsed, {
    method: 'GET',
    path: '/abc',
    id: undefined,
    idBeforeHost: false,
    cut: true,
    requestBytes: undefined,
    upgrade: false,
    chunked: false,
  });
});

test('a body in chunks is told, as no header tells where it ends', () => {
  const chunked = (header: string) => {
    const parsed = parse(`${START}${header}\r\n\r\n`);
    assert.ok(parsed !== 'not-http');
    return parsed.chunked;
  };
  assert.equal(chunked('Transfer-Encoding: chunked'), true);
  assert.equal(chunked('Content-Length: 5'), false);
});

test('any method that nginx would send is taken', () => {
  for (const method of ['A', 'M-SEARCH', 'PROPFIND', '_X-', 'VERSION-CONTROL']) {
    const parsed = parse(`${method} / HTTP/1.1\r\n\r\n`);
    assert.ok(parsed !== 'not-http' && parsed.method === method);
  }
});

test('what is no HTTP/1 request is told apart', () => {
  for (const bytes of [
    '',
    'get / HTTP/1.1\r\n\r\n',
    'GET\r\n',
    'GET / HTTP/1.x\r\n\r\n',
    'GET  HTTP/1.1\r\n\r\n',
    'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    'EVERY WORD IN CAPITALS\r\n',
    '\x16\x03\x01',
  ]) {
    assert.equal(parse(bytes), 'not-http', JSON.stringify(bytes));
  }
});

test('any bytes give a head or not-http, and an id only if its line is there once', () => {
  const piece = fc.constantFrom(
    'GET ',
    '/p',
    ' HTTP/1.1',
    '\r\n',
    '\n',
    'X-Request-ID:',
    'x-request-id: k',
    ' ',
    'v',
    '\0',
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 20 }), (pieces) => {
      const text = pieces.join('');
      const parsed = parse(text);
      if (parsed === 'not-http' || parsed.id === undefined) return;
      const lines = text.split('\n').filter((line) => line.toLowerCase().startsWith('x-request-id:'));
      const whole = text.split('\n\n')[0]!.split('\n\r\n')[0]!;
      assert.ok(lines.length >= 1);
      assert.equal(
        whole.split('\n').filter((line) => line.toLowerCase().startsWith('x-request-id:')).length,
        1,
      );
    }),
    { numRuns: 20000 },
  );
});

test('work grows with the length, not faster', () => {
  // Counted in reads of bytes, so that the machine's speed does not matter.
  const reads = (length: number) => {
    const head = `GET / HTTP/1.1\r\n${'X-Request-ID: 1\r\n '.repeat(length / 17)}`;
    let count = 0;
    const bytes = new Proxy(Buffer.from(head), {
      get(target, key) {
        if (typeof key === 'string' && /^\d+$/.test(key)) count++;
        const value = Reflect.get(target, key);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    parseRequestHead(bytes as Buffer, 0, head.length, ID);
    return count;
  };
  assert.ok(reads(17_000) < 12 * reads(1_700));
});

test('of a traceparent the id is the trace id; a value of another form stays as it is', () => {
  const header = headerName('Traceparent');
  const id = (value: string) => {
    const bytes = Buffer.from(`${START}traceparent: ${value}\r\n\r\n`, 'latin1');
    const head = parseRequestHead(bytes, 0, bytes.length, header);
    assert.ok(head !== 'not-http');
    return head.id;
  };
  const trace = '4bf92f3577b34da6a3ce929d0e0e4736';
  assert.equal(id(`00-${trace}-00f067aa0ba902b7-01`), trace);
  assert.equal(id(`cc-${trace}-00f067aa0ba902b7-01-later`), trace);
  for (const odd of [trace, `00-${trace.slice(1)}-00f067aa0ba902b7-01`, `00-${trace}-00f067aa0ba902b7`]) {
    assert.equal(id(odd), odd);
  }
  const plain = parse(`GET / HTTP/1.1\r\nX-Request-ID: 00-${trace}-00f067aa0ba902b7-01\r\n\r\n`);
  assert.ok(plain !== 'not-http');
  assert.equal(plain.id, `00-${trace}-00f067aa0ba902b7-01`);
});
