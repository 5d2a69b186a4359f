/** What Grafana asks of a dashboard that is imported (its "dashboard JSON model"). */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

interface Place {
  x: number;
  y: number;
  w: number;
  h: number;
}
interface Source {
  type: string;
  uid: string;
}
interface Panel {
  id: number;
  title: string;
  type: string;
  gridPos: Place;
  datasource?: Source;
  targets?: { refId: string; expr: string; datasource: Source }[];
}

const text = readFileSync(new URL('../../k8s/monitoring/dashboard.json', import.meta.url), 'utf8');
const dashboard = JSON.parse(text) as {
  id?: number;
  uid: string;
  title: string;
  schemaVersion: number;
  version: number;
  time: { from: string; to: string };
  panels: Panel[];
  templating: { list: { name: string; type: string; query: string; datasource?: Source }[] };
};

test('the dashboard can be imported anywhere: no id of its own, and the data source is asked for', () => {
  assert.equal(dashboard.id, undefined);
  assert.match(dashboard.uid, /^[\w-]{1,40}$/);
  assert.ok(dashboard.title.length > 0);
  assert.ok(dashboard.schemaVersion >= 36);
  const asked = dashboard.templating.list.find(({ type }) => type === 'datasource');
  assert.deepEqual([asked?.name, asked?.query], ['datasource', 'prometheus']);
  const sources = [
    ...dashboard.templating.list.filter(({ type }) => type !== 'datasource').map((v) => v.datasource),
    ...dashboard.panels.filter(({ type }) => type !== 'row').map((panel) => panel.datasource),
    ...dashboard.panels.flatMap(({ targets = [] }) => targets.map((target) => target.datasource)),
  ];
  for (const source of sources) assert.deepEqual(source, { type: 'prometheus', uid: `\${datasource}` });
});

test('every variable that a query names is one of the dashboard or of Grafana', () => {
  const { list } = dashboard.templating;
  const known = new Set([...list.map(({ name }) => name), '__rate_interval']);
  const queries = [
    ...list.map(({ query }) => query),
    ...dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr)),
  ];
  let used = 0;
  for (const [, name] of queries.join('\n').matchAll(/\$\{?(\w+)/g)) {
    used++;
    assert.ok(known.has(name!), name);
  }
  assert.ok(used > 40, `${used} uses`);
});

test('panels have ids and titles of their own, queries letters of their own, and none lies on another', () => {
  const { panels } = dashboard;
  assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
  assert.equal(new Set(panels.map(({ title }) => title)).size, panels.length);
  for (const { title, type, targets } of panels) {
    if (type === 'row') continue;
    assert.ok(targets && targets.length > 0, `${title} has no query`);
    assert.equal(new Set(targets.map(({ refId }) => refId)).size, targets.length, title);
  }
  panels.forEach(({ title, gridPos: a }, i) => {
    assert.ok(a.x >= 0 && a.w > 0 && a.x + a.w <= 24 && a.h > 0, `${title}: outside the grid of 24`);
    for (const { title: other, gridPos: b } of panels.slice(i + 1)) {
      const apart = a.x + a.w <= b.x || b.x + b.w <= a.x || a.y + a.h <= b.y || b.y + b.h <= a.y;
      assert.ok(apart, `${title} and ${other} overlap`);
    }
  });
});
