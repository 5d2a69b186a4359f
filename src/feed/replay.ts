import type { SnapshotObservation } from '../capture/capture.ts';
import type { Flow } from '../model/feed.ts';
import type { KeptRecord } from './ring.ts';

/**
 * The connections that were open at a place in the feed, from the records after it (`kept`, in order) and the connections
 * open at their end (`flows`): those whose first record is not their opening. They include connections that have ended
 * since: each may have served requests until its end.
 *
 * `since`: an upper bound of the openings, ms since the epoch.
 */
export function openedBefore(
  kept: Iterable<Pick<KeptRecord, 'record'>>,
  flows: readonly SnapshotObservation[],
  since: number,
): SnapshotObservation[] {
  const openedAfter = new Set<string>();
  const before = new Map<string, Flow>();
  const ended = new Set<string>();
  const unreadable: SnapshotObservation[] = [];
  for (const { record } of kept) {
    if (record === undefined) continue;
    if (record.kind === 'tick' || record.kind === 'gap' || record.kind === 'name') continue;
    if (record.kind === 'client' || record.kind === 'clients' || record.kind === 'endpoint') continue;
    if (record.kind === 'line' || record.kind === 'untraced') continue;
    if (record.via === 'kernel-log') continue;
    // Its connection may have ended before.
    if (record.kind === 'close' && record.update) continue;
    const key = keyOf(record);
    if (record.kind === 'close' && !openedAfter.has(key) && !ended.has(key)) {
      ended.add(key);
      // The record of its own may be older than all that is kept.
      const { protocol, idsRead } = record;
      if (protocol)
        unreadable.push({
          ...flowOf(record),
          kind: 'unreadable',
          t: since,
          via: 'tap',
          protocol,
          ...(idsRead ? { idsRead } : {}),
        });
    }
    if (openedAfter.has(key) || before.has(key)) continue;
    if (record.kind === 'open' && !record.preexisting) openedAfter.add(key);
    else before.set(key, record);
  }
  for (const flow of flows) {
    const key = keyOf(flow);
    if (openedAfter.has(key)) continue;
    if (flow.kind === 'unreadable') unreadable.push(flow);
    else before.set(key, flow);
  }
  return [...[...before.values()].map((flow) => preexisting(flow, since)), ...unreadable];
}

/**
 * Those of the records that are valid until the end of their connection, where that is one of `open`: the end of any other is not told.
 * Not every record has the address that was dialed.
 */
export function* lastingOf(kept: Iterable<KeptRecord>, open: readonly Flow[]): Generator<KeptRecord> {
  const keys = new Set(open.map(keyOfEnds));
  for (const each of kept) {
    if (each.isPacked || !each.text.startsWith('{"kind":"unreadable"')) continue;
    const { record } = each;
    if (record?.kind === 'unreadable' && keys.has(keyOfEnds(record))) yield each;
  }
}

function preexisting(flow: Flow | SnapshotObservation, since: number): SnapshotObservation {
  if ('kind' in flow && flow.kind === 'open') return { ...flow, t: since, preexisting: true };
  return { kind: 'open', t: since, via: 'conntrack', preexisting: true, ...flowOf(flow) };
}

function flowOf({ src, sport, vip, vport, ip, port }: Flow): Flow {
  const upstream = vip === undefined || vport === undefined ? {} : { vip, vport };
  return { src, sport, ...upstream, ip, port };
}

function keyOfEnds({ src, sport, ip, port }: Flow): string {
  return `${src} ${sport} ${ip} ${port}`;
}

function keyOf({ src, sport, vip, vport, ip, port }: Flow): string {
  return `${src} ${sport} ${vip ?? ''} ${vport ?? ''} ${ip} ${port}`;
}
