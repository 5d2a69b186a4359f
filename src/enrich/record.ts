import { createWriteStream } from 'node:fs';
import { open } from 'node:fs/promises';
import type { Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { ownAddresses } from '../addresses.ts';
import type { RecordOptions } from '../config/commands.ts';
import { nameOf, UsageError } from '../config/option.ts';
import { readFeed } from '../feed/client.ts';
import { encodeRecord } from '../feed/codec.ts';
import type { FeedSource } from '../feed/source.ts';
import type { Log } from '../log.ts';

/** Unwritten text (bytes). Beyond, the recording ends: a recording with an unmarked hole would be worse. */
const MAX_UNWRITTEN = 64 * 1024 * 1024;
/** Interval of requests for a watermark (ms), so that an interrupted recording has one soon before its end. */
const TICK_EVERY_MS = 1_000;

/**
 * `realpod record`: keeps a helper's feed in a file until `stopped` resolves. 0, or 1 when the file could not be written.
 * `onBatch` is called with the number of records kept so far.
 */
export async function runRecord(
  options: RecordOptions,
  stopped: Promise<unknown>,
  log: Log,
  onBatch: (records: number) => void = () => {},
): Promise<number> {
  const { helper, sourceAddress, tokenFile, output } = options;
  const handle = await open(output, 'wx').catch((error: NodeJS.ErrnoException) => {
    throw new UsageError(
      error.code === 'EEXIST'
        ? `${nameOf(options, 'output')}: ${output} exists; give another name or remove it`
        : `${nameOf(options, 'output')}: ${error.message}`,
    );
  });
  const file = createWriteStream('', { fd: handle });
  const gzip = output.endsWith('.gz') ? createGzip() : undefined;
  gzip?.pipe(file);
  const target: Writable = gzip ?? file;
  let records = 0;
  let fail: (why: string) => void = () => {};
  const failed = new Promise<string>((resolve) => {
    fail = resolve;
  });
  file.once('error', (error) => fail(error.message));
  const feed: FeedSource = readFeed({
    url: helper,
    addresses: sourceAddress.length > 0 ? sourceAddress : ownAddresses(),
    tokenFile,
    // For `enrich --evidence inferred`, which may be used later.
    prompt: true,
    clock: Date.now,
    onRecords(batch) {
      let text = '';
      for (const record of batch) text += encodeRecord(record, record.seq);
      records += batch.length;
      target.write(text);
      onBatch(records);
      if (target.writableLength + file.writableLength > MAX_UNWRITTEN) fail('the disk does not keep up');
    },
    onNotice: log,
  });
  const ticking = setInterval(() => feed.requestTick(), TICK_EVERY_MS);
  const why = await Promise.race([failed, stopped.then(() => undefined)]);
  clearInterval(ticking);
  feed.stop();
  if (why === undefined) {
    target.end();
    const error = await finished(file).catch((reason: Error) => reason);
    if (!(error instanceof Error)) {
      log('info', `${records} records in ${output}`);
      return 0;
    }
    log('error', `${output}: ${error.message}; the recording is not whole`);
    return 1;
  }
  log('error', `${output}: ${why}; the recording ends here`);
  target.destroy();
  file.destroy();
  return 1;
}
