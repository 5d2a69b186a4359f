import type { PodAnswer, PodsAnswer } from '../http/sidecar/answers.ts';
import { element, setText } from './dom.ts';
import { address, ago, filterName, milliseconds, percent, podLabel, rate } from './format.ts';
import { type Curve, Plot } from './plot.ts';

/** Told apart in both themes and by colour-blind readers (after Okabe and Ito). */
const COLORS = ['#0072b2', '#e69f00', '#009e73', '#cc79a7', '#56b4e9', '#d55e00', '#8c7ae6', '#7f8c8d'];
/** Curves in a plot: the busiest pods, and those that stand out. */
const MAX_CURVES = 8;

const COLUMNS = ['Pod', 'req/s', 'Share', 'Errors', 'p50 ms', 'p95 ms', 'p99 ms', 'Last seen'];

/** The pods behind one dialled address: a table and three plots. */
export class ServiceCard {
  readonly node: HTMLElement;
  readonly #onPod: (pod: string) => void;
  readonly #title = element('h3');
  readonly #totals = element('span', { class: 'note' });
  readonly #rows = element('tbody');
  readonly #byPod = new Map<string, PodRow>();
  readonly #plots = [new Plot('Requests/s', ''), new Plot('Errors', ' %'), new Plot('p95', ' ms')] as const;
  #colorsGiven = 0;

  constructor(upstream: string, onPod: (pod: string) => void) {
    this.#onPod = onPod;
    const head = element(
      'tr',
      {},
      ...COLUMNS.map((name, i) =>
        element('th', { scope: 'col', ...(i > 0 ? { class: 'number' } : {}) }, name),
      ),
    );
    const table = element(
      'table',
      {},
      element('caption', { class: 'hidden' }, `Pods behind ${upstream}`),
      element('thead', {}, head),
      this.#rows,
    );
    this.node = element(
      'article',
      { class: 'card', label: `Service ${upstream}` },
      element('div', { class: 'head' }, this.#title, this.#totals),
      element('div', { class: 'wide' }, table),
      element('div', { class: 'plots' }, ...this.#plots.map((plot) => plot.node)),
    );
  }

  show(pods: readonly PodAnswer[], answer: PodsAnswer): void {
    const [first] = pods;
    if (!first) return;
    const { service, namespace, upstream } = first;
    this.#title.replaceChildren(
      service || upstream,
      element('span', { class: 'where' }, service ? [namespace, upstream].filter(Boolean).join(' · ') : ''),
    );
    const requests = pods.reduce((sum, pod) => sum + pod.recent.requests, 0);
    const errors = pods.reduce((sum, pod) => sum + pod.recent.errors, 0);
    const perSecond = pods.reduce((sum, pod) => sum + pod.recent.rate, 0);
    setText(
      this.#totals,
      `${pods.length} ${pods.length === 1 ? 'pod' : 'pods'}, ${rate(perSecond)} req/s, ${percent(requests === 0 ? 0 : errors / requests)} errors`,
    );
    this.#showRows(pods, Date.parse(answer.time));
    this.#draw(pods, answer);
  }

  recolor(): void {
    for (const plot of this.#plots) plot.reset();
  }

  #showRows(pods: readonly PodAnswer[], now: number): void {
    const keys = pods.map(key);
    for (const [known, row] of this.#byPod) {
      if (keys.includes(known)) continue;
      row.node.remove();
      this.#byPod.delete(known);
    }
    // In the order in which they were first seen: rows that change places cannot be read.
    for (const pod of pods) {
      let row = this.#byPod.get(key(pod));
      if (!row) {
        row = new PodRow(pod, COLORS[this.#colorsGiven++ % COLORS.length]!, this.#onPod);
        this.#byPod.set(key(pod), row);
        this.#rows.append(row.node);
      }
      row.show(pod, now);
    }
  }

  #draw(pods: readonly PodAnswer[], { since, seriesFrom = 0, seriesStepMs = 1 }: PodsAnswer): void {
    const stand = pods.filter((pod) => pod.outlier.length > 0);
    const others = pods.filter((pod) => pod.outlier.length === 0);
    const chosen = [...stand, ...others].slice(0, MAX_CURVES).reverse();
    const steps = chosen[0]?.series?.requests.length ?? 0;
    const times = Array.from({ length: steps }, (_, i) => (seriesFrom + i * seriesStepMs) / 1000);
    const curves = (values: (series: NonNullable<PodAnswer['series']>) => (number | null)[]): Curve[] =>
      chosen.map((pod) => ({
        label: podLabel(pod),
        color: this.#byPod.get(key(pod))?.color ?? COLORS[0]!,
        strong: pod.outlier.length > 0,
        values: pod.series ? values(pod.series) : [],
      }));
    const [requests, errors, p95] = this.#plots;
    // A step that is not whole would look like a drop: the one under way, and those before anything was counted.
    const first = Math.ceil(((since ?? Infinity) - seriesFrom) / seriesStepMs);
    requests.draw(
      times,
      curves((series) =>
        series.requests.map((count, i) =>
          i < first || i === steps - 1 ? null : (count * 1000) / seriesStepMs,
        ),
      ),
    );
    errors.draw(
      times,
      curves((series) =>
        series.errors.map((count, i) =>
          series.requests[i] === 0 ? null : (count * 100) / series.requests[i]!,
        ),
      ),
    );
    p95.draw(
      times,
      curves((series) => series.p95Ms),
    );
  }
}

class PodRow {
  readonly node: HTMLTableRowElement;
  readonly color: string;
  readonly #badges = element('span');
  readonly #rate = element('td', { class: 'number' });
  readonly #bar = element('progress', { class: 'share', max: '1' });
  readonly #share = element('span');
  readonly #errors = element('td', { class: 'number' });
  readonly #p50 = element('td', { class: 'number' });
  readonly #p95 = element('td', { class: 'number' });
  readonly #p99 = element('td', { class: 'number' });
  readonly #seen = element('td', { class: 'number quiet' });

  constructor(pod: PodAnswer, color: string, onPod: (pod: string) => void) {
    this.color = color;
    const swatch = element('span', { class: 'swatch' });
    swatch.style.background = color;
    this.#bar.setAttribute('aria-hidden', 'true');
    const where = [pod.pod ? address(pod.ip, pod.port) : '', pod.node].filter(Boolean).join(' · ');
    const name = element(
      'button',
      { type: 'button', class: 'link', title: 'Show its lines', onclick: () => onPod(filterName(pod)) },
      podLabel(pod),
    );
    this.node = element(
      'tr',
      {},
      element('th', { scope: 'row' }, swatch, name, this.#badges, element('span', { class: 'where' }, where)),
      this.#rate,
      element('td', { class: 'number' }, this.#bar, this.#share),
      this.#errors,
      this.#p50,
      this.#p95,
      this.#p99,
      this.#seen,
    );
  }

  show({ recent, outlier, lastSeen }: PodAnswer, now: number): void {
    setText(this.#rate, rate(recent.rate));
    this.#bar.value = recent.share;
    setText(this.#share, percent(recent.share));
    setText(this.#errors, percent(recent.errorRate));
    setText(this.#p50, milliseconds(recent.p50Ms));
    setText(this.#p95, milliseconds(recent.p95Ms));
    setText(this.#p99, milliseconds(recent.p99Ms));
    setText(this.#seen, ago(Date.parse(lastSeen), now));
    const kinds = outlier.map(({ kind }) => kind);
    this.#errors.classList.toggle('bad-value', kinds.includes('errors'));
    this.#p95.classList.toggle('bad-value', kinds.includes('latency'));
    this.node.classList.toggle('outlier', kinds.length > 0);
    const badges = kinds.map((kind) => (kind === 'errors' ? 'failing' : 'slow'));
    if (this.#badges.textContent !== badges.join('')) {
      this.#badges.replaceChildren(...badges.map((text) => element('span', { class: 'badge' }, text)));
    }
  }
}

function key({ ip, port, pod, namespace }: PodAnswer): string {
  return `${ip} ${port} ${namespace}/${pod}`;
}
