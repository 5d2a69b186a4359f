/** What the parsers cost on captured input, microseconds of CPU each. No root. */
import { readFileSync } from 'node:fs';
import { parseConntrack } from '../../src/capture/conntrack/message.ts';
import { AddressTexts } from '../../src/capture/ip-bytes.ts';
import { parseKmsg } from '../../src/capture/kernel-log/kmsg-message.ts';
import { parseLogRecord } from '../../src/capture/kernel-log/record.ts';
import { parseNflog } from '../../src/capture/tap/nflog.ts';
import { parseTcpPacket } from '../../src/capture/tap/packet.ts';
import { headerName, parseRequestHead } from '../../src/capture/tap/request-head.ts';
import { encodeRecord, RecordDecoder } from '../../src/feed/codec.ts';
import { FrameDecoder } from '../../src/feed/frames.ts';
import { FrameOutbox } from '../../src/feed/outbox.ts';
import { Ring } from '../../src/feed/ring.ts';
import type { FeedRecord } from '../../src/model/feed.ts';
import { perThing } from './figure.ts';

const fixture = (path: string) => readFileSync(new URL(`../fixtures/${path}`, import.meta.url), 'utf8');
const messages = (path: string): Buffer[] =>
  (JSON.parse(fixture(path)).messages as { hex: string }[]).map(({ hex }) => Buffer.from(hex, 'hex'));

const TIMES = 200_000;

/** Microseconds each, one for each round, by what was parsed. */
export function parsers(rounds: number): Record<string, number[]> {
  const events = messages('conntrack/messages.json');
  const packets = messages('nflog/messages.json');
  const kernel = fixture('kernel-log/kmsg.txt').trimEnd().split('\n');
  const demo = readFileSync(new URL('../../demo/feed.ndjson', import.meta.url));
  const records: FeedRecord[] = new RecordDecoder().push(demo).records;
  const feed = Buffer.from(records.map((record) => encodeRecord(record, record.seq)).join(''));
  const requests = records.filter(({ kind }) => kind === 'request');
  const lines = Buffer.from(requests.map((record) => encodeRecord(record, record.seq)).join(''));
  const ring = new Ring(1024 * 1024, 0);
  const frames = (): Buffer => {
    const outbox = new FrameOutbox();
    for (const record of requests) outbox.record(ring.push(record.seq, '', record));
    return outbox.take();
  };
  const compact = frames();
  const texts = new AddressTexts();
  const id = headerName('X-Request-ID');
  const all = (things: number, work: () => void): number[] => {
    const repeats = Math.ceil(TIMES / things);
    return perThing(rounds, repeats * things, () => {
      for (let i = 0; i < repeats; i++) work();
    });
  };
  return {
    'conntrack event': all(events.length, () => {
      for (const bytes of events) parseConntrack(bytes, 0, bytes.length, undefined, texts);
    }),
    'NFLOG packet, to the request id': all(packets.length, () => {
      for (const bytes of packets) {
        const packet = parseNflog(bytes, 0, bytes.length);
        if (typeof packet === 'string') continue;
        const segment = parseTcpPacket(bytes, packet.start, packet.end);
        if (typeof segment === 'string') continue;
        parseRequestHead(bytes, segment.payloadStart, segment.payloadEnd, id);
        texts.text(bytes, segment.dstAt, segment.addressLength);
      }
    }),
    'kernel-log record': all(kernel.length, () => {
      for (const text of kernel) {
        const message = parseKmsg(text);
        if (message) parseLogRecord(message.text);
      }
    }),
    'feed record, encoded': all(records.length, () => {
      for (const record of records) encodeRecord(record, record.seq);
    }),
    'feed record, decoded': all(records.length, () => {
      new RecordDecoder().push(feed);
    }),
    'request as a line, decoded': all(requests.length, () => {
      new RecordDecoder().push(lines);
    }),
    'request in a frame, encoded': all(requests.length, frames),
    'request in a frame, decoded': all(requests.length, () => {
      new FrameDecoder().push(compact);
    }),
  };
}
