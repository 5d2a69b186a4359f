import type { PodAnswer, PodsAnswer, UnresolvedAnswer } from '../http/sidecar/answers.ts';
import { PodColors } from './color.ts';
import { element, setText } from './dom.ts';
import { REASON } from './explain.ts';
import { address, ago, filterName, milliseconds, percent, podLabel, rate } from './format.ts';
import { type Curve, Plot } from './plot.ts';

/** Limit of curves in a plot: the busiest pods and the outliers. */
const MAX_CURVES = 8;

const COLUMNS = ['Pod', 'req/s', 'Share', 'Errors', 'p50 ms', 'p95 ms', 'p99 ms', 'Last seen'];

/** The pods behind one upstream address: a table and three plots. */
export class ServiceCard {
  readonly node: HTMLElement;
  readonly #onPod: (pod: string) => void;
  readonly #title = element('h3');
  readonly #totals = element('span', { class: 'note' });
  readonly #rows = element('tbody');
  readonly #byPod = new Map<string, PodRow>();
  readonly #plots = [new Plot('Requests/s', ''), new Plot('Errors', ' %'), new Plot('p95', ' ms')] as const;
  readonly #colors = new PodColors();
  #unresolved: HTMLElement | undefined;

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

  /** `unresolved`: the attempts without a known pod. */
  show(pods: readonly PodAnswer[], unresolved: UnresolvedAnswer | undefined, answer: PodsAnswer): void {
    const known = pods[0] ?? unresolved;
    if (!known) return;
    const { service, namespace, upstream } = known;
    this.#title.replaceChildren(
      service || upstream,
      element('span', { class: 'where' }, service ? [namespace, upstream].filter(Boolean).join(' · ') : ''),
    );
    const sum = (of: (row: { requests: number; errors: number; rate: number }) => number): number =>
      [...pods.map(({ recent }) => recent), ...(unresolved ? [unresolved] : [])].reduce(
        (all, row) => all + of(row),
        0,
      );
    const requests = sum((row) => row.requests);
    const errors = sum((row) => row.errors);
    setText(
      this.#totals,
      `${pods.length} ${pods.length === 1 ? 'pod' : 'pods'}, ${rate(sum((row) => row.rate))} req/s, ${percent(requests === 0 ? 0 : errors / requests)} errors`,
    );
    this.#showRows(pods, Date.parse(answer.time));
    this.#showUnresolved(unresolved);
    this.#draw(pods, answer);
  }

  recolor(): void {
    for (const plot of this.#plots) plot.reset();
  }

  #showRows(pods: readonly PodAnswer[], now: number): void {
    const keys = pods.map(key);
    this.#colors.assign(keys);
    for (const [known, row] of this.#byPod) {
      if (keys.includes(known)) continue;
      row.node.remove();
      this.#byPod.delete(known);
    }
    // In the order of their first request: rows that move are hard to read.
    for (const pod of pods) {
      let row = this.#byPod.get(key(pod));
      if (!row) {
        row = new PodRow(pod, this.#colors.of(key(pod)), this.#onPod);
        this.#byPod.set(key(pod), row);
        this.#rows.append(row.node);
      }
      row.show(pod, now);
    }
  }

  /** Always the last row: without it, the shares would be shares of the resolved attempts. */
  #showUnresolved(unresolved: UnresolvedAnswer | undefined): void {
    this.#unresolved?.remove();
    this.#unresolved = undefined;
    if (!unresolved) return;
    const { requests, errors, rate: perSecond, share, reason } = unresolved;
    const name = element(
      'th',
      { scope: 'row', title: REASON[reason] ?? reason },
      element('span', { class: 'swatch none' }),
      'unresolved',
      element('span', { class: 'where' }, `mostly ${reason}`),
    );
    const cells = [rate(perSecond), percent(share), percent(errors / requests), '–', '–', '–', ''];
    this.#unresolved = element(
      'tr',
      { class: 'unresolved' },
      name,
      ...cells.map((text, i) => numberCell(i + 1, text)),
    );
    this.#rows.append(this.#unresolved);
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
        color: this.#colors.of(key(pod)),
        strong: pod.outlier.length > 0,
        values: pod.series ? values(pod.series) : [],
      }));
    const [requests, errors, p95] = this.#plots;
    // An incomplete step would look like a drop: the present one, and those before the first count.
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

/** A cell of the column `c`. On a narrow page without column heads, it has its own label. */
function numberCell(c: number, text = ''): HTMLTableCellElement {
  const cell = element('td', { class: 'number' }, text);
  cell.dataset.label = COLUMNS[c]!;
  return cell;
}

class PodRow {
  readonly node: HTMLTableRowElement;
  readonly #badges = element('span');
  readonly #rate = numberCell(1);
  readonly #bar = element('progress', { class: 'share', max: '1' });
  readonly #share = element('span');
  readonly #errors = numberCell(3);
  readonly #p50 = numberCell(4);
  readonly #p95 = numberCell(5);
  readonly #p99 = numberCell(6);
  readonly #seen = numberCell(7);

  constructor(pod: PodAnswer, color: string, onPod: (pod: string) => void) {
    const swatch = element('span', { class: 'swatch' });
    swatch.style.background = color;
    this.#bar.setAttribute('aria-hidden', 'true');
    const where = [pod.pod ? address(pod.ip, pod.port) : '', pod.node].filter(Boolean).join(' · ');
    const name = element(
      'button',
      { type: 'button', class: 'link', title: 'Show its lines', onclick: () => onPod(filterName(pod)) },
      podLabel(pod),
    );
    const share = numberCell(2);
    share.append(this.#bar, this.#share);
    this.#seen.classList.add('quiet');
    this.node = element(
      'tr',
      {},
      element('th', { scope: 'row' }, swatch, name, this.#badges, element('span', { class: 'where' }, where)),
      this.#rate,
      share,
      this.#errors,
      this.#p50,
      this.#p95,
      this.#p99,
      this.#seen,
    );
  }

  show({ recent, outlier, tooFew, lastSeen }: PodAnswer, now: number): void {
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
    for (const cell of [this.#p50, this.#p95]) cell.classList.toggle('bad-value', kinds.includes('latency'));
    this.node.classList.toggle('outlier', kinds.length > 0);
    const badges = kinds.map((kind) => (kind === 'errors' ? 'failing' : 'slow'));
    const texts = tooFew ? ['too few requests'] : badges;
    if (this.#badges.textContent !== texts.join('')) {
      this.#badges.replaceChildren(
        ...texts.map((text) => element('span', { class: tooFew ? 'badge few' : 'badge' }, text)),
      );
    }
  }
}

function key({ ip, port, pod, namespace }: PodAnswer): string {
  return `${ip} ${port} ${namespace}/${pod}`;
}
