import type { StatusAnswer } from '../http/sidecar/answers.ts';
import { get } from './api.ts';
import { byId, type Child, element } from './dom.ts';
import { percent, rate } from './format.ts';

/** Attempts within the window of the figures. */
export interface Found {
  resolved: number;
  unresolved: number;
  windowSeconds: number;
}

/** `none`: there is no data yet, so no colour may mean that all is well. */
type Level = 'good' | 'warn' | 'bad' | 'none';

/** Minimum shares of attempts with a pod for a green and for an amber light. */
const FOUND_GOOD = 0.99;
const FOUND_FAIR = 0.9;
/** Minimum share of lines that do not fit for a red light. */
const MANY_UNFIT = 0.01;
const LAG_WARN_MS = 2_000;
const LAG_BAD_MS = 10_000;

const total = (counts: Record<string, number>): number =>
  Object.values(counts).reduce((sum, count) => sum + count, 0);

/** The last counts of lines, the oldest first: one refresh may fall between two bursts. */
const counted: { at: number; lines: number }[] = [];
const RATE_OVER_MS = 10_000;

/** Lines per second; undefined until there are two counts. A restarted sidecar counts from zero. */
function ratePerSecond(at: number, lines: number): number | undefined {
  if (lines < (counted.at(-1)?.lines ?? 0)) counted.length = 0;
  counted.push({ at, lines });
  while (counted.length > 2 && counted[1]!.at <= at - RATE_OVER_MS) counted.shift();
  const [first] = counted;
  return first && at > first.at ? ((lines - first.lines) * 1000) / (at - first.at) : undefined;
}

/** Updates the header. Throws if realpod does not answer. */
export async function refreshStatus(found: Found): Promise<void> {
  const status = await get<StatusAnswer>('status');
  const perSecond = ratePerSecond(Date.parse(status.time), total(status.lines));
  const chips = [
    feedChip(status.feed),
    ...status.sources.map(sourceChip),
    foundChip(found),
    formatChip(status.lines),
  ];
  if (status.outputStalled) chips.push(chip('bad', 'output', 'blocked'));
  if (status.losses > 0) chips.push(chip('bad', 'log', 'lines may be missing'));
  chips.push(
    element('li', {}, element('b', {}, perSecond === undefined ? '–' : rate(perSecond)), ' lines/s'),
  );
  byId('status').replaceChildren(...chips);
}

function feedChip({ connected, lagMs }: StatusAnswer['feed']): HTMLElement {
  if (!connected) return chip('bad', 'feed', 'not connected');
  if (lagMs === null) return chip('none', 'feed', 'connected, nothing yet');
  if (lagMs < LAG_WARN_MS) return chip('good', 'feed', 'live');
  return chip(lagMs < LAG_BAD_MS ? 'warn' : 'bad', 'feed', `${(lagMs / 1000).toFixed(0)} s behind`);
}

function sourceChip({ source, gaps, since }: StatusAnswer['sources'][number]): HTMLElement {
  // The first gap of a source is the time before its start.
  const holes = Math.max(0, gaps - 1);
  const complete =
    since === null ? '' : `complete since ${new Date(since).toLocaleTimeString([], { hour12: false })}`;
  if (since === null) return chip('none', source, 'nothing yet');
  return holes === 0
    ? chip('good', source, 'complete', complete)
    : chip('warn', source, `${holes} ${holes === 1 ? 'gap' : 'gaps'}`, complete);
}

function foundChip({ resolved, unresolved, windowSeconds }: Found): HTMLElement {
  const all = resolved + unresolved;
  if (all === 0) return chip('none', 'pods found', 'no requests');
  const share = resolved / all;
  const level = share >= FOUND_GOOD ? 'good' : share >= FOUND_FAIR ? 'warn' : 'bad';
  const title = `${resolved} of ${all} upstream attempts in the last ${windowSeconds / 60} min`;
  // 399 of 400 are not all.
  const text = unresolved > 0 && share > 0.995 ? '> 99 %' : percent(share);
  return chip(level, 'pods found', text, title);
}

/** Lines that do not fit the log format are written unchanged and have no attempts. */
function formatChip(lines: StatusAnswer['lines']): HTMLElement {
  const unfit = (lines.format ?? 0) + (lines['too-long'] ?? 0);
  const all = total(lines) - (lines.empty ?? 0);
  if (all === 0) return chip('none', 'log format', 'no lines yet');
  const title = `${unfit} of ${all} lines since realpod started`;
  if (unfit === 0) return chip('good', 'log format', 'fits', title);
  const share = unfit / all;
  return chip(share >= MANY_UNFIT ? 'bad' : 'warn', 'log format', `${percent(share)} do not fit`, title);
}

function chip(level: Level, name: string, text: string, title?: string): HTMLElement {
  const children: Child[] = [element('span', { class: 'dot' }), `${name} `, element('b', {}, text)];
  return element('li', { class: level, ...(title ? { title } : {}) }, ...children);
}
