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
  /** Behind the family's name. */
  suffix?: string;
}

interface Family {
  name: string;
  help: string;
  type: 'counter' | 'gauge' | 'histogram';
  read(): Iterable<Sample>;
}

const NO_LABELS = {};

/**
 * A set of metrics in the Prometheus text format, version 0.0.4
 * (https://prometheus.io/docs/instrumenting/exposition_formats). The values are plain numbers elsewhere, read at each
 * scrape, so that counting costs no more than an increment.
 */
export class Metrics {
  readonly contentType = 'text/plain; version=0.0.4; charset=utf-8';
  readonly #families: Family[] = [];

  /** A counter, read at each scrape. */
  counter(name: string, help: string, read: () => number): void {
    this.#add({ name, help, type: 'counter', read: () => [{ labels: NO_LABELS, value: read() }] });
  }

  /** A family of counters: `read` returns each label value with its count. */
  counters(name: string, help: string, label: string, read: () => Iterable<[string, number]>): void {
    this.#add({ name, help, type: 'counter', read: () => labelled(label, read()) });
  }

  gauge(name: string, help: string, read: () => number): void {
    this.#add({ name, help, type: 'gauge', read: () => [{ labels: NO_LABELS, value: read() }] });
  }

  gauges(name: string, help: string, label: string, read: () => Iterable<[string, number]>): void {
    this.#add({ name, help, type: 'gauge', read: () => labelled(label, read()) });
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
    this.#add({ name, help, type: 'counter', read });
  }

  /** A family of histograms that are counted elsewhere. `bounds` are upper bounds, inclusive, without +Inf. */
  histograms(
    name: string,
    help: string,
    bounds: readonly number[],
    read: () => Iterable<CountedHistogram>,
  ): void {
    this.#add({ name, help, type: 'histogram', read: () => buckets(bounds, read()) });
  }

  text(): string {
    let text = '';
    for (const { name, help, type, read } of this.#families) {
      text += `# HELP ${name} ${escaped(help)}\n# TYPE ${name} ${type}\n`;
      for (const { suffix = '', labels, value } of read())
        text += `${name}${suffix}${labelsText(labels)} ${numberText(value)}\n`;
    }
    return text;
  }

  #add(family: Family): void {
    if (this.#families.some(({ name }) => name === family.name))
      throw new Error(`${family.name} comes twice`);
    this.#families.push(family);
  }
}

function* labelled(label: string, counts: Iterable<[string, number]>): Generator<Sample> {
  for (const [name, value] of counts) yield { labels: { [label]: name }, value };
}

function* buckets(bounds: readonly number[], histograms: Iterable<CountedHistogram>): Generator<Sample> {
  for (const { labels, counts, sum } of histograms) {
    let below = 0;
    for (let b = 0; b <= bounds.length; b++) {
      below += counts[b]!;
      const le = b < bounds.length ? String(bounds[b]) : '+Inf';
      yield { suffix: '_bucket', labels: { ...labels, le }, value: below };
    }
    yield { suffix: '_sum', labels, value: sum };
    yield { suffix: '_count', labels, value: below };
  }
}

/** Infinity is `Inf`, with its sign. */
function numberText(value: number): string {
  return Math.abs(value) === Infinity ? `${value > 0 ? '+' : '-'}Inf` : String(value);
}

function labelsText(labels: Record<string, string>): string {
  let text = '';
  for (const name in labels)
    text += `${text === '' ? '{' : ','}${name}="${escaped(labels[name]!).replaceAll('"', '\\"')}"`;
  return text === '' ? '' : `${text}}`;
}

function escaped(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
}
