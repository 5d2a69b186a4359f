import type { PodAnswer, PodsAnswer } from '../http/sidecar/answers.ts';
import { get } from './api.ts';
import { byId, element, setText } from './dom.ts';
import { filterName, percent, podLabel } from './format.ts';
import { ServiceCard } from './service-card.ts';

const cards = new Map<string, ServiceCard>();
let outlierText = '';

/** Brings the table of pods and the plots up to date. `onPod`: a pod was chosen. Throws where nobody answers. */
export async function refreshPods(onPod: (pod: string) => void): Promise<void> {
  const window = document.querySelector<HTMLInputElement>('#window input:checked')!.value;
  const answer = await get<PodsAnswer>(`pods?series=true&window=${window}`);
  const groups = new Map<string, PodAnswer[]>();
  for (const pod of answer.pods) {
    const group = groups.get(pod.upstream);
    if (group) group.push(pod);
    else groups.set(pod.upstream, [pod]);
  }
  const place = byId('services');
  place.querySelector('.empty')?.toggleAttribute('hidden', groups.size > 0);
  for (const [upstream, card] of cards) {
    if (groups.has(upstream)) continue;
    card.node.remove();
    cards.delete(upstream);
  }
  for (const [upstream, pods] of groups) {
    let card = cards.get(upstream);
    if (!card) {
      card = new ServiceCard(upstream, onPod);
      cards.set(upstream, card);
      place.append(card.node);
    }
    card.show(pods, answer);
  }
  showOutliers(answer, onPod);
  setText(byId('timed'), timedText(answer));
  showNames(answer.pods);
}

/** After a change of colours. */
export function recolorPlots(): void {
  for (const card of cards.values()) card.recolor();
}

function showOutliers({ pods, windowSeconds }: PodsAnswer, onPod: (pod: string) => void): void {
  const marked = pods.filter((pod) => pod.outlier.length > 0);
  const texts = marked.map((pod) => pod.outlier.map((outlier) => sentence(outlier)).join(' '));
  const span = `${windowSeconds / 60} min`;
  // Announced when it changes, not when its percentages do.
  const text = marked.map((pod) => podLabel(pod) + pod.outlier.map(({ kind }) => kind).join()).join();
  const list = byId('outliers');
  const items = marked.map((pod, i) =>
    element(
      'li',
      {},
      element(
        'button',
        { type: 'button', class: 'link', onclick: () => onPod(filterName(pod)) },
        element('b', {}, podLabel(pod)),
      ),
      ` of ${pod.service || pod.upstream} stands out: ${texts[i]} (${span})`,
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

function sentence({ kind, share, siblings, slowMs }: PodAnswer['outlier'][number]): string {
  const what = kind === 'errors' ? 'fail' : `take ${slowMs} ms or more`;
  return `${percent(share)} of its requests ${what}, ${percent(siblings)} of its siblings’.`;
}

function timedText({ timedBy }: PodsAnswer): string {
  if (timedBy === null) return 'Times need $upstream_response_time or $request_time in the log.';
  return timedBy === 'request_time'
    ? 'Times are $request_time, which includes the client’s share.'
    : 'Times are $upstream_response_time.';
}

function showNames(pods: readonly PodAnswer[]): void {
  const names = [...new Set(pods.map(filterName))].sort();
  const list = byId('pod-names');
  if (list.childElementCount === names.length) return;
  list.replaceChildren(...names.map((name) => element('option', { value: name })));
}
