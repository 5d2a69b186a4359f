/** TCP segments for tests, from the IP header on. */
import { addressBytes } from '../../src/capture/ip-bytes.ts';

export interface SegmentFields {
  src: string;
  sport: number;
  dst: string;
  dport: number;
  seq?: number;
  ack?: number;
  /** Letters of SYN, FIN, RST, PSH, ACK; A is added where `ack` is given. */
  flags?: string;
  payload?: string;
  /** Bytes of options in the IPv4 and the TCP header, multiples of 4. */
  ipOptions?: number;
  tcpOptions?: number;
}

const BITS: Record<string, number> = { F: 1, S: 2, R: 4, P: 8, A: 16 };

export function segment(fields: SegmentFields): Buffer {
  const { src, sport, dst, dport, seq = 1, ack, flags = '', payload = '' } = fields;
  const tcp = Buffer.alloc(20 + (fields.tcpOptions ?? 12));
  tcp.writeUInt16BE(sport, 0);
  tcp.writeUInt16BE(dport, 2);
  tcp.writeUInt32BE(seq >>> 0, 4);
  tcp.writeUInt32BE((ack ?? 0) >>> 0, 8);
  tcp[12] = (tcp.length / 4) << 4;
  for (const letter of flags + (ack === undefined ? '' : 'A')) tcp[13]! |= BITS[letter]!;
  const body = Buffer.concat([tcp, Buffer.from(payload, 'latin1')]);
  const from = addressBytes(src)!;
  const to = addressBytes(dst)!;
  if (from.length === 16) {
    const header = Buffer.alloc(40);
    header[0] = 0x60;
    header.writeUInt16BE(body.length, 4);
    header[6] = 6;
    from.copy(header, 8);
    to.copy(header, 24);
    return Buffer.concat([header, body]);
  }
  const header = Buffer.alloc(20 + (fields.ipOptions ?? 0));
  header[0] = 0x40 | (header.length / 4);
  header.writeUInt16BE(header.length + body.length, 2);
  header[9] = 6;
  from.copy(header, 12);
  to.copy(header, 16);
  return Buffer.concat([header, body]);
}
