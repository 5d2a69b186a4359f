import type { Drained, MessageVisitor } from './netlink/socket.ts';

/** What a `NetlinkSocket` is to those who read messages from it. */
export interface NetlinkSource {
  drain(limit: number, visit: MessageVisitor, arrived?: () => void): Drained;
  watch(readable: () => void): void;
  unwatch(): void;
}
