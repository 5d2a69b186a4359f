import { Counter, Gauge, Histogram, Registry } from 'prom-client';

export interface LabelledCount {
  labels: Record<string, string>;
  value: number;
}

/** `counts`: values in each bucket, one more than there are bounds; not cumulative. */
export interface CountedHistogram {
  labels: Record<string, string>;
  counts: ArrayLike<number>;
  sum: number;
}

interface Sample extends LabelledCount {
  metricName?: string;
}

/**
 * A set of metrics in the Prometheus text format. The values are plain numbers elsewhere, read at each scrape, so that
 * counting costs no more than an increment.
 */
export class Metrics {
  readonly #registry = new Registry();

  /** A counter, read at each scrape. */
  counter(name: string, help: string, read: () => number): void {
    const counter = new Counter({
      name,
      help,
      registers: [this.#registry],
      collect() {
        counter.reset();
        counter.inc(read());
      },
    });
  }

  /** A family of counters: `read` returns each label value with its count. */
  counters(name: string, help: string, label: string, read: () => Iterable<[string, number]>): void {
    const counter = new Counter({
      name,
      help,
      labelNames: [label],
      registers: [this.#registry],
      collect() {
        counter.reset();
        for (const [value, count] of read()) counter.inc({ [label]: value }, count);
      },
    });
  }

  gauge(name: string, help: string, read: () => number): void {
    const gauge = new Gauge({
      name,
      help,
      registers: [this.#registry],
      collect() {
        gauge.set(read());
      },
    });
  }

  gauges(name: string, help: string, label: string, read: () => Iterable<[string, number]>): void {
    const gauge = new Gauge({
      name,
      help,
      labelNames: [label],
      registers: [this.#registry],
      collect() {
        gauge.reset();
        for (const [value, count] of read()) gauge.set({ [label]: value }, count);
      },
    });
  }

  /** What keeps this process awake, by kind (`process.getActiveResourcesInfo`): timers, sockets, requests to the system. */
  activeResources(name: string): void {
    this.gauges(name, 'Timers, sockets and the like that the process holds, by kind.', 'kind', () => {
      const counts = new Map<string, number>([['Timeout', 0]]);
      for (const kind of process.getActiveResourcesInfo()) counts.set(kind, (counts.get(kind) ?? 0) + 1);
      return counts;
    });
  }

  /** A family of counters with several labels. */
  labelled(name: string, help: string, read: () => Iterable<LabelledCount>): void {
    this.#register(name, help, 'counter', () => [...read()]);
  }

  /** A family of histograms that are counted elsewhere. `bounds` are upper bounds, inclusive, without +Inf. */
  histograms(
    name: string,
    help: string,
    bounds: readonly number[],
    read: () => Iterable<CountedHistogram>,
  ): void {
    this.#register(name, help, 'histogram', () => {
      const values: Sample[] = [];
      for (const { labels, counts, sum } of read()) {
        let below = 0;
        for (let b = 0; b <= bounds.length; b++) {
          below += counts[b]!;
          const le = b < bounds.length ? String(bounds[b]) : '+Inf';
          values.push({ metricName: `${name}_bucket`, labels: { ...labels, le }, value: below });
        }
        values.push({ metricName: `${name}_sum`, labels, value: sum });
        values.push({ metricName: `${name}_count`, labels, value: below });
      }
      return values;
    });
  }

  /** prom-client needs only a metric's `get()`; its own classes would keep a second copy of every count. */
  #register(name: string, help: string, type: 'counter' | 'histogram', values: () => Sample[]): void {
    const metric = { name, get: async () => ({ name, help, type, values: values(), aggregator: 'sum' }) };
    this.#registry.registerMetric(metric as unknown as Gauge);
  }

  histogram(name: string, help: string, buckets: number[]): (value: number, count: number) => void {
    const histogram = new Histogram({ name, help, buckets, registers: [this.#registry] });
    return (value, count) => {
      for (let i = 0; i < count; i++) histogram.observe(value);
    };
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  text(): Promise<string> {
    return this.#registry.metrics();
  }
}
