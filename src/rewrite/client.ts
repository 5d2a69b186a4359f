import { type Client, isKnown } from '../model/client.ts';
import type { Edits } from './edits.ts';

/**
 * `--client`: puts the real client in the place of `$remote_addr`, or beside the line's other fields, or leaves it out.
 */
export type ClientMode = 'replace' | 'annotate' | 'off';

/** Replaces each `$remote_addr` of the line by the client, where that is known. The line's other edits are there already. */
export function replaceClient(edits: Edits, client: Client | undefined): void {
  if (client === undefined || !isKnown(client)) return;
  for (const { start, end } of client.spans) edits.insert(start, end, client.address);
}

/** ` client=ADDRESS`, or ` client=-:REASON`. */
export function clientNote(client: Client): string {
  return ` client=${isKnown(client) ? client.address : `-:${client.reason}`}`;
}
