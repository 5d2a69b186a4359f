/** What of a request is compared with its line: the wire and the log give equal hashes, or none. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { contentOf, headerName, parseRequestHead } from '../../src/capture/tap/request-head.ts';
import { comparedBy } from '../../src/format-reach.ts';
import { placeOf } from '../../src/join/index/content.ts';
import { headerHash, NO_VALUE, targetHash } from '../../src/parse/content.ts';
import { compileLogFormat, DEFAULT_LOG_FORMAT } from '../../src/parse/log-format.ts';

/** As nginx sends a request to the pod. */
function wire(target: string, headers: string, end = '\r\n') {
  const bytes = Buffer.from(`GET ${target} HTTP/1.1\r\nHost: h\r\n${headers}${end}`, 'latin1');
  const head = parseRequestHead(bytes, 0, bytes.length, headerName('X-Request-ID'));
  assert.ok(head !== 'not-http', target);
  return contentOf(bytes, 0, bytes.length, head);
}

/** As nginx writes a value (ngx_http_log_escape). */
function escaped(text: string): string {
  return text.replace(
    /[^\x20-\x21\x23-\x5b\x5d-\x7e]/g,
    (c) => `\\x${c.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`,
  );
}

const format = compileLogFormat(DEFAULT_LOG_FORMAT);

function line(request: string, referer = '-', agent = '-', upstreams = '10.0.0.1:80') {
  const text = `10.244.0.1 - - [04/Dec/2025:07:27:17 +0000] "${request}" 200 ${upstreams} 40 "${referer}" "${agent}" "-"`;
  const bytes = Buffer.from(text, 'latin1');
  const parsed = format.parse(bytes, 0, bytes.length);
  assert.ok(typeof parsed !== 'string', text);
  return parsed.content;
}

test('the request on the wire and its line have one content', () => {
  const seen = wire('/a%20b?c=d', 'User-Agent: curl/7.81.0\r\nReferer: http://x/\r\n');
  const logged = line('GET /a%20b?c=d HTTP/1.1', 'http://x/', 'curl/7.81.0');
  assert.deepEqual(logged, { target: seen![0], userAgent: seen![1], referer: seen![2] });
  assert.notEqual(seen![1], seen![2]);
});

test('whatever nginx accepts as target and header is equal on both sides, or not compared', () => {
  const text = fc.string({ unit: fc.integer({ min: 0, max: 255 }).map((n) => String.fromCharCode(n)) });
  const property = fc.property(text, text, text, (path, agent, referer) => {
    const target = `/${path.replace(/[\0\r\n ]/g, '')}`;
    const clean = (value: string): string => value.replace(/[\0\r\n]/g, '');
    const headers = `User-Agent: ${clean(agent)}\r\nReferer: ${clean(referer)}\r\n`;
    const seen = wire(target, headers);
    const logged = line(`GET ${escaped(target)} HTTP/2.0`, escaped(clean(referer)), escaped(clean(agent)));
    assert.equal(logged?.target, seen?.[0]);
    if (seen?.length === 3) assert.deepEqual([logged?.userAgent, logged?.referer], [seen[1], seen[2]]);
    else if (seen) assert.ok(logged?.userAgent === undefined || logged.referer === undefined);
  });
  fc.assert(property, { numRuns: 2_000 });
});

test('an absent header, an empty one and a minus are the same, as the log does not tell them apart', () => {
  assert.deepEqual(wire('/', ''), wire('/', 'User-Agent: -\r\nReferer: \r\n'));
  assert.equal(headerHash('-'), NO_VALUE);
  assert.equal(line('GET / HTTP/1.0')?.userAgent, NO_VALUE);
  assert.equal(line('GET / HTTP/1.0', '', '')?.referer, NO_VALUE);
});

test('a target that nginx may send in another form is not compared', () => {
  for (const target of ['http://h/a', '*', '/a#b', '/a b', '/a\tb', '', '/\x7f'])
    assert.equal(targetHash(target), undefined, target);
  assert.equal(line('GET http://h/a HTTP/1.1')?.target, undefined);
  assert.equal(line('GET /a b HTTP/1.1')?.target, undefined);
  assert.equal(line('\\x16\\x03\\x01')?.target, undefined);
});

test('headers are compared only where the whole head was copied, and has each of them once', () => {
  assert.equal(wire('/a', 'User-Agent: x\r\nCookie: c', '')?.length, 1);
  assert.equal(wire('/a', 'User-Agent: x\r\nUser-Agent: x\r\n')?.length, 1);
  assert.equal(wire('/a', 'Referer: x\r\nReferer: y\r\n')?.length, 1);
  assert.equal(wire('/a', 'User-Agent: x\r\n folded\r\n')?.length, 1);
  assert.equal(wire('/a', 'User-Agent:  two spaces\r\n')?.length, 1);
  assert.equal(wire('/a', 'X-User-Agent: x\r\n')?.length, 3);
  const cut = Buffer.from('GET /long', 'latin1');
  const head = parseRequestHead(cut, 0, cut.length, headerName('X'));
  assert.equal(head !== 'not-http' && contentOf(cut, 0, cut.length, head), undefined);
});

test('behind an internal redirect a line has no content; tries of one request have its own', () => {
  assert.notEqual(line('GET / HTTP/1.1', '-', '-', '10.0.0.1:80, 10.0.0.1:80'), undefined);
  assert.equal(line('GET / HTTP/1.1', '-', '-', '10.0.0.1:80 : 10.0.0.1:80'), undefined);
  assert.equal(line('GET / HTTP/1.1', '-', '-', '10.0.0.1:80, 10.0.0.1:80 : 10.0.0.1:80'), undefined);
});

test('without escapes nothing is compared', () => {
  const bare = compileLogFormat('escape=none $upstream_addr "$request"');
  const bytes = Buffer.from('10.0.0.1:80 "GET /a HTTP/1.1"');
  const parsed = bare.parse(bytes, 0, bytes.length);
  assert.equal(typeof parsed !== 'string' && parsed.content, undefined);
  const all = () => ({ target: true, userAgent: true, referer: true });
  assert.equal(comparedBy(bare, all), undefined);
});

test('compared is what the format has and nginx passes on to that address', () => {
  const passed = (address: string) => ({
    target: address !== '10.0.0.2:80',
    userAgent: address === '[fd00::1]:80',
    referer: false,
  });
  const compared = comparedBy(format, passed)!;
  assert.deepEqual(compared('fd00::1', 80), { target: true, userAgent: true, referer: false });
  assert.equal(compared('10.0.0.2', 80), undefined);
  const target = comparedBy(compileLogFormat('$upstream_addr $request_uri'), passed)!;
  assert.deepEqual(target('fd00::1', 80), { target: true, userAgent: false, referer: false });
  assert.equal(comparedBy(format, undefined), undefined);
  assert.equal(comparedBy(compileLogFormat('$upstream_addr'), passed), undefined);
});

test('a place ends where the content is not known', () => {
  const all = { target: true, userAgent: true, referer: true };
  const content = { target: 1, userAgent: 2, referer: 3 };
  assert.equal(placeOf(content, all).length, 2);
  assert.deepEqual(placeOf({ ...content, referer: undefined }, all), [1]);
  assert.deepEqual(placeOf({ ...content, target: undefined }, all), []);
  assert.deepEqual(placeOf(content, undefined), []);
  assert.deepEqual(placeOf(undefined, all), []);
  const headers = { target: false, userAgent: true, referer: false };
  assert.deepEqual(
    placeOf({ ...content, target: undefined, referer: undefined }, headers),
    placeOf(content, headers),
  );
  assert.notDeepEqual(placeOf(content, all), placeOf({ ...content, userAgent: 3, referer: 2 }, all));
});
