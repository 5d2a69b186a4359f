import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { test } from 'node:test';
import { gunzipSync, gzipSync } from 'node:zlib';
import { COMMAND } from '../../src/config/commands.ts';
import { UsageError } from '../../src/config/option.ts';
import { readOptions } from '../../src/config/read.ts';
import { runEnrich } from '../../src/enrich/command.ts';
import { enrich, newProgress, OFFLINE_LIMITS } from '../../src/enrich/enrich.ts';
import { decompressed } from '../../src/enrich/gzip.ts';
import { runRecord } from '../../src/enrich/record.ts';
import { FlowIndex } from '../../src/join/index/flow-index.ts';
import { compileLogFormat, DEFAULT_LOG_FORMAT } from '../../src/parse/log-format.ts';
import { createStyle } from '../../src/rewrite/create.ts';
import { demoFeed, demoFormat, demoFormatText, demoLines, demoLog, demoRecords } from './serve-demo.ts';

async function* pieces(bytes: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function run(log: Buffer, feed: Buffer, { format = demoFormat, size = 64 * 1024 } = {}) {
  const progress = newProgress();
  const out: Buffer[] = [];
  const parts = {
    log: decompressed(pieces(log, size)),
    feed: decompressed(pieces(feed, size)),
    format,
    style: createStyle('replace', format),
    index: new FlowIndex(OFFLINE_LIMITS),
    progress,
  };
  // A copy, as a chunk may be a part of a buffer that is used again.
  for await (const chunk of enrich(parts)) out.push(Buffer.from(chunk));
  return { text: Buffer.concat(out).toString('latin1'), progress };
}

const whole = await run(demoLog, demoFeed);

test('every line of the recording gets the pod that its id was seen going to', () => {
  const podOf = new Map<string, string>();
  for (const line of demoFeed.toString().split('\n').filter(Boolean)) {
    const record = JSON.parse(line);
    if (record.kind === 'request') podOf.set(record.id, `${record.ip}:${record.port}`);
  }
  const before = demoLog.toString('latin1').split('\n');
  const after = whole.text.split('\n');
  assert.equal(after.length, before.length);
  before.slice(0, -1).forEach((line, i) => {
    const id = /"([0-9a-f]{32})"/.exec(line)![1]!;
    assert.equal(after[i], line.replace(/10\.105\.148\.\d+:\d+/, podOf.get(id)!));
  });
  assert.deepEqual(
    [whole.progress.lines, whole.progress.resolved, whole.progress.unresolved],
    [demoLines, demoLines, 0],
  );
});

test('chunks of any size, and gzip, give the same bytes', async () => {
  for (const size of [1, 7, 1_000]) assert.equal((await run(demoLog, demoFeed, { size })).text, whole.text);
  const packed = await run(gzipSync(demoLog), gzipSync(demoFeed), { size: 100 });
  assert.equal(packed.text, whole.text);
});

test('with a feed that ends early the lines before are resolved, the others as nginx wrote them', async () => {
  const before = demoLog.toString('latin1').split('\n');
  const complete = whole.text.split('\n');
  for (const cut of [0, 30_000, 60_001, 100_000]) {
    const { text, progress } = await run(demoLog, demoFeed.subarray(0, cut));
    const lines = text.split('\n');
    assert.equal(lines.length, before.length);
    lines.forEach((line, i) => {
      assert.ok(line === before[i] || line === complete[i]);
    });
    assert.equal(progress.resolved + progress.unresolved, demoLines);
    assert.ok(progress.resolved < demoLines);
  }
});

test('a feed that is damaged resolves nothing after the damage, and says so', async () => {
  const damaged = Buffer.concat([
    demoFeed.subarray(0, 60_000),
    Buffer.from('\ngarbage\n'),
    demoFeed.subarray(60_000),
  ]);
  const { progress, text } = await run(demoLog, damaged);
  assert.match(progress.feedError!, /damaged/);
  assert.equal(text.split('\n').length, demoLines + 1);
  assert.ok(progress.resolved > 0 && progress.resolved < demoLines);
});

test('lines that do not fit, are empty, too long or without an end pass byte for byte', async () => {
  const odd = Buffer.concat([
    Buffer.from('\n\nno line of nginx\xff\n', 'latin1'),
    Buffer.alloc(700_000, 'x'),
    Buffer.from('\n'),
    demoLog.subarray(0, 1_000),
  ]);
  for (const size of [1_000, 300_000]) {
    const { text, progress } = await run(odd, Buffer.alloc(0), { size });
    assert.equal(text, odd.toString('latin1'));
    assert.ok(progress.unparsed >= 4);
  }
});

test('lines that do not say when they were written stay as they are', async () => {
  const format = compileLogFormat('$request_id $upstream_addr');
  const log = Buffer.from('65c10c30f49751721266401adab1e5ba 10.105.148.195:80\n');
  const { text, progress } = await run(log, demoFeed, { format });
  assert.equal(text, log.toString());
  assert.equal(progress.unresolved, 1);
});

class Sink extends Writable {
  readonly chunks: Buffer[] = [];
  override _write(chunk: Buffer, _: string, done: () => void): void {
    this.chunks.push(Buffer.from(chunk));
    done();
  }
  get bytes(): Buffer {
    return Buffer.concat(this.chunks);
  }
}

function inFolder(work: (folder: string) => Promise<void>): () => Promise<void> {
  return async () => {
    const folder = mkdtempSync(join(tmpdir(), 'realpod-enrich-'));
    try {
      await work(folder);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  };
}

const options = (feed: string, ...more: string[]) =>
  readOptions(COMMAND.enrich, ['--feed', feed, '--log-format', demoFormatText, ...more], {});

test(
  'the command reads stdin or a file, and compresses when asked to',
  inFolder(async (folder) => {
    const feed = join(folder, 'feed.ndjson.gz');
    writeFileSync(feed, gzipSync(demoFeed));
    const log = join(folder, 'access.log');
    writeFileSync(log, demoLog);
    const [plain, packed, said] = [new Sink(), new Sink(), new Sink()];
    assert.equal(await runEnrich(options(feed), Readable.from([demoLog]), plain, said), 0);
    assert.equal(await runEnrich(options(feed, '--gzip', log), Readable.from([]), packed, said), 0);
    assert.equal(plain.bytes.toString('latin1'), whole.text);
    assert.deepEqual(gunzipSync(packed.bytes), plain.bytes);
    const [counts, reach, ...rest] = said.bytes.toString().trimEnd().split('\n');
    assert.match(counts!, /^realpod: 400 lines; (\d+) of \d+ upstream addresses named \(\1 request-id\)/);
    assert.match(reach!, /^realpod: the feed was read from 20\S+Z to 20\S+Z, the log from 20\S+Z to 20\S+Z$/);
    // The two runs say the same.
    assert.deepEqual(rest, [counts, reach]);
  }),
);

test(
  'what cannot be read is said in one line; what was read before it is written',
  inFolder(async (folder) => {
    const feed = join(folder, 'feed.ndjson');
    writeFileSync(feed, demoFeed);
    await assert.rejects(
      runEnrich(options(join(folder, 'none')), Readable.from([]), new Sink(), new Sink()),
      UsageError,
    );
    const [out, said] = [new Sink(), new Sink()];
    const half = gzipSync(demoLog).subarray(0, 8_000);
    assert.equal(await runEnrich(options(feed), Readable.from([half]), out, said), 1);
    assert.ok(whole.text.startsWith(out.bytes.toString('latin1').split('\n').slice(0, -1).join('\n')));
    assert.match(said.bytes.toString(), /^realpod: [^\n]*gzip[^\n]*\n$/);
    const other = new Sink();
    const old = Buffer.from(
      '10.0.0.1 - - [04/Dec/2015:07:27:17 +0000] "GET /test HTTP/1.1" 200 10.105.148.194:10000 40 "-" "curl/7.81.0" "-"\n',
    );
    const format = ['--log-format', DEFAULT_LOG_FORMAT];
    assert.equal(await runEnrich(options(feed, ...format), Readable.from([old]), new Sink(), other), 1);
    assert.match(
      other.bytes.toString(),
      /^realpod: 1 lines; 0 of 1 upstream addresses named; left as they are: 1 /,
    );
    assert.match(
      other.bytes.toString(),
      /the log from 2015-12-04T07:27:17\.000Z to 2015-12-04T07:27:17\.000Z\n.*nothing was named: the log is of another time than the feed; run realpod record/,
    );
  }),
);

test(
  'a format without a time is what is said to be wrong, not the log',
  inFolder(async (folder) => {
    const feed = join(folder, 'feed.ndjson');
    writeFileSync(feed, demoFeed);
    const log = Buffer.from('10.105.148.194:10000 2026-01-01T00:00:00.123+00:00\n'.repeat(3));
    const said = new Sink();
    const code = await runEnrich(
      options(feed, '--log-format', '$upstream_addr $time_iso8601_ms'),
      Readable.from([log]),
      new Sink(),
      said,
    );
    assert.equal(code, 1);
    assert.match(said.bytes.toString(), /nothing was named: the log format has no time/);
    assert.doesNotMatch(said.bytes.toString(), /of another time/);
  }),
);

test(
  'lines that do not fit the format are counted, with the first as an example',
  inFolder(async (folder) => {
    const feed = join(folder, 'feed.ndjson');
    writeFileSync(feed, demoFeed);
    const said = new Sink();
    const log = Buffer.from('first\x1b[31m\nsecond\n');
    assert.equal(await runEnrich(options(feed), Readable.from([log]), new Sink(), said), 1);
    assert.match(said.bytes.toString(), /2 of 2 lines do not fit --log-format, such as: first\\x1b\[31m\n/);
    assert.match(said.bytes.toString(), /give the log_format that nginx wrote these lines by: --log-format/);
    // No line has asked for the feed, and its reach is read all the same.
    const [, from, to] = /the feed reaches from (\S+) to (\S+)\n/.exec(said.bytes.toString())!;
    assert.ok(from! < to!, `${from} ${to}`);
  }),
);

test(
  'where less than half is named, the reason that holds for most is followed by what helps',
  inFolder(async (folder) => {
    const feed = join(folder, 'feed.ndjson');
    writeFileSync(feed, demoFeed);
    const format = demoFormatText.replace('"$request_id"', '"$other"').replaceAll('upstream_status', 'x');
    assert.notEqual(format, demoFormatText);
    const said = new Sink();
    await runEnrich(options(feed, '--log-format', format), Readable.from([demoLog]), new Sink(), said);
    assert.match(
      said.bytes.toString(),
      /(nothing|less than half) was named: ambiguous: [^\n]*add \$upstream_status \$request_id to log_format/,
    );
  }),
);

test(
  'what record keeps, compressed or not, enriches the log as the feed itself does',
  inFolder(async (folder) => {
    const server = createServer((request, response) => {
      if (!request.url!.startsWith('/v1/feed')) return response.end('{"t":0}');
      response.writeHead(200, { 'content-type': 'application/x-ndjson' });
      return response.write(demoFeed);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    try {
      const helper = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
      for (const name of ['feed.ndjson', 'feed.ndjson.gz']) {
        const output = join(folder, name);
        const argv = ['--helper', helper, '--source-address', '10.244.0.70', '--output', output];
        const parts = readOptions(COMMAND.record, argv, {});
        let stop: () => void = () => {};
        const stopped = new Promise<void>((resolve) => {
          stop = resolve;
        });
        const said: string[] = [];
        const recording = runRecord(
          parts,
          stopped,
          (_, text) => said.push(text),
          (records) => {
            if (records === demoRecords.length) stop();
          },
        );
        assert.equal(await recording, 0);
        assert.ok(said.at(-1)!.startsWith(`${demoRecords.length} records in `));
        assert.equal((await run(demoLog, readFileSync(output))).text, whole.text);
        await assert.rejects(
          runRecord(parts, stopped, () => {}),
          UsageError,
        );
      }
    } finally {
      server.closeAllConnections();
      server.close();
    }
  }),
);
