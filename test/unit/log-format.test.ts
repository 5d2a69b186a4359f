import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { ParsedLine } from '../../src/model/line.ts';
import { compileLogFormat, DEFAULT_LOG_FORMAT, type LogFormat } from '../../src/parse/log-format.ts';
import { CAPTURED_LINES, type CapturedLine } from '../fixtures/access-lines/cases.ts';
import { FORMATS, type FormatName, type Truth } from '../fixtures/access-lines/formats.ts';

const formats = Object.fromEntries(
  Object.entries(FORMATS).map(([name, text]) => [name, compileLogFormat(text)]),
) as Record<FormatName, LogFormat>;

function parse(format: LogFormat, line: string | Buffer) {
  const bytes = Buffer.isBuffer(line) ? line : Buffer.from(line, 'latin1');
  return format.parse(bytes, 0, bytes.length);
}

function parsed(format: LogFormat, line: string | Buffer): ParsedLine {
  const result = parse(format, line);
  assert.ok(typeof result !== 'string', `not parsed: ${result}`);
  return result;
}

/** Captured lines that are left alone in each format, as another reading of them fits it too. */
const LEFT_ALONE: Partial<Record<FormatName, RegExp>> = {
  // $uri can break lines.
  'uri-none': /./,
  bare: /^hostile: (agent that looks|agent with|host)/,
  'bare-last': /^redirect (to|after|twice|by)|^X-Accel|^hostile: agent that goes on/,
  bars: /^hostile: target with an address/,
};

describe('lines that nginx wrote', () => {
  for (const name of Object.keys(FORMATS) as FormatName[]) {
    it(`in the format "${name}" say what its variables held, or are left alone`, () => {
      const lines = CAPTURED_LINES.filter(({ format }) => format === name);
      assert.ok(lines.length > 50);
      for (const line of lines) {
        if (!line.truth) continue;
        const result = parse(formats[name], line.bytes);
        assert.equal(typeof result === 'string', LEFT_ALONE[name]?.test(line.name) ?? false, line.name);
        if (typeof result !== 'string') compare(result, line, line.truth);
      }
    });
  }

  it('broken into pieces by a user name: only the piece that nginx ended is read', () => {
    const pieces = CAPTURED_LINES.filter(({ format, truth }) => format === 'article-none' && !truth);
    assert.equal(pieces.length, 2);
    assert.equal(parse(formats['article-none'], pieces[0]!.bytes), 'format');
    assert.equal(parsed(formats['article-none'], pieces[1]!.bytes).path, '/ok');
  });
});

/** The truth was logged beside the line, and read by JSON.parse. Both are one character a byte. */
function compare(result: ParsedLine, { name, format, bytes }: CapturedLine, truth: Truth): void {
  const text = FORMATS[format];
  const has = (variable: string) => new RegExp(`\\$${variable}\\b`).test(text);
  const where = `${format}: ${name}`;
  const list = (variable: keyof Truth) => truth[variable].split(/, | : /);
  const addresses = result.attempts.map(({ start, end }) => bytes.toString('latin1', start, end));
  assert.deepEqual(addresses.join() === '-' ? [''] : addresses, list('upstream_addr'), where);
  const column = (variable: keyof Truth, scale: number) =>
    list(variable).map((entry) => {
      if (!has(variable)) return undefined;
      return entry === '-' || entry === '' ? null : Math.round(Number(entry) * scale);
    });
  assert.deepEqual(
    result.attempts.map((a) => a.connectMs),
    column('upstream_connect_time', 1000),
    where,
  );
  assert.deepEqual(
    result.attempts.map((a) => a.headerMs),
    column('upstream_header_time', 1000),
    where,
  );
  const took = result.attempts.map((a) => a.responseMs);
  // In "bare", text that may go on with ` : ` follows: then the addresses alone are certain.
  if (format !== 'bare' || took.some((ms) => ms !== undefined) || !truth.upstream_addr.includes(' : ')) {
    assert.deepEqual(took, column('upstream_response_time', 1000), where);
  }
  assert.deepEqual(
    result.attempts.map((a) => a.status),
    column('upstream_status', 1),
    where,
  );
  assert.deepEqual(
    result.attempts.map((a) => a.bytesSent),
    column('upstream_bytes_sent', 1),
    where,
  );
  assert.deepEqual(
    result.attempts.map((a) => a.bytesReceived),
    column('upstream_bytes_received', 1),
    where,
  );
  if (has('status')) assert.equal(result.status, Number(truth.status), where);
  if (has('request_time'))
    assert.equal(result.requestMs, Math.round(Number(truth.request_time) * 1000), where);
  if (has('request_id')) assert.equal(result.id, truth.request_id, where);
  if (has('msec')) assert.equal(result.endMs, Math.round(Number(truth.msec) * 1000), where);
  if (result.endMs !== undefined) {
    const late = Number(truth.msec) * 1000 - result.endMs;
    assert.ok(late > -0.5 && late < result.endStepMs, `${where}: ${late} ms`);
  } else assert.ok(!/\$(msec|time_local|time_iso8601)\b/.test(text));
  if (has('request') && truth.request_method !== '') assert.equal(result.method, truth.request_method, where);
  if (has('request') && /^\S+ \//.test(truth.request) && truth.request_method !== '') {
    assert.equal(result.path, truth.request_uri, where);
  }
  if (!has('request') && result.path !== undefined) assert.equal(result.path, truth.request_uri, where);
}

describe('upstream lists', () => {
  const full = compileLogFormat('"$upstream_addr" "$upstream_response_time" "$upstream_status" "$port"', {
    localPortField: '$port',
  });

  it('names each kind of peer', () => {
    const line = parsed(full, '"10.0.0.1:80, [2001:DB8:0:0::1]:443 : unix:/run/a.sock, shop : -" "" "" ""');
    assert.deepEqual(
      line.attempts.map(({ kind, ip, port }) => [kind, ip, port]),
      [
        ['ip', '10.0.0.1', 80],
        ['ip', '2001:db8::1', 443],
        ['unix', '', 0],
        ['name', '', 0],
        ['none', '', 0],
      ],
    );
  });

  it('of datagrams have no address that connections could tell of', () => {
    const stream = compileLogFormat('$remote_addr "$protocol" "$upstream_addr" $status');
    const kinds = (protocol: string) =>
      parsed(stream, `10.0.0.9 "${protocol}" "10.96.0.10:53, unix:/a" 200`).attempts.map((a) => [
        a.kind,
        a.ip,
      ]);
    assert.deepEqual(kinds('UDP'), [
      ['udp', ''],
      ['unix', ''],
    ]);
    assert.deepEqual(kinds('TCP')[0], ['ip', '10.96.0.10']);
  });

  it('end at a colon that separates nothing', () => {
    const format = compileLogFormat('$upstream_addr $http_a');
    assert.equal(parsed(format, '10.0.0.1:80 :x').attempts.length, 1);
    assert.equal(parsed(format, '10.0.0.1:80 :').attempts.length, 1);
    assert.equal(parsed(format, '10.0.0.1:80 : x').attempts.length, 1);
    assert.equal(parse(format, '10.0.0.1:80 : 10.0.0.2:80 x'), 'format');
  });

  it('out of step keep the addresses and nothing else', () => {
    for (const [times, statuses] of [
      ['0.001', '502, 200'],
      ['0.001, 0.002', '200'],
      ['0.001 : 0.002', '502, 200'],
      ['0.001, 0.002, 0.003', '502, 200'],
    ]) {
      const line = parsed(full, `"10.0.0.1:80, 10.0.0.2:80" "${times}" "${statuses}" "1, 2"`);
      assert.deepEqual(
        line.attempts.map(({ ip, responseMs, status, localPort }) => [ip, responseMs, status, localPort]),
        [
          ['10.0.0.1', undefined, undefined, 1],
          ['10.0.0.2', undefined, undefined, 2],
        ],
      );
    }
  });

  it('with a local port that is none, or one for several attempts, leave out the port alone', () => {
    const ports = (text: string) =>
      parsed(full, `"10.0.0.1:80, 10.0.0.2:80" "0.001, 0.002" "502, 200" "${text}"`).attempts.map((a) => [
        a.responseMs,
        a.localPort,
      ]);
    assert.deepEqual(ports('33454, -'), [
      [1, 33454],
      [2, null],
    ]);
    assert.deepEqual(ports('33454'), [
      [1, undefined],
      [2, undefined],
    ]);
    assert.deepEqual(ports('70000, x'), [
      [1, undefined],
      [2, undefined],
    ]);
  });

  it('of more entries than any nginx writes are left alone', () => {
    assert.equal(parse(full, `"${'10.0.0.1:80, '.repeat(300)}-" "" "" ""`), 'format');
  });
});

describe('the text of a log format', () => {
  const line =
    '10.244.0.1 - - [04/Dec/2025:07:27:17 +0000] "GET /test HTTP/1.1" 200 10.105.148.194:10000 40 "-" "curl/7.81.0" "-"';

  it('is understood in each form that operators paste', () => {
    const directive = `log_format main escape=default
      # a comment; with a semicolon
      '$remote_addr - $remote_user [$time_local] '
      "\\"$request\\" \${status} $upstream_addr "   '$body_bytes_sent "$http_referer" '
      '"$http_user_agent" "$http_x_forwarded_for"';`;
    const pieces = directive.slice(directive.indexOf("'$remote"));
    const quoted = `"${DEFAULT_LOG_FORMAT.replaceAll('"', '\\"')}"`;
    for (const text of [
      DEFAULT_LOG_FORMAT,
      `  ${DEFAULT_LOG_FORMAT}\n`,
      `escape=default ${DEFAULT_LOG_FORMAT}`,
      `'${DEFAULT_LOG_FORMAT}'`,
      `'${DEFAULT_LOG_FORMAT}';`,
      directive,
      pieces,
      quoted,
      DEFAULT_LOG_FORMAT.replaceAll(/\$(\w+)/g, (_, name) => `\${${name}}`).replaceAll('status', 'STATUS'),
    ]) {
      const [attempt] = parsed(compileLogFormat(text), line).attempts;
      assert.equal(line.slice(attempt!.start, attempt!.end), '10.105.148.194:10000', text);
    }
  });

  const bad: [string, string, RegExp][] = [
    ['is empty', '  ', /is empty; paste/],
    ['has no $upstream_addr', 'combined', /no \$upstream_addr.*add it/],
    ['has an unknown escaping', 'escape=html $upstream_addr', /unknown escape=html/],
    [
      'has an unknown escaping in the directive',
      "log_format a escape=x '$upstream_addr';",
      /unknown escape=x/,
    ],
    [
      'has nothing between two values',
      '$status$upstream_addr',
      /nothing between \$status and \$upstream_addr/,
    ],
    ['has an open quote', "'$upstream_addr", /opening ' without its closing one/],
    ['has text after a quote', "'$upstream_addr'x", /right after a closing '/],
    ['has a lone dollar sign', '$upstream_addr $ x', /“\$ x”.* is no variable/],
    ['is two directives', "log_format a '$upstream_addr'; log_format b 'x';", /goes on after its “;”/],
    ['is a directive without text', 'log_format a;', /log_format has no text/],
    ['has a line break', '$upstream_addr\n$status', /line break/],
    ['has backslashes in JSON', 'escape=json \\"$upstream_addr\\\\ \'', /./],
  ];
  for (const [what, text, message] of bad) {
    it(`that ${what} is refused in one line`, () => {
      assert.throws(
        () => compileLogFormat(text),
        (error: Error) => {
          assert.equal(error.name, 'LogFormatError');
          assert.match(error.message, message);
          assert.doesNotMatch(error.message, /\n/);
          return true;
        },
      );
    });
  }

  it('that lacks the local port field is refused', () => {
    assert.throws(() => compileLogFormat('$upstream_addr', { localPortField: 'lport' }), /no \$lport/);
  });

  it('with escape=none and a value that can break lines is refused line by line, with a warning', () => {
    for (const text of [
      '$upstream_addr "$uri"',
      '$upstream_addr "$my_variable"',
      '$upstream_addr $remote_user',
      '$request_id $remote_user $upstream_addr',
    ]) {
      const format = compileLogFormat(`escape=none ${text}`);
      assert.equal(format.forgeable, true, text);
      assert.match(format.warnings.join(), /no line of this log is resolved/);
      assert.equal(parse(format, '10.0.0.1:80 "/"'), 'format');
      assert.equal(compileLogFormat(text).forgeable, false);
    }
    assert.equal(formats['article-none'].forgeable, false);
    assert.equal(formats['article-none'].warnings.length, 1);
    assert.deepEqual(formats.article.warnings, []);
  });
});

describe('single values', () => {
  it('times of any zone are instants', () => {
    const local = compileLogFormat('$time_local $upstream_addr');
    const iso = compileLogFormat('$time_iso8601 $upstream_addr');
    for (const [zone, colon, offset] of [
      ['+0000', '+00:00', 0],
      ['+0530', '+05:30', 330],
      ['-0930', '-09:30', -570],
    ] as const) {
      const expected = Date.UTC(2024, 1, 29, 23, 59, 58) - offset * 60_000;
      assert.equal(parsed(local, `29/Feb/2024:23:59:58 ${zone} -`).endMs, expected);
      assert.equal(parsed(iso, `2024-02-29T23:59:58${colon} -`).endMs, expected);
    }
    assert.equal(parse(local, '29/Fev/2024:23:59:58 +0000 -') === 'format', false);
    assert.equal(parsed(local, '29/Fev/2024:23:59:58 +0000 -').endMs, undefined);
    assert.equal(parse(local, '2024-02-29T23:59:58+00:00 -'), 'format');
  });

  it('of several times the finest counts', () => {
    const format = compileLogFormat('$time_local $upstream_addr $msec $time_iso8601');
    const line = parsed(format, '04/Dec/2025:07:27:17 +0000 - 1764833237.123 2025-12-04T07:27:17+00:00');
    assert.deepEqual([line.endMs, line.endStepMs], [1764833237123, 1]);
  });

  it('request lines with spaces, without protocol, or that are none', () => {
    const format = compileLogFormat('"$request" $upstream_addr');
    const request = (text: string) => {
      const { method, path } = parsed(format, `"${text}" -`);
      return [method, path];
    };
    assert.deepEqual(request('GET /a b HTTP/1.1'), ['GET', '/a b']);
    assert.deepEqual(request('GET  /a  HTTP/1.1'), ['GET', '/a']);
    assert.deepEqual(request('GOT /a'), ['GOT', '/a']);
    assert.deepEqual(request('M-SEARCH * HTTP/1.1'), ['M-SEARCH', '*']);
    assert.deepEqual(request('GET /a\\x22\\x5Cx22\\xC3\\xA4 HTTP/2.0'), ['GET', '/a"\\x22\xc3\xa4']);
    assert.deepEqual(request('\\x16\\x03\\x01 /a HTTP/1.1'), [undefined, undefined]);
    assert.deepEqual(request('-'), [undefined, undefined]);
    assert.deepEqual(request(''), [undefined, undefined]);
  });

  it('ids from another field, unescaped; none where nginx wrote none', () => {
    const format = compileLogFormat('escape=json "$http_x_request_id" $upstream_addr', {
      requestIdField: 'HTTP_X_REQUEST_ID',
    });
    const line = parsed(format, '"a\\u0001\\"\\\\\\n" ');
    assert.deepEqual([line.id, line.idRecurs], ['a\x01"\\\n', true]);
    assert.equal(parsed(compileLogFormat('$request_id $upstream_addr'), 'a -').idRecurs, false);
    assert.equal(parsed(format, '"" ').id, undefined);
    assert.equal(parsed(format, '"-" ').id, undefined);
  });
});

describe('separators', () => {
  const addressOf = (format: LogFormat, line: string) => {
    const bytes = Buffer.from(line);
    const result = format.parse(bytes, 0, bytes.length);
    return typeof result === 'string' ? result : result.attempts.map(({ ip }) => ip).join();
  };

  it('that nginx escapes in values always divide, whatever a client writes', () => {
    const tabs = compileLogFormat('$http_a\tup:$upstream_addr\t$http_b');
    assert.equal(addressOf(tabs, 'x\\x09up:10.9.9.9:80\tup:10.0.0.1:80\tup:10.9.9.9:80'), '10.0.0.1');
  });

  it('that a client can write leave the line alone where it has two readings', () => {
    // With log_escape_non_ascii off, OpenResty and Tengine leave these bytes as they are.
    const arrows = compileLogFormat('$http_a → $upstream_addr → $http_b');
    assert.equal(addressOf(arrows, 'x → 10.0.0.1:80 → y'), '10.0.0.1');
    assert.equal(addressOf(arrows, 'x → 10.9.9.9:80 → 10.0.0.1:80 → y'), 'format');
  });

  it('that could belong to a list divide where one reading is left', () => {
    const lists = compileLogFormat('$upstream_addr, $status');
    assert.equal(addressOf(lists, '10.0.0.1:80, 10.0.0.2:80, 200'), '10.0.0.1,10.0.0.2');
    assert.equal(addressOf(compileLogFormat('$upstream_addr-$status'), '10.0.0.1:80-200'), '10.0.0.1');
    assert.equal(
      addressOf(compileLogFormat('$upstream_addr: $request'), '10.0.0.1:80: GET /: a'),
      '10.0.0.1',
    );
  });

  it('so many that looking at all would take long leave the line alone', () => {
    const bars = compileLogFormat('$http_a, $upstream_addr, $http_b');
    assert.equal(addressOf(bars, `${', '.repeat(20_000)}10.0.0.1:80, x`), 'format');
  });
});

describe('quotes that nginx escaped', () => {
  it('do not end a value, near its beginning or far from it, after any number of backslashes', () => {
    const format = compileLogFormat('escape=json {"a":"$http_a","u":"$upstream_addr"}');
    for (const far of ['', 'x'.repeat(11), 'x'.repeat(12), 'x'.repeat(40)]) {
      for (const value of ['\\"', '\\\\', '\\\\\\"', '\\",\\"u\\":\\"10.9.9.9:80\\"}']) {
        const [attempt, more] = parsed(format, `{"a":"${far}${value}","u":"10.0.0.1:80"}`).attempts;
        assert.deepEqual([attempt?.ip, more], ['10.0.0.1', undefined]);
      }
    }
  });
});

describe('any bytes', () => {
  it('too long, empty, or cut at any place are counted or read, and spans stay inside', () => {
    assert.equal(parse(formats.article, ''), 'empty');
    assert.equal(parse(formats.article, Buffer.alloc(300_000, 0x61)), 'too-long');
    for (const { format, bytes } of CAPTURED_LINES) {
      const step = Math.max(1, Math.floor(bytes.length / 40));
      for (let end = 0; end < bytes.length; end += step) {
        const result = formats[format].parse(bytes, 0, end);
        if (typeof result === 'string') continue;
        for (const attempt of result.attempts) assert.ok(attempt.start >= 0 && attempt.end <= end);
      }
    }
  });

  it('stand anywhere in a block: spans are relative to it', () => {
    for (const { format, bytes } of CAPTURED_LINES) {
      const alone = formats[format].parse(bytes, 0, bytes.length);
      const block = Buffer.concat([Buffer.from('x "\n'), bytes, Buffer.from('\n" 1 : 2')]);
      const within = formats[format].parse(block, 4, 4 + bytes.length);
      if (typeof alone === 'string') {
        assert.equal(within, alone);
        continue;
      }
      assert.ok(typeof within !== 'string');
      const moved = within.attempts.map((a) => ({ ...a, start: a.start - 4, end: a.end - 4 }));
      assert.deepEqual(moved, alone.attempts);
      assert.deepEqual([within.id, within.path, within.method], [alone.id, alone.path, alone.method]);
    }
  });

  it('made to be tried over and over take work in proportion to their length', () => {
    const format = compileLogFormat('escape=none $http_a $upstream_response_time $status x $upstream_addr');
    const work = (entries: number) => {
      let reads = 0;
      const bytes = new Proxy(Buffer.from('1, '.repeat(entries)), {
        get(target, key) {
          reads++;
          return Reflect.get(target, key, target);
        },
      });
      assert.equal(format.parse(bytes, 0, bytes.length), 'format');
      return reads;
    };
    const short = work(2_000);
    assert.ok(work(8_000) < 5 * short);
  });
});
