/** Insertions into a text: all bytes of the input stay, in order. */

import { Refused } from './refused.ts';
import {
  Document,
  isAlias,
  isCollection,
  isMap,
  isPair,
  isScalar,
  isSeq,
  type Node,
  type YAMLMap,
} from './yaml.ts';

/** `text` replaces `source.slice(from, to)`. */
export interface Edit {
  from: number;
  to: number;
  text: string;
}

/** The layout of the input. */
export interface Layout {
  source: string;
  /** The end of each line: `\n` or `\r\n`. */
  eol: string;
  /** Whether the dash of a sequence is further right than its key. */
  indentSeq: boolean;
}

export function layoutOf(source: string): Layout {
  return {
    source,
    eol: source.includes('\r\n') ? '\r\n' : '\n',
    indentSeq: !/^( *)(?:- )?[\w"']+:[ \t]*(?:#.*)?\r?\n\1- /m.test(source),
  };
}

/** Applies edits, which must not overlap, in any order; those at one place in the given order. */
export function apply(source: string, edits: readonly Edit[]): string {
  const ordered = edits.map((edit, index) => ({ edit, index }));
  ordered.sort((a, b) => a.edit.from - b.edit.from || a.index - b.index);
  let output = '';
  let at = 0;
  for (const { edit } of ordered) {
    output += source.slice(at, edit.from) + edit.text;
    at = edit.to;
  }
  return output + source.slice(at);
}

/** Adds `items` at the end of the sequence at `key` of `parent`, which may be missing or empty. Throws Refused. */
export function append(
  label: string,
  parent: YAMLMap,
  key: string,
  items: readonly object[],
  layout: Layout,
): Edit[] {
  if (items.length === 0) return [];
  const pair = parent.items.find((each) => isScalar(each.key) && each.key.value === key);
  const value = pair?.value as Node | null | undefined;
  if (isAlias(value)) {
    throw new Refused(`${label}: ${key} is the YAML alias *${value.source}; write it out, it is shared`);
  }
  if (!pair || !isScalar(pair.key)) {
    if (parent.items.some((each) => isScalar(each.key) && each.key.source === '<<')) {
      throw new Refused(`${label}: ${key} may come from the YAML merge key <<; write it out`);
    }
    return newKey(parent, key, items, layout);
  }
  if (value?.anchor !== undefined) {
    throw new Refused(`${label}: ${key} has the YAML anchor &${value.anchor}; write it out where it is used`);
  }
  if (isSeq(value) && value.items.length > 0) {
    return value.flow
      ? intoFlow(value.items.at(-1), value, items, layout, ', ')
      : [blockLines(endOf(value), list(items, column(layout, startOf(value)), layout), layout)];
  }
  const empty =
    (isSeq(value) && value.items.length === 0) ||
    value === undefined ||
    (isScalar(value) && value.value === null);
  if (!empty || value?.tag?.startsWith('!')) {
    throw new Refused(`${label}: ${key} is not a list`);
  }
  return intoEmpty(parent, pair.key, value, items, layout);
}

function newKey(parent: YAMLMap, key: string, items: readonly object[], layout: Layout): Edit[] {
  if (parent.flow) {
    const last = parent.items.at(-1);
    const text = `${JSON.stringify(key)}: ${JSON.stringify(items)}`;
    if (!last) return [insert(startOf(parent) + 1, text)];
    return intoFlow(last.value ?? last.key, parent, items, layout, `, ${JSON.stringify(key)}: `, true);
  }
  const indent = column(layout, startOf(parent));
  const lines = [`${' '.repeat(indent)}${key}:`, ...list(items, indent + (layout.indentSeq ? 2 : 0), layout)];
  return [blockLines(endOf(parent), lines, layout)];
}

function intoEmpty(
  parent: YAMLMap,
  key: Node,
  value: Node | null | undefined,
  items: readonly object[],
  layout: Layout,
): Edit[] {
  const { source } = layout;
  const colon = source.indexOf(':', key.range?.[1] ?? 0) + 1;
  const [from, to] = value?.range ?? [colon, colon];
  const written = source.slice(from, to);
  if (parent.flow) return [{ from, to, text: `${written === '' ? ' ' : ''}${JSON.stringify(items)}` }];
  const indent = column(layout, startOf(parent));
  const lines = list(items, indent + (layout.indentSeq ? 2 : 0), layout);
  const gone = written === '' ? [] : [{ from: colon, to, text: '' }];
  return [...gone, blockLines(written === '' ? colon : to, lines, layout)];
}

/**
 * Inserts after the last item of a flow collection. If the items have separate lines, the added ones have too.
 * `whole`: the items are one value.
 */
function intoFlow(
  last: unknown,
  collection: Node,
  items: readonly object[],
  { source, eol }: Layout,
  separator: string,
  whole = false,
): Edit[] {
  const at = last === null || last === undefined ? startOf(collection) + 1 : endOf(last as Node);
  const first = isCollection(collection) ? collection.items[0] : undefined;
  const begin = isPair(first) ? startOf(first.key as Node) : startOf(first as Node);
  const lineStart = source.lastIndexOf('\n', begin - 1) + 1;
  const indent = source.slice(lineStart, begin);
  const ownLines = lineStart > startOf(collection) && /^[ \t]*$/.test(indent);
  const step = ownLines ? stepOf(source) : undefined;
  const text = (value: unknown): string => {
    const lines = JSON.stringify(value, undefined, step).split('\n');
    return lines.join(`${eol}${indent}`);
  };
  const lead = ownLines ? separator.replace(', ', `,${eol}${indent}`) : separator;
  const added = whole ? lead + text(items) : items.map((item) => lead + text(item)).join('');
  return [insert(at, added)];
}

/** The first indentation of a JSON text. */
function stepOf(source: string): string {
  return /\n([ \t]+)["{[]/.exec(source)?.[1] ?? '  ';
}

/** The items as lines of a block sequence with dashes in column `indent`. */
function list(items: readonly object[], indent: number, { indentSeq }: Layout): string[] {
  const document = new Document(items, { aliasDuplicateObjects: false, version: '1.1' });
  const text = document.toString({ indentSeq, lineWidth: 0 }).trimEnd();
  return text.split('\n').map((line) => (line === '' ? '' : ' '.repeat(indent) + line));
}

/** Inserts whole lines after the line of `end`. */
function blockLines(end: number, lines: readonly string[], { source, eol }: Layout): Edit {
  const text = lines.map((line) => line + eol).join('');
  if (end > 0 && source[end - 1] === '\n') return insert(end, text);
  const next = source.indexOf('\n', end);
  if (next >= 0) return insert(next + 1, text);
  return insert(source.length, eol + text.slice(0, -eol.length));
}

const insert = (at: number, text: string): Edit => ({ from: at, to: at, text });

function startOf(node: Node): number {
  return node.range?.[0] ?? 0;
}

/** The end of a block's last value, without comments and blank lines after it. */
function endOf(node: Node): number {
  if (isCollection(node) && !node.flow) {
    const last = node.items.at(-1);
    if (isPair(last)) {
      const { key, value } = last as { key: Node; value: Node | null };
      return value?.range ? endOf(value) : endOf(key);
    }
    if (last) return endOf(last as Node);
  }
  return node.range?.[1] ?? 0;
}

function column({ source }: Layout, at: number): number {
  return at - (source.lastIndexOf('\n', at - 1) + 1);
}

/** Every map from `node` down `path`. Throws Refused if an alias shares one. */
export function mapAt(label: string, node: unknown, path: readonly (string | number)[]): YAMLMap {
  let at: unknown = node;
  for (const key of ['', ...path]) {
    if (key !== '') at = isMap(at) || isSeq(at) ? at.get(key, true) : undefined;
    if (isAlias(at)) {
      throw new Refused(`${label}: ${key} is the YAML alias *${at.source}; write it out, it is shared`);
    }
    if (isCollection(at) && at.anchor !== undefined) {
      throw new Refused(`${label}: ${key} has the YAML anchor &${at.anchor}; write it out where it is used`);
    }
  }
  if (!isMap(at))
    throw new Refused(`${label}: ${path.join('.')} may come from the YAML merge key <<; write it out`);
  return at;
}
