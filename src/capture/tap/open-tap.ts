/** The kernel side of the tap: its nftables table and its NFLOG group, under a name and a number that are free. */
import type { CaptureOptions } from '../capture.ts';
import { CaptureError } from '../error.ts';
import type { Libc } from '../netlink/libc.ts';
import type { NetlinkSocket } from '../netlink/socket.ts';
import { openTapGroup, QUEUE_THRESHOLD } from './group.ts';
import { HEADER_BYTES } from './nft-message.ts';
import { HTTP2_MORE_BYTES, type TapRule } from './nft-rules.ts';
import { TapTable } from './nft-table.ts';

/** The table, and the one of a helper that starts while another one is about to end. */
export const TABLE = 'realpod';
export const SECOND_TABLE = 'realpod_2';

/** `group`: undefined without the source `tap`. `table`: undefined where no rule is needed. */
export interface Tap {
  group: NetlinkSocket | undefined;
  table: TapTable | undefined;
}

/** Rejects with a `CaptureError`; then nothing is left open. */
export async function openTap(libc: Libc, options: CaptureOptions): Promise<Tap> {
  const { tapGroup, besideAnother } = options;
  try {
    return await openAs(libc, options, TABLE, tapGroup);
  } catch (error) {
    const taken =
      error instanceof CaptureError && (error.code === 'table-exists' || error.code === 'group-in-use');
    if (!taken || !besideAnother) throw error;
    return await openAs(libc, options, SECOND_TABLE, tapGroup < 65_535 ? tapGroup + 1 : tapGroup - 1);
  }
}

async function openAs(libc: Libc, options: CaptureOptions, name: string, number: number): Promise<Tap> {
  const { sources, snaplen, receiveBufferBytes, logRule } = options;
  const headersOnly = options.tap === 'headers';
  let rule: TapRule | undefined;
  let group: NetlinkSocket | undefined;
  if (sources.includes('tap')) {
    rule = { group: number, snaplen, queueThreshold: QUEUE_THRESHOLD, headersOnly };
    const copied = headersOnly ? HEADER_BYTES[6] : snaplen + HTTP2_MORE_BYTES;
    group = await openTapGroup(libc, { group: number, snaplen: copied, receiveBufferBytes });
  }
  if (!rule && !logRule) return { group, table: undefined };
  try {
    return { group, table: await TapTable.open(libc, name, { tap: rule, logOpenings: logRule }) };
  } catch (error) {
    group?.close();
    throw error;
  }
}
