/**
 * The layout of src/ from its real imports: every arrow goes from a layer to a lower one. `layout()` draws it for
 * docs/design.md; `arrowsUp()` and `sharedPackages()` list what breaks the rules, for a test.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { posix } from 'node:path';

const SRC = new URL('../../src/', import.meta.url);

/** From the bottom up. A folder stands for its subfolders too; files of src/ itself stand by name. */
const LAYERS: readonly (readonly string[])[] = [
  ['model'],
  ['parse', 'log.ts', 'lru.ts', 'signals.ts', 'heap.ts', 'each-second.ts', 'cpu-time.ts'],
  [
    'config',
    'format-reach.ts',
    'follow',
    'addresses.ts',
    'client-sockets.ts',
    'watermark-poller.ts',
    'catch-up.ts',
  ],
  ['inferred', 'capture', 'rewrite', 'write', 'cluster'],
  ['join', 'feed'],
  ['pipeline.ts', 'first-lines.ts', 'namespace-watch.ts', 'start-capture.ts'],
  ['http', 'helper-check.ts'],
  ['page', 'terminal', 'doctor', 'inject'],
  ['webhook'],
  ['sidecar.ts', 'helper.ts', 'enrich', 'demo'],
  ['cli.ts'],
];

/** One import of one file by another, both as paths below src/. */
interface Import {
  from: string;
  to: string;
}

function imports(): Import[] {
  const found: Import[] = [];
  for (const from of readdirSync(SRC, { recursive: true, encoding: 'utf8' }).sort()) {
    if (!from.endsWith('.ts')) continue;
    const text = readFileSync(new URL(from, SRC), 'utf8');
    for (const [, path] of text.matchAll(/(?:\bfrom |\bimport\()\s*'(\.[^']+)'/g)) {
      const to = posix.join(posix.dirname(from), path!);
      // package.json is read, not imported as a module.
      if (!to.startsWith('..')) found.push({ from, to });
    }
  }
  return found;
}

/** The files outside of `folder` that import from it. */
export function importersOf(folder: string): string[] {
  const from = imports().filter(({ from, to }) => placeOf(to) === folder && placeOf(from) !== folder);
  return [...new Set(from.map((each) => each.from))];
}

/** Outside packages that more than one file of src/ imports, as `package: files`. */
export function sharedPackages(): string[] {
  const files = new Map<string, Set<string>>();
  for (const from of readdirSync(SRC, { recursive: true, encoding: 'utf8' }).sort()) {
    if (!from.endsWith('.ts')) continue;
    const text = readFileSync(new URL(from, SRC), 'utf8');
    for (const [, name] of text.matchAll(/(?:\bfrom |\bimport\()\s*'((?!node:)[^.'][^']*)'/g))
      files.set(name!, (files.get(name!) ?? new Set()).add(from));
  }
  return [...files].filter(([, by]) => by.size > 1).map(([name, by]) => `${name}: ${[...by].join(', ')}`);
}

/** The name of the file's place in `LAYERS`: its top folder, or the file itself. */
const placeOf = (path: string): string => path.split('/')[0]!;

function layerOf(path: string): number {
  const layer = LAYERS.findIndex((places) => places.includes(placeOf(path)));
  if (layer < 0) throw new Error(`src/${placeOf(path)} is in no layer: add it to test/docs/layout.ts`);
  return layer;
}

/** Imports that do not go down, as `from → to`. Within one place any import is allowed; Biome forbids circles there. */
export function arrowsUp(): string[] {
  return imports()
    .filter(({ from, to }) => placeOf(from) !== placeOf(to) && layerOf(to) >= layerOf(from))
    .map(({ from, to }) => `${from} → ${to}`);
}

const nodeOf = (place: string): string => place.replace('.ts', '');

/** A Mermaid drawing: one row a layer, an arrow from a place to each lower place that it imports. */
export function layout(): string {
  const arrows = new Set<string>();
  const present = new Set<string>();
  for (const { from, to } of imports()) {
    present.add(placeOf(from)).add(placeOf(to));
    if (placeOf(from) !== placeOf(to)) arrows.add(`  ${nodeOf(placeOf(from))} --> ${nodeOf(placeOf(to))}`);
  }
  const rows = LAYERS.toReversed().map((places, i) => {
    const shown = places.filter((place) => present.has(place));
    return `  subgraph layer${LAYERS.length - i}[" "]\n    ${shown.map((place) => `${nodeOf(place)}["${place}"]`).join('; ')}\n  end`;
  });
  return `\`\`\`mermaid\nflowchart TD\n${rows.join('\n')}\n${[...arrows].sort().join('\n')}\n\`\`\`\n`;
}
