/** The NFLOG group that the table's rule logs to (linux/netfilter/nfnetlink_log.h). */
import { constants } from 'node:os';
import { CaptureError, cannotRunRules } from '../error.ts';
import { callFailed, type Libc } from '../netlink/libc.ts';
import { attribute, message, number8, number16, number32 } from '../netlink/message.ts';
import { NetlinkSocket } from '../netlink/socket.ts';
import { NLM_F_ACK, NLM_F_REQUEST } from '../netlink/wire.ts';
import { NFLOG_CONFIG } from './nflog.ts';

const { EBUSY, EINVAL, EOPNOTSUPP, EPERM } = constants.errno;

const NFULA_CFG_CMD = 1;
const NFULA_CFG_MODE = 2;
const NFULA_CFG_QTHRESH = 5;
const NFULA_CFG_FLAGS = 6;
const CMD_BIND = 1;
const COPY_PACKET = 2;
/** Numbers each packet, so that a gap in the numbers is the exact count of lost packets. */
const FLAG_SEQUENCE = 1;
/** Bytes for nlmsghdr and the attributes beside the packet's bytes. */
const OVERHEAD = 512;
const TAP_READ_BYTES = 256 * 1024;

/**
 * Packets that the kernel collects before it delivers them. With one, an empty socket means that every request up to now
 * has been read, which is what a watermark states. 16 saved less than 10 ms of CPU in 10,000 requests, and delays packets
 * until a timer of the kernel fires.
 */
export const QUEUE_THRESHOLD = 1;

export interface TapGroup {
  group: number;
  snaplen: number;
  receiveBufferBytes: number;
}

/** Rejects with `CaptureError`. */
export async function openTapGroup(libc: Libc, options: TapGroup): Promise<NetlinkSocket> {
  const { group, snaplen } = options;
  const datagramBytes = snaplen + OVERHEAD;
  const socket = NetlinkSocket.open(libc, {
    receiveBufferBytes: options.receiveBufferBytes,
    datagramBytes,
    datagrams: Math.max(4, Math.floor(TAP_READ_BYTES / datagramBytes)),
  });
  const configure = async (...attributes: Buffer[]): Promise<number> => {
    const head = {
      type: NFLOG_CONFIG,
      flags: NLM_F_REQUEST | NLM_F_ACK,
      sequence: 1,
      family: 0,
      resource: group,
    };
    return (await socket.request(message(head, ...attributes)))?.errno ?? 0;
  };
  try {
    const bound = await configure(number8(NFULA_CFG_CMD, CMD_BIND));
    // EPERM: another socket has the group. Without the rights, setting the receive buffer fails before.
    if (bound === EPERM || bound === EBUSY) {
      throw new CaptureError(
        'group-in-use',
        `NFLOG group ${group} is read by another program: stop it, or choose another with --tap-group`,
      );
    }
    // No subsystem of this number: nfnetlink answers EINVAL.
    if (bound === EINVAL || bound === EOPNOTSUPP) throw cannotRunRules('it needs nfnetlink_log');
    // struct nfulnl_msg_config_mode: be32 bytes to copy, u8 mode, u8 padding.
    const mode = Buffer.alloc(6);
    mode.writeUInt32BE(snaplen, 0);
    mode.writeUInt8(COPY_PACKET, 4);
    const errno =
      bound ||
      (await configure(
        attribute(NFULA_CFG_MODE, mode),
        number32(NFULA_CFG_QTHRESH, QUEUE_THRESHOLD),
        number16(NFULA_CFG_FLAGS, FLAG_SEQUENCE),
      ));
    if (errno !== 0) throw callFailed(`set up NFLOG group ${group}`, -errno);
  } catch (error) {
    socket.close();
    throw error;
  }
  return socket;
}
