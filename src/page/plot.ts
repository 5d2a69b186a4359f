import { element } from './dom.ts';

/** The used part of uPlot, which the page loads as a separate script. */
interface UPlot {
  setData(data: (number | null)[][]): void;
  setSize(size: { width: number; height: number }): void;
  destroy(): void;
}
type UPlotConstructor = new (options: object, data: (number | null)[][], target: HTMLElement) => UPlot;

declare global {
  interface Window {
    uPlot?: UPlotConstructor;
  }
}

export interface Curve {
  label: string;
  color: string;
  /** Drawn thicker. */
  strong: boolean;
  values: (number | null)[];
}

const HEIGHT = 104;
const MIN_WIDTH = 160;

/** A small plot of the last 15 minutes. The table beside it has the numbers, so screen readers get a summary. */
export class Plot {
  readonly node: HTMLElement;
  readonly #title: string;
  readonly #unit: string;
  readonly #canvas = element('div');
  #plot: UPlot | undefined;
  #shape = '';

  constructor(title: string, unit: string) {
    this.#title = title;
    this.#unit = unit;
    this.#canvas.setAttribute('role', 'img');
    this.node = element('figure', { class: 'plot' }, element('figcaption', {}, title), this.#canvas);
    new ResizeObserver(() => this.#plot?.setSize(this.#size)).observe(this.node);
  }

  /** `times`: seconds since the epoch, in step with the values of each curve. */
  draw(times: number[], curves: readonly Curve[]): void {
    const { uPlot } = window;
    if (!uPlot) return;
    const data = [times, ...curves.map(({ values }) => values)];
    const shape = `${document.documentElement.dataset.theme}${curves.map((c) => c.label + c.color + c.strong).join()}`;
    if (shape !== this.#shape || !this.#plot) {
      this.#shape = shape;
      this.#plot?.destroy();
      this.#plot = new uPlot(this.#options(curves), data, this.#canvas);
    } else {
      this.#plot.setData(data);
    }
    const last = curves.map(({ label, values }) => `${label} ${latest(values)}`);
    this.#canvas.setAttribute('aria-label', `${this.#title}, last 15 minutes. Latest: ${last.join(', ')}`);
  }

  /** Makes the next call draw the plot again, as after a change of colours. */
  reset(): void {
    this.#shape = '';
  }

  get #size(): { width: number; height: number } {
    return { width: Math.max(MIN_WIDTH, this.node.clientWidth), height: HEIGHT };
  }

  #options(curves: readonly Curve[]): object {
    const { color, borderTopColor } = getComputedStyle(this.node);
    const grid = { stroke: borderTopColor, width: 1 };
    const font = '10px system-ui, "DejaVu Sans", sans-serif';
    const axis = { stroke: color, grid, ticks: { show: false }, font };
    return {
      ...this.#size,
      legend: { show: false },
      cursor: { show: false },
      // Half a label of the time is to the right of its tick.
      padding: [6, 18, 0, 0],
      scales: { y: { range: (_: unknown, __: number, max: number) => [0, max > 0 ? max * 1.1 : 1] } },
      axes: [
        {
          ...axis,
          size: 22,
          gap: 6,
          space: 60,
          incrs: [60, 300, 900],
          values: (_: unknown, splits: number[]) =>
            splits.map((seconds) =>
              new Date(seconds * 1000).toLocaleTimeString([], {
                hour: '2-digit',
                minute: '2-digit',
                hour12: false,
              }),
            ),
        },
        {
          ...axis,
          size: 46,
          gap: 3,
          space: 24,
          values: (_: unknown, splits: number[]) => splits.map((value) => `${short(value)}${this.#unit}`),
        },
      ],
      series: [
        {},
        ...curves.map(({ label, color, strong }) => ({
          label,
          stroke: color,
          width: strong ? 2.5 : 1.25,
          points: { show: false },
          spanGaps: false,
        })),
      ],
    };
  }
}

function latest(values: readonly (number | null)[]): string {
  // The last step is not complete.
  for (let i = values.length - 2; i >= 0; i--) {
    const value = values[i];
    if (value !== null && value !== undefined) return short(value);
  }
  return 'none';
}

function short(value: number): string {
  return value >= 1000 ? `${value / 1000}k` : String(Math.round(value * 100) / 100);
}
