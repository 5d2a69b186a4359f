import assert from 'node:assert/strict';

export interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

export interface Family {
  type: string;
  samples: Sample[];
}

const NAME = '[a-zA-Z_:][a-zA-Z0-9_:]*';
const SAMPLE = new RegExp(`^(${NAME})(?:\\{(.*)\\})? (\\S+)$`);
const LABEL = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\\\|\\"|\\n)*)"(?:,|$)/;

/**
 * The Prometheus text format, version 0.0.4, strictly: HELP and TYPE once and before the samples, no family twice, no
 * sample twice, histograms whole and rising. Throws where the text is anything else.
 */
export function parseMetrics(text: string): Map<string, Family> {
  assert.ok(text.endsWith('\n'), 'the last line has no newline');
  const families = new Map<string, Family>();
  const seen = new Set<string>();
  let current: { name: string; helped: boolean; family: Family | undefined } | undefined;
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const comment = new RegExp(`^# (HELP|TYPE) (${NAME}) (.+)$`).exec(line);
    if (comment) {
      const [, what, name, rest] = comment as unknown as [string, string, string, string];
      if (what === 'HELP') {
        assert.ok(!families.has(name), `${name} comes twice`);
        current = { name, helped: true, family: undefined };
      } else {
        assert.equal(current?.name, name, `TYPE of ${name} without HELP`);
        assert.match(rest, /^(counter|gauge|histogram)$/);
        current!.family = { type: rest, samples: [] };
        families.set(name, current!.family);
      }
      continue;
    }
    const match = SAMPLE.exec(line);
    assert.ok(match, `not a sample: ${line}`);
    const [, name, labelText, value] = match as unknown as [string, string, string | undefined, string];
    const family = current?.family;
    assert.ok(family, `${name} without TYPE`);
    const suffix = name.slice(current!.name.length);
    assert.ok(
      name.startsWith(current!.name) &&
        (family.type === 'histogram' ? ['_bucket', '_sum', '_count'] : ['']).includes(suffix),
      `${name} among ${current!.name}`,
    );
    assert.match(value, /^([+-]?\d+(\.\d+)?(e[+-]?\d+)?|\+Inf|NaN)$/i, line);
    const labels = parseLabels(labelText ?? '');
    const identity = name + JSON.stringify(Object.entries(labels).sort());
    assert.ok(!seen.has(identity), `twice: ${line}`);
    seen.add(identity);
    family.samples.push({ name, labels, value: Number(value) });
    if (family.type === 'counter') {
      assert.match(name, /_total$/);
      assert.ok(Number(value) >= 0);
    }
  }
  for (const [name, family] of families) if (family.type === 'histogram') checkHistogram(name, family);
  return families;
}

function parseLabels(text: string): Record<string, string> {
  const labels: Record<string, string> = {};
  for (let rest = text; rest !== ''; ) {
    const match = LABEL.exec(rest);
    assert.ok(match, `not labels: ${rest}`);
    assert.ok(!Object.hasOwn(labels, match[1]!), `label ${match[1]} twice`);
    labels[match[1]!] = match[2]!.replace(/\\(.)/g, (_, c: string) => (c === 'n' ? '\n' : c));
    rest = rest.slice(match[0].length);
  }
  return labels;
}

function checkHistogram(name: string, { samples }: Family): void {
  const series = new Map<
    string,
    { last: number; bound: number; inf?: number; count?: number; sum?: number }
  >();
  for (const { name: sample, labels, value } of samples) {
    const { le, ...others } = labels;
    const key = JSON.stringify(Object.entries(others).sort());
    const one = series.get(key) ?? { last: 0, bound: -Infinity };
    series.set(key, one);
    if (sample === `${name}_bucket`) {
      const bound = le === '+Inf' ? Infinity : Number(le);
      assert.ok(bound > one.bound, `${name}: bounds out of order`);
      assert.ok(value >= one.last, `${name}: buckets fall`);
      one.bound = bound;
      one.last = value;
      if (bound === Infinity) one.inf = value;
    } else if (sample === `${name}_count`) one.count = value;
    else one.sum = value;
  }
  for (const { inf, count, sum } of series.values()) {
    assert.equal(inf, count, `${name}: +Inf is not the count`);
    assert.notEqual(sum, undefined, `${name}: no sum`);
  }
}
