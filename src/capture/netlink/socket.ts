/** Netlink sockets of the netfilter family (linux/netlink.h, linux/netfilter/nfnetlink.h). */
import { constants } from 'node:os';
import { type DatagramSizes, Datagrams } from './datagrams.ts';
import { callFailed, type Libc, type Poll } from './libc.ts';
import { align4, MESSAGE_HEADER, messageEnd, NLMSG_DONE, NLMSG_ERROR, u16, u32 } from './wire.ts';

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const NETLINK_NETFILTER = 12;
const SOL_SOCKET = 1;
const SO_ATTACH_FILTER = 26;
const SO_DETACH_FILTER = 27;
const SO_RCVBUFFORCE = 33;
const { EAGAIN, EBADF, EINTR, ENOBUFS } = constants.errno;

/** A datagram that arrives cut counts as an overrun. */
export interface NetlinkOptions extends Pick<DatagramSizes, 'datagramBytes' | 'datagrams'> {
  /** Bit n-1 joins multicast group n. */
  groups?: number;
  receiveBufferBytes?: number;
}

export interface Drained {
  messages: number;
  /** Messages were lost before or during this reading. */
  overrun: boolean;
  /** Nothing is left. Otherwise `limit` was reached. */
  empty: boolean;
  /** How many were lost, where the socket says so. */
  lost?: number;
}

/** The kernel's answer to a request: what was wrong, and the sequence number of the message it is about. */
export interface KernelError {
  errno: number;
  sequence: number;
}

/** The bytes are valid until the visitor returns. */
export type MessageVisitor = (bytes: Buffer, start: number, end: number) => void;

export class NetlinkSocket {
  readonly #libc: Libc;
  readonly #fd: number;
  readonly #datagrams: Datagrams;
  /** Kept while the kernel copies it. */
  #program: Buffer = Buffer.alloc(0);
  #poll: Poll | undefined;
  #closed = false;

  private constructor(libc: Libc, fd: number, options: NetlinkOptions) {
    this.#libc = libc;
    this.#fd = fd;
    this.#datagrams = new Datagrams(libc, options);
  }

  /** Throws `CaptureError`. */
  static open(libc: Libc, options: NetlinkOptions): NetlinkSocket {
    const fd = libc.socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_NETFILTER);
    if (fd < 0) throw callFailed('open a netfilter netlink socket', fd);
    const socket = new NetlinkSocket(libc, fd, options);
    try {
      if (options.receiveBufferBytes !== undefined) {
        const size = Buffer.alloc(4);
        size.writeInt32LE(options.receiveBufferBytes);
        socket.#setOption(
          SO_RCVBUFFORCE,
          size,
          `set a receive buffer of ${options.receiveBufferBytes} bytes`,
        );
      }
      // struct sockaddr_nl: u16 family, u16 padding, u32 port (chosen by the kernel), u32 groups.
      const address = Buffer.alloc(12);
      address.writeUInt16LE(AF_NETLINK, 0);
      address.writeUInt32LE(options.groups ?? 0, 8);
      const bound = libc.bind(fd, address);
      if (bound < 0) throw callFailed('listen to netfilter events', bound);
    } catch (error) {
      socket.close();
      throw error;
    }
    return socket;
  }

  /**
   * Lets the kernel drop datagrams that the classic BPF program (struct sock_filter, 8 bytes each) answers with 0, from
   * here on. Where the kernel does not take it, everything comes.
   */
  filter(program: Buffer): void {
    this.#program = Buffer.allocUnsafeSlow(program.length);
    program.copy(this.#program);
    // struct sock_fprog: u16 length, padding, pointer.
    const descriptor = Buffer.alloc(16);
    descriptor.writeUInt16LE(program.length / 8, 0);
    descriptor.writeBigUInt64LE(this.#libc.addressOf(this.#program), 8);
    if (this.#libc.setsockopt(this.#fd, SOL_SOCKET, SO_ATTACH_FILTER, descriptor) < 0) {
      this.#libc.setsockopt(this.#fd, SOL_SOCKET, SO_DETACH_FILTER, Buffer.alloc(4));
    }
  }

  #setOption(option: number, value: Buffer, what: string): void {
    const result = this.#libc.setsockopt(this.#fd, SOL_SOCKET, option, value);
    if (result < 0) throw callFailed(what, result);
  }

  /**
   * Reads until nothing is left, or until `limit` messages. Goes on after an overrun: the kernel drops everything
   * until the buffer has been emptied once, so the loss ends only when `drain` returns with `empty`. `arrived` is
   * called after each reading, before its messages are visited.
   */
  drain(limit: number, visit: MessageVisitor, arrived?: () => void): Drained {
    const result: Drained = { messages: 0, overrun: false, empty: false };
    while (result.messages < limit) {
      const count = this.#datagrams.receive(this.#fd);
      if (count === -EAGAIN) {
        result.empty = true;
        break;
      }
      if (count === -ENOBUFS) {
        result.overrun = true;
        continue;
      }
      if (count === -EINTR) continue;
      if (count < 0) {
        // Short of memory, say. Nothing more to be had now, and what may be missing is said.
        result.overrun = true;
        result.empty = true;
        break;
      }
      arrived?.();
      for (let i = 0; i < count; i++) {
        if (this.#datagrams.isCut(i)) result.overrun = true;
        const { data } = this.#datagrams;
        result.messages += visitMessages(data, this.#datagrams.startOf(i), this.#datagrams.endOf(i), visit);
      }
    }
    return result;
  }

  /**
   * Sends one message or batch of which the last asks for an acknowledgement (NLM_F_ACK), and reads the answers. The
   * caller sends one at a time. Returns what the kernel refused, undefined if it did all.
   */
  async request(bytes: Buffer): Promise<KernelError | undefined> {
    const sent = this.#closed ? -EBADF : await this.#libc.sendAsync(this.#fd, bytes);
    if (sent < 0) return { errno: -sent, sequence: 0 };
    let refusal: KernelError | undefined;
    let acknowledged = false;
    // The kernel has done the work, and queued its answers, when the sending returns.
    this.drain(Number.POSITIVE_INFINITY, (data, start, end) => {
      if (u16(data, start + 4) !== NLMSG_ERROR) return;
      const errno = errorOf(data, start, end);
      if (errno === 0) acknowledged = true;
      // struct nlmsgerr: i32 error, then the header of the message it is about.
      else refusal ??= { errno, sequence: u32(data, start + MESSAGE_HEADER + 12) };
    });
    return refusal ?? (acknowledged ? undefined : { errno: ENOBUFS, sequence: 0 });
  }

  /** Sends a batch of requests that one message each answers. The answers are there when it returns; `drain` reads them. */
  send(bytes: Buffer): boolean {
    return !this.#closed && this.#libc.send(this.#fd, bytes) >= 0;
  }

  /** Starts calling `readable` at each turn of the event loop at which something can be read. */
  watch(readable: () => void): void {
    this.#poll ??= this.#libc.poll(this.#fd, readable);
    this.#poll.start();
  }

  unwatch(): void {
    this.#poll?.stop();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#poll?.close();
    this.#libc.close(this.#fd);
  }
}

const DUMP_BYTES = 64 * 1024;

/**
 * Sends a dump request on a socket of its own and hands each message of the answer to `visit`. `beforeChunk` is called
 * before the messages of one reading, `visit` only after it. Rejects with `CaptureError` if the kernel refuses.
 */
export async function dump(
  libc: Libc,
  request: Buffer,
  beforeChunk: () => void,
  visit: MessageVisitor,
): Promise<void> {
  const fd = libc.socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_NETFILTER);
  if (fd < 0) throw callFailed('open a netfilter netlink socket', fd);
  try {
    const sent = await libc.sendAsync(fd, request);
    if (sent < 0) throw callFailed('ask for the tracked connections', sent);
    const chunk = Buffer.allocUnsafeSlow(DUMP_BYTES);
    for (let done = false; !done; ) {
      const length = await libc.recvAsync(fd, chunk);
      if (length === -EINTR) continue;
      if (length < 0) throw callFailed('read the tracked connections', length);
      beforeChunk();
      let failure = 0;
      visitMessages(chunk, 0, length, (data, start, end) => {
        const type = u16(data, start + 4);
        if (type === NLMSG_DONE || type === NLMSG_ERROR) {
          done = true;
          failure = errorOf(data, start, end);
        } else {
          visit(data, start, end);
        }
      });
      if (failure !== 0) throw callFailed('list the tracked connections', -failure);
    }
  } finally {
    libc.close(fd);
  }
}

/** struct nlmsgerr begins with minus the errno; so does NLMSG_DONE's payload. */
function errorOf(bytes: Buffer, start: number, end: number): number {
  return end - start >= MESSAGE_HEADER + 4 ? -bytes.readInt32LE(start + MESSAGE_HEADER) : 0;
}

/** One datagram may hold several messages. Returns how many. */
function visitMessages(bytes: Buffer, start: number, end: number, visit: MessageVisitor): number {
  let count = 0;
  for (let at = start; at < end; ) {
    const stop = messageEnd(bytes, at, end);
    if (stop < 0) break;
    visit(bytes, at, stop);
    count++;
    at += align4(stop - at);
  }
  return count;
}
