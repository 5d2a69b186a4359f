import type { StatusAnswer } from '../http/sidecar/answers.ts';
import { get } from './api.ts';
import { byId, type Child, element } from './dom.ts';
import { percent, rate } from './format.ts';

const total = (counts: Record<string, number>): number =>
  Object.values(counts).reduce((sum, count) => sum + count, 0);

let before: { at: number; lines: number } | undefined;

/** Brings the header up to date. Throws where nobody answers. */
export async function refreshStatus(): Promise<void> {
  const status = await get<StatusAnswer>('status');
  const at = Date.parse(status.time);
  const lines = total(status.lines);
  const perSecond = before && at > before.at ? ((lines - before.lines) * 1000) / (at - before.at) : 0;
  before = { at, lines };
  const { direct = 0, 'not-ip': notIp = 0, unconnected = 0, ...unresolved } = status.reasons;
  const resolved = total(status.evidence);
  const wanted = resolved + total(unresolved);
  const lag = status.feed.lagMs;
  const chips = [
    chip('feed', status.feed.connected ? feedText(lag) : 'not connected', !status.feed.connected),
    ...status.sources.map((source) => sourceChip(source)),
    chip('lines/s', rate(perSecond)),
    chip(
      'pods found',
      wanted === 0 ? '–' : percent(resolved / wanted),
      false,
      `${resolved} of ${wanted} upstream attempts`,
    ),
  ];
  if (status.outputStalled) chips.push(chip('output', 'blocked', true));
  if (status.losses > 0) chips.push(chip('log', 'lines may be missing', true));
  byId('status').replaceChildren(...chips);
}

function feedText(lagMs: number | null): string {
  if (lagMs === null) return 'connected';
  return lagMs < 2_000 ? 'live' : `${(lagMs / 1000).toFixed(0)} s behind`;
}

function sourceChip({ source, gaps, since }: StatusAnswer['sources'][number]): HTMLElement {
  // The time before a source began is its first gap.
  const holes = Math.max(0, gaps - 1);
  const whole =
    since === null ? '' : `whole since ${new Date(since).toLocaleTimeString([], { hour12: false })}`;
  return chip(source, holes === 0 ? 'whole' : `${holes} ${holes === 1 ? 'gap' : 'gaps'}`, holes > 0, whole);
}

function chip(name: string, text: string, bad = false, title?: string): HTMLElement {
  const children: Child[] = [element('span', { class: 'dot' }), `${name} `, element('b', {}, text)];
  return element('li', { class: bad ? 'bad' : 'good', ...(title ? { title } : {}) }, ...children);
}
