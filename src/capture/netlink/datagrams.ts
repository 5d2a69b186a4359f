/** Buffers for many datagrams at a time (struct mmsghdr and struct iovec on 64-bit machines, recvmmsg(2)). */
import type { Libc } from './libc.ts';
import { u32 } from './wire.ts';

const MMSGHDR = 64;
const MSG_NAME_AT = 0;
const MSG_NAMELEN_AT = 8;
const MSG_IOV_AT = 16;
const MSG_IOVLEN_AT = 24;
const MSG_FLAGS_AT = 48;
const MSG_LEN_AT = 56;
const IOVEC = 16;
const MSG_TRUNC = 0x20;

export interface DatagramSizes {
  /** A datagram longer than this arrives cut. */
  datagramBytes: number;
  /** Datagrams read by one system call. */
  datagrams: number;
  /** Bytes ahead of each datagram that hold the address it came from. */
  senderBytes?: number;
}

export class Datagrams {
  /** All datagrams; the one of number i begins at `startOf(i)`. */
  readonly data: Buffer;
  readonly #libc: Libc;
  readonly #count: number;
  readonly #stride: number;
  readonly #senderBytes: number;
  readonly #headers: Buffer;
  /** The kernel reads them through the headers. */
  readonly #vectors: Buffer;

  constructor(libc: Libc, { datagramBytes, datagrams, senderBytes = 0 }: DatagramSizes) {
    this.#libc = libc;
    this.#count = datagrams;
    this.#senderBytes = senderBytes;
    this.#stride = senderBytes + datagramBytes;
    this.data = Buffer.allocUnsafeSlow(datagrams * this.#stride);
    this.#vectors = Buffer.allocUnsafeSlow(datagrams * IOVEC);
    this.#headers = Buffer.allocUnsafeSlow(datagrams * MMSGHDR).fill(0);
    const data = libc.addressOf(this.data);
    const vectors = libc.addressOf(this.#vectors);
    for (let i = 0; i < datagrams; i++) {
      const header = i * MMSGHDR;
      const at = data + BigInt(i * this.#stride);
      this.#vectors.writeBigUInt64LE(at + BigInt(senderBytes), i * IOVEC);
      this.#vectors.writeBigUInt64LE(BigInt(datagramBytes), i * IOVEC + 8);
      if (senderBytes > 0) {
        this.#headers.writeBigUInt64LE(at, header + MSG_NAME_AT);
        this.#headers.writeUInt32LE(senderBytes, header + MSG_NAMELEN_AT);
      }
      this.#headers.writeBigUInt64LE(vectors + BigInt(i * IOVEC), header + MSG_IOV_AT);
      this.#headers.writeBigUInt64LE(1n, header + MSG_IOVLEN_AT);
    }
  }

  /** How many were read, without waiting, or minus the errno. */
  receive(fd: number): number {
    return this.#libc.recvmmsg(fd, this.#headers, this.#count);
  }

  /** Where the sender's address begins, or the datagram where none is read. */
  startOf(i: number): number {
    return i * this.#stride;
  }

  endOf(i: number): number {
    return i * this.#stride + this.#senderBytes + u32(this.#headers, i * MMSGHDR + MSG_LEN_AT);
  }

  isCut(i: number): boolean {
    return (this.#headers[i * MMSGHDR + MSG_FLAGS_AT]! & MSG_TRUNC) !== 0;
  }
}
