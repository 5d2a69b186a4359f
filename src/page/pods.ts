import type { PodAnswer, PodsAnswer, UnresolvedAnswer } from '../http/sidecar/answers.ts';
import { get } from './api.ts';
import { byId, element, setText } from './dom.ts';
import { filterName, podLabel } from './format.ts';
import { ServiceCard } from './service-card.ts';
import type { Found } from './status.ts';

const cards = new Map<string, ServiceCard>();
let outlierText = '';

interface Group {
  pods: PodAnswer[];
  unresolved: UnresolvedAnswer | undefined;
}

/**
 * Updates the table of pods and the plots, and returns how many attempts have a pod. `onPod`: a pod was chosen. Throws if
 * realpod does not answer.
 */
export async function refreshPods(onPod: (pod: string) => void): Promise<Found> {
  const window = document.querySelector<HTMLInputElement>('#window input:checked')!.value;
  const answer = await get<PodsAnswer>(`pods?series=true&window=${window}`);
  const groups = groupsOf(answer);
  const place = byId('services');
  place.querySelector('.empty')?.toggleAttribute('hidden', groups.size > 0);
  for (const [upstream, card] of cards) {
    if (groups.has(upstream)) continue;
    card.node.remove();
    cards.delete(upstream);
  }
  for (const [upstream, { pods, unresolved }] of groups) {
    let card = cards.get(upstream);
    if (!card) {
      card = new ServiceCard(upstream, onPod);
      cards.set(upstream, card);
      place.append(card.node);
    }
    card.show(pods, unresolved, answer);
  }
  showOutliers(answer, onPod);
  setText(byId('timed'), timedText(answer));
  showNames(answer.pods);
  return {
    resolved: answer.pods.reduce((sum, { recent }) => sum + recent.requests, 0),
    unresolved: answer.unresolved.reduce((sum, { requests }) => sum + requests, 0),
    windowSeconds: answer.windowSeconds,
  };
}

/** By upstream, including those without a known pod. */
function groupsOf({ pods, unresolved }: PodsAnswer): Map<string, Group> {
  const groups = new Map<string, Group>();
  const of = (upstream: string): Group => {
    const group = groups.get(upstream) ?? { pods: [], unresolved: undefined };
    groups.set(upstream, group);
    return group;
  };
  for (const pod of pods) of(pod.upstream).pods.push(pod);
  for (const each of unresolved) of(each.upstream).unresolved = each;
  return groups;
}

/** Draws the plots again after a change of colours. */
export function recolorPlots(): void {
  for (const card of cards.values()) card.recolor();
}

function showOutliers({ pods, windowSeconds }: PodsAnswer, onPod: (pod: string) => void): void {
  const marked = pods.filter((pod) => pod.outlier.length > 0);
  const span = `last ${windowSeconds / 60} min`;
  // Screen readers announce a change of the list, not of its percentages.
  const text = marked.map((pod) => podLabel(pod) + pod.outlier.map(({ kind }) => kind).join()).join();
  const list = byId('outliers');
  const items = marked.map((pod) =>
    element(
      'li',
      {},
      element(
        'button',
        { type: 'button', class: 'link', onclick: () => onPod(filterName(pod)) },
        element('b', {}, podLabel(pod)),
      ),
      ` of ${pod.service || pod.upstream}: ${pod.outlier.map(({ text }) => text).join('; ')} (${span})`,
    ),
  );
  if (text !== outlierText) {
    outlierText = text;
    list.replaceChildren(...items);
  } else {
    items.forEach((item, i) => {
      const shown = list.children[i];
      if (shown?.lastChild && item.lastChild) setText(shown.lastChild, item.lastChild.textContent ?? '');
    });
  }
}

function timedText({ timedBy }: PodsAnswer): string {
  if (timedBy === null) return 'Times need $upstream_response_time or $request_time in the log.';
  return timedBy === 'request_time'
    ? 'Times are $request_time, which includes the time to send the answer to the client.'
    : 'Times are $upstream_response_time.';
}

function showNames(pods: readonly PodAnswer[]): void {
  const names = [...new Set(pods.map(filterName))].sort();
  const list = byId('pod-names');
  if (list.childElementCount === names.length) return;
  list.replaceChildren(...names.map((name) => element('option', { value: name })));
}
