/** A packet socket: copies of what every device of the network namespace receives (packet(7), linux/if_packet.h). */
import { constants } from 'node:os';
import { CaptureError } from '../error.ts';
import { Datagrams } from '../netlink/datagrams.ts';
import { callFailed, type Libc, type Poll } from '../netlink/libc.ts';
import type { Drained, MessageVisitor } from '../netlink/socket.ts';
import { u32 } from '../netlink/wire.ts';
import type { NetlinkSource } from '../netlink-source.ts';

const AF_PACKET = 17;
/** Without the device's own header: a packet begins with its IP header whatever the device. */
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_ATTACH_FILTER = 26;
const SO_RCVBUFFORCE = 33;
const SOL_PACKET = 263;
const PACKET_STATISTICS = 6;
const PACKET_IGNORE_OUTGOING = 23;
const ETH_P_ALL = 0x0003;
const { EAGAIN, EINTR, EACCES, EPERM } = constants.errno;

/** struct sockaddr_ll, ahead of each packet: u16 family, be16 protocol, i32 device, u16 and u8 of its type, … */
export const SENDER_BYTES = 32;
const SOCKADDR_LL = 20;
const DEVICE_AT = 4;
const READ_BYTES = 256 * 1024;

/** Index of the device that received the packet whose sender's address begins at `start`. */
export function deviceOf(bytes: Buffer, start: number): number {
  return u32(bytes, start + DEVICE_AT);
}

export class PacketSocket implements NetlinkSource {
  readonly #libc: Libc;
  readonly #fd: number;
  readonly #datagrams: Datagrams;
  readonly #statistics = Buffer.alloc(8);
  /** Kept while the kernel copies it. */
  #program: Buffer = Buffer.alloc(0);
  #poll: Poll | undefined;
  #closed = false;

  private constructor(libc: Libc, fd: number, datagrams: Datagrams) {
    this.#libc = libc;
    this.#fd = fd;
    this.#datagrams = datagrams;
  }

  /** Nothing comes before `filter` lets it through. `nothing`: a filter that lets nothing. Throws `CaptureError`. */
  static open(
    libc: Libc,
    { snaplen, receiveBufferBytes }: { snaplen: number; receiveBufferBytes: number },
    nothing: Buffer,
  ): PacketSocket {
    // Of protocol 0 it receives nothing until it is bound.
    const fd = libc.socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd === -EPERM || fd === -EACCES) {
      throw new CaptureError(
        'permission',
        'open a packet socket: not permitted. With --tap-source packet the helper needs the capability NET_RAW, too',
      );
    }
    if (fd < 0) throw callFailed('open a packet socket', fd);
    const datagrams = new Datagrams(libc, {
      datagramBytes: snaplen,
      datagrams: Math.max(4, Math.floor(READ_BYTES / (snaplen + SENDER_BYTES))),
      senderBytes: SENDER_BYTES,
    });
    const socket = new PacketSocket(libc, fd, datagrams);
    try {
      const size = Buffer.alloc(4);
      size.writeInt32LE(receiveBufferBytes);
      const sized = libc.setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, size);
      if (sized < 0) throw callFailed(`set a receive buffer of ${receiveBufferBytes} bytes`, sized);
      // Where the kernel does not know it (before 4.20) the filter drops what is sent.
      libc.setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, Buffer.from([1, 0, 0, 0]));
      socket.filter(nothing);
      const address = Buffer.alloc(SOCKADDR_LL);
      address.writeUInt16LE(AF_PACKET, 0);
      address.writeUInt16BE(ETH_P_ALL, 2);
      const bound = libc.bind(fd, address);
      if (bound < 0) throw callFailed('listen to packets', bound);
    } catch (error) {
      socket.close();
      throw error;
    }
    return socket;
  }

  /** Lets through what this classic BPF program does, as many bytes as it answers, from here on. Throws `CaptureError`. */
  filter(program: Buffer): void {
    this.#program = Buffer.allocUnsafeSlow(program.length);
    program.copy(this.#program);
    // struct sock_fprog: u16 length, padding, pointer.
    const descriptor = Buffer.alloc(16);
    descriptor.writeUInt16LE(program.length / 8, 0);
    descriptor.writeBigUInt64LE(this.#libc.addressOf(this.#program), 8);
    const result = this.#libc.setsockopt(this.#fd, SOL_SOCKET, SO_ATTACH_FILTER, descriptor);
    if (result < 0) throw callFailed('filter packets', result);
  }

  /** A packet is visited from its sender's address on, which has `SENDER_BYTES`. */
  drain(limit: number, visit: MessageVisitor, arrived?: () => void): Drained {
    const drained: Drained = { messages: 0, overrun: false, empty: false };
    const { data } = this.#datagrams;
    while (drained.messages < limit) {
      const count = this.#datagrams.receive(this.#fd);
      if (count === -EINTR) continue;
      if (count < 0) {
        // Another error than that nothing is left, such as a device that went away, comes once, and then packets go on.
        drained.overrun = count !== -EAGAIN;
        drained.empty = true;
        break;
      }
      arrived?.();
      for (let i = 0; i < count; i++) visit(data, this.#datagrams.startOf(i), this.#datagrams.endOf(i));
      drained.messages += count;
    }
    // Nothing is dropped while the buffer is empty.
    const lost = drained.messages > 0 ? this.#dropped() : 0;
    if (lost > 0) {
      drained.overrun = true;
      drained.lost = lost;
    }
    return drained;
  }

  /** Packets that the kernel dropped, as the receive buffer was full, since the last call (struct tpacket_stats). */
  #dropped(): number {
    const result = this.#libc.getsockopt(this.#fd, SOL_PACKET, PACKET_STATISTICS, this.#statistics);
    return result < 0 ? 0 : u32(this.#statistics, 4);
  }

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
