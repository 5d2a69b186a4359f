import type { AddressSpan } from './line.ts';

/** What showed the real client: the port that nginx knew it by, or that all connections which fit are one client's. */
export type ClientEvidence = 'port' | 'address';
export const CLIENT_EVIDENCE: readonly ClientEvidence[] = ['port', 'address'];

/**
 * Why the client behind a translated `$remote_addr` is not known.
 * - `ambiguous`: the connections that may have carried the line are of several clients.
 * - `gap`: the record of connections does not cover the line's time.
 * - `no-flow`: no connection that was seen can have carried it.
 * - `realip`: nginx's realip module may have changed the address, and it is not certain that it did not.
 * - `other-node`: the address is another node's, which alone knows whom it translated.
 */
export type ClientReason = 'ambiguous' | 'gap' | 'no-flow' | 'realip' | 'other-node';
export const CLIENT_REASONS: readonly ClientReason[] = [
  'ambiguous',
  'gap',
  'no-flow',
  'realip',
  'other-node',
];

/** The client of a line whose `$remote_addr` is, or may be, an address that a node put in the place of the client's. */
export type Client = KnownClient | UnknownClient;

interface Translated {
  /** `$remote_addr`, canonical. */
  peer: string;
  /** Each place of `$remote_addr` in the line. */
  spans: readonly AddressSpan[];
}

export interface KnownClient extends Translated {
  evidence: ClientEvidence;
  address: string;
  /** The client's own port, where one connection is left. */
  port: number | undefined;
}

export interface UnknownClient extends Translated {
  reason: ClientReason;
}

export function isKnown(client: Client): client is KnownClient {
  return 'evidence' in client;
}
