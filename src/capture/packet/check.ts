/** Whether the node's packets pass what the sources of records need: a second of its new connections beside conntrack's entries. */
import { setTimeout as delay } from 'node:timers/promises';
import type { CaptureOptions } from '../capture.ts';
import { dumpRequest } from '../conntrack/events.ts';
import { parseConntrack } from '../conntrack/message.ts';
import { AddressTexts } from '../ip-bytes.ts';
import type { Libc } from '../netlink/libc.ts';
import { dump } from '../netlink/socket.ts';
import { AF_INET, AF_INET6 } from '../netlink/wire.ts';
import { parseTcpPacket, TCP_FLAGS } from '../tap/packet.ts';
import { Devices } from './devices.ts';
import { HEADER_SNAPLEN, NOTHING, openingsFilter } from './filter.ts';
import { deviceOf, PacketSocket, SENDER_BYTES } from './socket.ts';

const LISTEN_MS = 1_000;
/** Openings that are compared; of a busy node the first ones are enough. */
const MOST_OPENINGS = 1_000;

export interface OpeningCount {
  /** Connections that pods opened while the node was watched. */
  opened: number;
  /** Of these, those that conntrack has. */
  tracked: number;
}

/** Opens and closes a packet socket. Rejects with `CaptureError` where that is not possible. */
export async function countOpenings(
  libc: Libc,
  { receiveBufferBytes }: CaptureOptions,
): Promise<OpeningCount> {
  const socket = PacketSocket.open(libc, { snaplen: HEADER_SNAPLEN, receiveBufferBytes }, NOTHING);
  try {
    socket.filter(openingsFilter());
    await delay(LISTEN_MS);
    const opened = readOpenings(socket, new Devices(libc));
    return { opened: opened.size, tracked: opened.size === 0 ? 0 : await countTracked(libc, opened) };
  } finally {
    socket.close();
  }
}

function readOpenings(socket: PacketSocket, devices: Devices): Set<string> {
  const opened = new Set<string>();
  const texts = new AddressTexts();
  socket.drain(Number.POSITIVE_INFINITY, (bytes, start, end) => {
    if (opened.size >= MOST_OPENINGS || devices.isStacked(deviceOf(bytes, start), 0)) return;
    const segment = parseTcpPacket(bytes, start + SENDER_BYTES, end);
    if (typeof segment === 'string' || (segment.flags & TCP_FLAGS.ack) !== 0) return;
    const { srcAt, dstAt, addressLength, sport, dport } = segment;
    const src = texts.text(bytes, srcAt, addressLength);
    opened.add(keyOf(src, sport, texts.text(bytes, dstAt, addressLength), dport));
  });
  return opened;
}

async function countTracked(libc: Libc, opened: ReadonlySet<string>): Promise<number> {
  const texts = new AddressTexts();
  const found = new Set<string>();
  for (const family of [AF_INET, AF_INET6])
    await dump(
      libc,
      dumpRequest(family),
      () => {},
      (bytes, start, end) => {
        const event = parseConntrack(bytes, start, end, undefined, texts);
        if (typeof event === 'string') return;
        const key = keyOf(event.src, event.sport, event.vip, event.vport);
        if (opened.has(key)) found.add(key);
      },
    );
  return found.size;
}

function keyOf(src: string, sport: number, dst: string, dport: number): string {
  return `${src} ${sport} ${dst} ${dport}`;
}

/** What new connections say of the node's network, with the options that suit it. */
export function openingsText({ opened, tracked }: OpeningCount): string {
  if (opened === 0)
    return 'a packet socket can be read (--tap-source packet); nothing opened a connection while it was';
  const seen = `a packet socket can be read (--tap-source packet): conntrack has ${tracked} of ${opened} connections that were opened meanwhile`;
  return tracked * 2 < opened
    ? `${seen}, so packets pass no netfilter here: --sources tap --tap-source packet`
    : seen;
}
