/**
 * What any helper and any sidecar on Node have to do, and nothing else: the floor of what theirs can cost.
 * `node-alone.mjs helper …` and `node-alone.mjs sidecar …` take the options that the lab gives the real ones.
 *
 * The helper reads the kernel's messages of one address, as often as the real one does, looks at none of them, and sends the
 * bytes of as many packed records. The sidecar copies the log's new bytes into its output when such bytes have come; it
 * looks at neither. With `--no-feed` it copies once a batch, and has no connection.
 */
import { fstatSync, openSync, readSync, watch, writeSync } from 'node:fs';
import { createServer, get } from 'node:http';
import { networkInterfaces } from 'node:os';
import { dirname } from 'node:path';
import { parseArgs } from 'node:util';

const BATCH_MS = 100;
/** As in the real helper: more requests shorten the next batch. */
const GATHERED = 600;
const LEAST_BATCH_MS = 10;
const RECORD_BYTES = 56;
const GROUP = 4_000;
const SNAPLEN = 1_024;
const RECEIVE_BUFFER = 8 * 1024 * 1024;
const READ_LIMIT = 65_536;

const text = { type: 'string' };
const { values, positionals } = parseArgs({
  allowPositionals: true,
  strict: false,
  options: { listen: text, helper: text, output: text, 'access-log': text },
});
const [host, port] = values.listen.split(':');
/** The one reader of the feed. */
let reader;

function serve(onReader) {
  createServer((request, response) => {
    if (!request.url.startsWith('/v1/feed')) {
      response.end('');
      return;
    }
    response.writeHead(200).flushHeaders();
    reader = response;
    onReader(new URL(request.url, 'http://helper').searchParams.get('src'));
  }).listen(Number(port), host);
}

async function helper() {
  const load = (path) => import(new URL(`../../dist/capture/${path}`, import.meta.url).href);
  const { loadLibc } = await load('netlink/libc.js');
  const { openTapGroup, QUEUE_THRESHOLD } = await load('tap/group.js');
  const { TapTable } = await load('tap/nft-table.js');
  const { openConntrackEvents } = await load('conntrack/events.js');
  const { conntrackEventFilter } = await load('conntrack/event-filter.js');
  const libc = await loadLibc();
  const tap = { group: GROUP, snaplen: SNAPLEN, queueThreshold: QUEUE_THRESHOLD, headersOnly: false };
  const group = await openTapGroup(libc, {
    group: GROUP,
    snaplen: SNAPLEN,
    receiveBufferBytes: RECEIVE_BUFFER,
  });
  const table = await TapTable.open(libc, 'realpod', { tap, logOpenings: false });
  const conntrack = openConntrackEvents(libc, RECEIVE_BUFFER);
  const sent = Buffer.alloc(READ_LIMIT * RECORD_BYTES);
  const visit = () => {};
  let batchMs = BATCH_MS;
  const arm = () => {
    group.watch(rest);
    conntrack.watch(rest);
  };
  const rest = () => {
    group.unwatch();
    conntrack.unwatch();
    setTimeout(read, batchMs);
  };
  const read = () => {
    const { messages } = group.drain(READ_LIMIT, visit);
    const all = messages + conntrack.drain(READ_LIMIT, visit).messages;
    if (messages > 0) reader?.write(sent.subarray(0, messages * RECORD_BYTES));
    batchMs = Math.min(BATCH_MS, Math.max(LEAST_BATCH_MS, (batchMs * GATHERED) / messages));
    if (all > 0) setTimeout(read, batchMs);
    else arm();
  };
  serve((address) => {
    void table.setAddresses([address], []);
    conntrack.filter(conntrackEventFilter([address]));
    setInterval(() => void table.setAddresses([address], []), 20_000);
  });
  arm();
  process.once('SIGTERM', () => void table.close().then(() => process.exit(0)));
}

function sidecar() {
  const log = values['access-log'];
  const output = openSync(values.output, 'a');
  const buffer = Buffer.alloc(256 * 1024);
  const file = openSync(log, 'r');
  let read = 0;
  const look = () => {
    const before = read;
    while (fstatSync(file).size > read) {
      const bytes = readSync(file, buffer, 0, buffer.length, read);
      writeSync(output, buffer, 0, bytes);
      read += bytes;
    }
    return read > before;
  };
  const again = () => {
    if (look()) setTimeout(again, BATCH_MS);
    else watching();
  };
  const watching = () => {
    const watcher = watch(dirname(log), () => {
      watcher.close();
      setTimeout(again, BATCH_MS);
    });
  };
  if (values['no-feed']) watching();
  else {
    const connect = () => {
      const { address } = networkInterfaces().eth0.find(({ family }) => family === 'IPv4');
      const url = `${values.helper}/v1/feed?src=${address}`;
      get(url, (response) => response.on('data', look)).on('error', () => setTimeout(connect, 200));
    };
    connect();
    // The log's last lines come behind the last records.
    setInterval(look, 1_000);
  }
  serve(() => {});
  process.once('SIGTERM', () => process.exit(0));
}

if (positionals[0] === 'helper') await helper();
else sidecar();
