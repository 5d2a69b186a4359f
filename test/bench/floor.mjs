/**
 * What `realpod enrich` cannot go below, step by step: node floor.mjs STEP LOG FEED DIST FORMAT, each step with those before.
 * `copy`: both files are read and the log is written. `look`: each byte is looked at once. `parse`: lines and records are
 * made of the bytes, and dropped.
 */
import { createReadStream } from 'node:fs';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { pathToFileURL } from 'node:url';

const [step, log, feed, dist, text] = process.argv.slice(2);
const load = (path) => import(pathToFileURL(`${dist}/${path}`).href);
const READ = { highWaterMark: 256 * 1024 };
const NEWLINE = 0x0a;

let newlines = 0;
function look(bytes) {
  for (let at = 0; at < bytes.length; at++) if (bytes[at] === NEWLINE) newlines++;
}

/** What is done with a chunk of the log, and with one of the feed. */
async function worksOf() {
  if (step === 'copy') return [() => {}, () => {}];
  if (step === 'look') return [look, look];
  const { compileLogFormat } = await load('parse/log-format.js');
  const { RecordDecoder } = await load('feed/codec.js');
  const format = compileLogFormat(text);
  const decoder = new RecordDecoder();
  let rest = Buffer.alloc(0);
  const parse = (chunk) => {
    const bytes = Buffer.concat([rest, chunk]);
    let start = 0;
    for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, start)) {
      format.parse(bytes, start, end);
      start = end + 1;
    }
    rest = bytes.subarray(start);
  };
  return [parse, (chunk) => void decoder.push(chunk)];
}

const [ofLog, ofFeed] = await worksOf();
for await (const chunk of createReadStream(feed, READ)) ofFeed(chunk);
const working = new Transform({
  transform(chunk, _encoding, done) {
    ofLog(chunk);
    done(undefined, chunk);
  },
});
await pipeline(createReadStream(log, READ), working, process.stdout);
if (step === 'look') process.stderr.write(`${newlines} lines and records\n`);
