import type { ConntrackEvent } from '../conntrack/message.ts';

/** One end as its packets show it. */
export interface End {
  ip: string;
  port: number;
}

/** A TCP connection as the address sees it: what it dialed, before a load balancer changes it on the node. */
export interface Tracked {
  readonly dst: string;
  readonly dport: number;
  /** The sequence number of its SYN; undefined where that was not seen. */
  isn: number | undefined;
  /** What answers is known, and the connection is in the table of flows. */
  told: boolean;
  /** The number that an answer to its last request begins with. */
  answersAt: number | undefined;
  /** Both FINs have passed. What it sends now, it sends again. */
  over: boolean;
  finSent: boolean;
  finReceived: boolean;
  /** When it is over although no FIN came (ms since the epoch). */
  endsAt: number;
  seenAt: number;
  next: Tracked | undefined;
}

/** What conntrack would say of the connection. */
export function eventOf(
  type: ConntrackEvent['type'],
  src: string,
  sport: number,
  { dst, dport }: Tracked,
  { ip, port }: End,
): ConntrackEvent {
  return {
    type,
    id: 0,
    zone: 0,
    ...{ src, sport, vip: dst, vport: dport, ip, port },
    tcpState: undefined,
    eventMs: undefined,
  };
}
