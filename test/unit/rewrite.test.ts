import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { Client } from '../../src/model/client.ts';
import type { Outcome, PodName } from '../../src/model/outcome.ts';
import { compileLogFormat, type LogFormat } from '../../src/parse/log-format.ts';
import type { ClientMode } from '../../src/rewrite/client.ts';
import { createStyle, type StyleName } from '../../src/rewrite/create.ts';
import type { LogLine } from '../../src/rewrite/style.ts';
import { CAPTURED_LINES } from '../fixtures/access-lines/cases.ts';
import { FORMATS, type FormatName } from '../fixtures/access-lines/formats.ts';

const PODS: Readonly<Record<string, PodName>> = {
  '10.244.0.64': { pod: 'cart-0', namespace: 'shop', node: 'n1', service: 'cart' },
  '10.244.0.65': { pod: 'cart-1', namespace: 'shop', node: '', service: '' },
};

function linesOf(block: Buffer, format: LogFormat): LogLine[] {
  const lines: LogLine[] = [];
  for (let start = 0; start < block.length; ) {
    const newline = block.indexOf(10, start);
    const end = newline < 0 ? block.length : newline;
    lines.push({ start, end, parsed: format.parse(block, start, end) });
    start = end + 1;
  }
  return lines;
}

function render(
  style: StyleName,
  format: LogFormat,
  text: string | Buffer,
  outcomeOf: (line: number, attempt: number) => Outcome,
): string {
  const block = Buffer.from(text);
  const lines = linesOf(block, format);
  const outcomes = lines.map(({ parsed }, i) =>
    typeof parsed === 'string' ? undefined : parsed.attempts.map((_, k) => outcomeOf(i, k)),
  );
  const chunks = createStyle(style, format).render(block, lines, outcomes);
  return Buffer.concat(chunks).toString('latin1');
}

const format = compileLogFormat('$status "$upstream_addr" "$http_user_agent"');
const found = (ip: string, port = 8080): Outcome => {
  const outcome: Outcome = { evidence: 'request-id', ip, port };
  const name = PODS[ip];
  return name ? { ...outcome, name } : outcome;
};
const left = (reason: 'ambiguous' | 'no-flow' = 'ambiguous'): Outcome => ({ reason });

const TEXT = [
  '200 "10.105.148.194:10000" "a 10.105.148.194:10000"',
  '200 "10.105.148.194:10000, [fd00::1]:80 : 10.105.148.194:10000" "b"',
  'not a line of this format 10.105.148.194:10000',
  '',
  '200 "-" "c"',
  '',
].join('\n');

describe('style replace', () => {
  it('changes the resolved addresses and not one byte more', () => {
    const pick = (line: number, attempt: number) =>
      line === 0 ? found('10.244.0.64') : attempt === 1 ? found('fd00::1:2', 9) : left();
    assert.equal(
      render('replace', format, TEXT, pick),
      TEXT.replace('"10.105.148.194:10000"', '"10.244.0.64:8080"').replace('[fd00::1]:80', '[fd00::1:2]:9'),
    );
  });

  it('with nothing resolved gives the block itself, without a copy', () => {
    const block = Buffer.from(TEXT);
    const lines = linesOf(block, format);
    const [chunk] = createStyle('replace', format).render(block, lines, []);
    assert.equal(chunk!.buffer, block.buffer);
    assert.deepEqual(chunk, block);
  });

  it('never touches what is no address, whatever the outcome says', () => {
    for (const peer of ['-', 'shop', 'unix:/run/a.sock', '10.0.0.1', '']) {
      const line = `502 "${peer}" "d"\n`;
      assert.equal(
        render('replace', format, line, () => found('10.244.0.64')),
        line,
      );
    }
  });

  it('leaves every captured line as nginx wrote it, but for the tokens', () => {
    for (const name of Object.keys(FORMATS) as FormatName[]) {
      const compiled = compileLogFormat(FORMATS[name]);
      const texts = CAPTURED_LINES.filter((line) => line.format === name).map(({ bytes }) => bytes);
      const block = Buffer.concat(texts.flatMap((text) => [text, Buffer.from('\n')]));
      const lines = linesOf(block, compiled);
      assert.equal(lines.length, texts.length);
      const expected = lines.map(({ start, end, parsed }) => {
        let line = block.toString('latin1', start, end);
        if (typeof parsed === 'string') return line;
        for (const attempt of [...parsed.attempts].reverse()) {
          if (attempt.kind !== 'ip') continue;
          line = `${line.slice(0, attempt.start - start)}10.244.0.64:8080${line.slice(attempt.end - start)}`;
        }
        return line;
      });
      assert.equal(
        render('replace', compiled, block, () => found('10.244.0.64')),
        `${expected.join('\n')}\n`,
      );
    }
  });

  it('renders any run of the lines of a block, so that the runs make up the block', () => {
    const outcome = fc.constantFrom(found('10.244.0.64'), found('10.244.0.165', 65535), left());
    const line = fc.constantFrom(...TEXT.split('\n'), '200 "10.0.0.1:1, 10.0.0.2:2" "x"');
    fc.assert(
      fc.property(
        fc.array(fc.tuple(line, outcome), { minLength: 1, maxLength: 12 }),
        fc.nat(11),
        fc.boolean(),
        (cases, cut, newline) => {
          const text = cases.map(([text]) => text).join('\n') + (newline ? '\n' : '');
          const block = Buffer.from(text);
          const lines = linesOf(block, format);
          const outcomes = lines.map(({ parsed }, i) =>
            typeof parsed === 'string' ? undefined : parsed.attempts.map(() => cases[i]![1]),
          );
          for (const name of ['replace', 'annotate', 'json'] as const) {
            const style = createStyle(name, format);
            const whole = Buffer.concat(style.render(block, lines, outcomes));
            const parts = [
              ...style.render(block, lines.slice(0, cut), outcomes.slice(0, cut)),
              ...style.render(block, lines.slice(cut), outcomes.slice(cut)),
            ];
            assert.deepEqual(Buffer.concat(parts), whole);
            assert.equal(whole.toString().split('\n').length, text.split('\n').length);
          }
        },
      ),
      { numRuns: 500 },
    );
  });
});

describe('an address that the format has twice', () => {
  const twice = compileLogFormat('$upstream_addr "$http_user_agent" up=$upstream_addr $status');

  it('is replaced in both places, attempt by attempt', () => {
    const line = '10.96.0.1:80, 10.96.0.1:81 "10.96.0.1:80" up=10.96.0.1:80, 10.96.0.1:81 200\n';
    assert.equal(
      render('replace', twice, line, (_, k) => (k === 0 ? left() : found('10.244.0.64'))),
      '10.96.0.1:80, 10.244.0.64:8080 "10.96.0.1:80" up=10.96.0.1:80, 10.244.0.64:8080 200\n',
    );
  });

  it('stays where the two say different things, as nginx never writes', () => {
    const line = '10.96.0.1:80 "a" up=10.96.0.2:80 200\n';
    assert.equal(
      render('replace', twice, line, () => found('10.244.0.64')),
      line,
    );
  });
});

describe('style annotate', () => {
  it('names the pod of a direct address', () => {
    const name = PODS['10.244.0.64']!;
    assert.equal(
      render('annotate', format, '200 "10.244.0.64:80" "a"\n', () => ({ reason: 'direct', name })),
      '200 "10.244.0.64:80" "a" pod=shop/cart-0 evidence=-:direct\n',
    );
  });

  it('says pod and evidence of each attempt at the end of the line', () => {
    const outcomes = [
      [found('10.244.0.64')],
      [left('no-flow'), found('fd00::1:2', 9), found('10.244.0.65')],
      [],
      [],
      [{ reason: 'not-ip' } as const],
    ];
    assert.deepEqual(render('annotate', format, TEXT, (line, k) => outcomes[line]![k]!).split('\n'), [
      '200 "10.244.0.64:8080" "a 10.105.148.194:10000" pod=shop/cart-0 evidence=request-id',
      '200 "10.105.148.194:10000, [fd00::1:2]:9 : 10.244.0.65:8080" "b" pod=-,[fd00::1:2]:9,shop/cart-1 evidence=-:no-flow,request-id,request-id',
      'not a line of this format 10.105.148.194:10000',
      '',
      '200 "-" "c" pod=- evidence=-:not-ip',
      '',
    ]);
  });

  it('writes the address where a name could break the line', () => {
    for (const pod of ['', 'a b', 'a\nb', 'a,b', 'ä']) {
      const style = createStyle('annotate', format);
      const name = { pod, namespace: 'x', node: '', service: '' };
      const block = Buffer.from('200 "10.0.0.1:1" "x"\n');
      const [chunk] = style.render(block, linesOf(block, format), [[{ ...found('10.244.0.64'), name }]]);
      assert.equal(
        chunk!.toString(),
        '200 "10.244.0.64:8080" "x" pod=10.244.0.64:8080 evidence=request-id\n',
      );
    }
  });
});

describe('the real client', () => {
  const line = '10.244.0.1 - "10.105.148.194:10000" 4711 10.244.0.1';
  const text = '$remote_addr - "$upstream_addr" $remote_port $remote_addr';
  const spans = [
    { start: 0, end: 10 },
    { start: 41, end: 51 },
  ];
  const known: Client = { evidence: 'port', address: 'fd00::9', port: 5050, peer: '10.244.0.1', spans };
  const unknown: Client = { reason: 'ambiguous', peer: '10.244.0.1', spans };
  const shown = (style: StyleName, mode: ClientMode, client: Client | undefined, form = text, of = line) => {
    const format = compileLogFormat(form);
    const block = Buffer.from(`${of}\n`);
    const lines = linesOf(block, format);
    const chunks = createStyle(style, format, mode).render(block, lines, [[found('10.244.0.64')]], [client]);
    return Buffer.concat(chunks).toString().trimEnd();
  };
  const resolved = line.replace('10.105.148.194:10000', '10.244.0.64:8080');

  it('stands at the end of an annotated line, or why it is not known', () => {
    const noted = `${resolved} pod=shop/cart-0 evidence=request-id`;
    assert.equal(shown('annotate', 'annotate', known), `${noted} client=fd00::9`);
    assert.equal(shown('annotate', 'annotate', unknown), `${noted} client=-:ambiguous`);
    assert.equal(shown('annotate', 'annotate', undefined), noted);
    assert.equal(shown('annotate', 'off', known), noted);
    assert.equal(shown('replace', 'annotate', known), resolved);
  });

  it('takes the place of each $remote_addr and changes nothing else', () => {
    const replaced = resolved.replaceAll('10.244.0.1 ', 'fd00::9 ').replace(/10\.244\.0\.1$/, 'fd00::9');
    assert.equal(shown('replace', 'replace', known), replaced);
    assert.equal(shown('annotate', 'replace', known), `${replaced} pod=shop/cart-0 evidence=request-id`);
    assert.equal(shown('replace', 'replace', unknown), resolved);
    assert.equal(shown('replace', 'replace', undefined), resolved);
  });

  it('is client.address in JSON, and what nginx saw is the peer', () => {
    const json = (client: Client | undefined, form?: string, of?: string) => {
      const fields = JSON.parse(shown('json', 'annotate', client, form, of)) as Record<string, unknown>;
      return Object.fromEntries(
        Object.entries(fields).filter(([name]) => /client|peer\.(address|port)|remote/.test(name)),
      );
    };
    const peer = { 'network.peer.address': '10.244.0.1', 'network.peer.port': 4711 };
    const fields = { 'client.address': 'fd00::9', 'client.port': 5050, ...peer };
    assert.deepEqual(json(known), fields);
    assert.deepEqual(json({ ...known, port: undefined }), {
      'client.address': 'fd00::9',
      ...peer,
    });
    assert.deepEqual(json(unknown), { ...peer, 'realpod.client.reason': 'ambiguous' });
    assert.deepEqual(json(undefined), { 'client.address': '10.244.0.1', 'client.port': 4711 });
    const realip = json(known, `${text} $realip_remote_addr`, `${line} 10.244.0.1`);
    const { 'network.peer.port': _, ...seen } = fields;
    assert.deepEqual(realip, seen, 'nginx says the peer itself');
  });
});
