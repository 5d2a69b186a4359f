import type { Drained, MessageVisitor } from './netlink/socket.ts';

/** The part of `NetlinkSocket` that reading needs. */
export interface NetlinkSource {
  drain(limit: number, visit: MessageVisitor, arrived?: () => void): Drained;
  watch(readable: () => void): void;
  unwatch(): void;
}
