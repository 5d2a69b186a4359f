/** A packet socket with what reads it, for the tap. */
import type { CaptureOptions } from '../capture.ts';
import { CaptureError } from '../error.ts';
import { localAddresses } from '../local-addresses.ts';
import type { Libc } from '../netlink/libc.ts';
import { HTTP2_MORE_BYTES } from '../tap/nft-rules.ts';
import { Devices } from './devices.ts';
import { NOTHING, packetFilter } from './filter.ts';
import { PacketTap, type PacketTapOptions } from './packet-tap.ts';
import { PacketSocket } from './socket.ts';

export interface OpenedPackets {
  socket: PacketSocket;
  packets: PacketTap;
}

/** Throws `CaptureError`. */
export function openPackets(
  libc: Libc,
  options: CaptureOptions,
  parts: Omit<
    PacketTapOptions,
    'conntrack' | 'maxFlows' | 'devices' | 'isLocal' | 'onLocalAddress' | 'onPlanChange'
  >,
): OpenedPackets {
  const { receiveBufferBytes, sources, maxFlows, log } = options;
  const snaplen = options.snaplen + HTTP2_MORE_BYTES;
  if (options.tap === 'headers')
    throw new CaptureError('tap-source', '--tap headers needs --tap-source nflog');
  const socket = PacketSocket.open(libc, { snaplen, receiveBufferBytes }, NOTHING);
  const packets = new PacketTap({
    ...parts,
    conntrack: sources.includes('conntrack'),
    maxFlows,
    devices: new Devices(libc),
    isLocal: localAddresses(),
    onLocalAddress(address) {
      log(
        'error',
        `${address} is an address of this network namespace: a packet socket sees no request from it, and its lines stay unchanged. Use --tap-source nflog`,
      );
    },
    onPlanChange() {
      const plan = { ...packets.plan, snaplen };
      try {
        socket.filter(packetFilter(plan));
      } catch {
        // Longer than this kernel allows (net.core.optmem_max): packets of other addresses are then copied for nothing.
        socket.filter(packetFilter(plan, false));
      }
    },
  });
  return { socket, packets };
}
