import { type Escaping, type FormatPiece, LogFormatError } from './format-text.ts';
import { CLASS, classOf, type Shape, shapeOf } from './log-variable.ts';
import { TIME_ISO8601_LENGTH, TIME_LOCAL_LENGTH } from './match-shape.ts';

/** What a step does. Numbers and one shape of object for all steps, as these run for each value of each line. */
export const FIXED = 0;
export const SHAPED = 1;
export const QUOTED = 2;
export const LOOSE = 3;

/** A piece of fixed text, and the value behind it. */
export interface Step {
  /**
   * - FIXED: there is no value.
   * - SHAPED: the shape says where the value ends.
   * - QUOTED: it goes up to the next bare double quote.
   * - LOOSE: values that can hold what follows them (`parts`), up to the next bare double quote or the end of the line.
   */
  readonly op: typeof FIXED | typeof SHAPED | typeof QUOTED | typeof LOOSE;
  /** The fixed text; may be empty. */
  readonly bytes: Uint8Array;
  /** Which of the format's variables the value belongs to. */
  readonly variable: number;
  readonly shape: Shape;
  /** If the value holds ` : `, it may also have ended before. */
  readonly noColon: boolean;
  readonly parts: readonly LoosePart[];
}

/** A value that can hold anything, then the steps (FIXED and SHAPED) by which its end is found. */
export interface LoosePart {
  readonly variable: number;
  readonly after: readonly Step[];
  /** Bytes that `after` takes at least, and whether it never takes more. */
  readonly length: number;
  readonly fixed: boolean;
  /** The first byte of `after`, or -1 where nothing follows. */
  readonly first: number;
}

interface Variable {
  name: string;
  shape: Shape;
}
type Item = string | Variable;

/**
 * The steps that cut a line of this format, and the names of its variables in order of appearance. Variables with
 * nothing between them count as one, named `a$b`, unless `needed` names one of them.
 *
 * Throws LogFormatError where the value of a needed variable could never be told from what follows it.
 */
export function compileSteps(
  pieces: readonly FormatPiece[],
  escaping: Escaping,
  needed: (variable: string) => boolean,
): { steps: Step[]; variables: string[] } {
  const items = glue(pieces, needed);
  if (escaping === 'json' && items.some((item) => typeof item === 'string' && item.includes('\\'))) {
    throw new LogFormatError(
      'the fixed text of an escape=json format holds a backslash, which cannot be told from escaped values; leave it out',
    );
  }
  for (const [index, item] of items.entries()) {
    if (typeof item === 'string') continue;
    const clash = clashOf(item, items[index + 1], items[index + 2]);
    if (clash === undefined) continue;
    if (needed(item.name)) {
      throw new LogFormatError(
        `in the log format $${item.name} is followed by “${clash}”, which can also be part of it; put it in double quotes`,
      );
    }
    item.shape = 'text';
  }
  const variables = items.filter((item) => typeof item !== 'string').map((item) => item.name);
  return { steps: stepsOf(items, escaping !== 'none'), variables };
}

/** Joins neighbours: literals to one literal, variables to one variable of any text. */
function glue(pieces: readonly FormatPiece[], needed: (variable: string) => boolean): Item[] {
  const items: Item[] = [];
  for (const piece of pieces) {
    const last = items.at(-1);
    if ('literal' in piece) {
      if (typeof last === 'string') items[items.length - 1] = last + piece.literal;
      else items.push(piece.literal);
      continue;
    }
    const { variable } = piece;
    if (typeof last !== 'object') {
      items.push({ name: variable, shape: shapeOf(variable) });
      continue;
    }
    if (needed(variable) || needed(last.name)) {
      throw new LogFormatError(
        `the log format has nothing between $${last.name} and $${variable}, so where one ends is unknown; put a space or quotes between them`,
      );
    }
    last.name += `$${variable}`;
    last.shape = 'text';
  }
  return items;
}

/** What makes the end of the value doubtful, or undefined. */
function clashOf(
  variable: Variable,
  next: Item | undefined,
  afterNext: Item | undefined,
): string | undefined {
  if (typeof next !== 'string') return undefined;
  const mask = classOf(variable.shape);
  const first = Buffer.from(next)[0]!;
  if (mask !== 0 && (CLASS[first]! & mask) !== 0) return next[0];
  if (variable.shape !== 'number-list' && variable.shape !== 'peer-list') return undefined;
  if (variable.shape === 'peer-list' && next[0] === '[') return '[';
  if (next.startsWith(', ') || next.startsWith(' :')) return next.slice(0, 2);
  if (next === ',' && isText(afterNext)) return ',';
  return undefined;
}

function isText(item: Item | undefined): boolean {
  return typeof item === 'object' && item.shape === 'text';
}

function stepsOf(items: readonly Item[], anchored: boolean): Step[] {
  const queue = [...items];
  const steps: Step[] = [];
  let variables = 0;

  /** The step of a value with a shape, behind `fixed`. */
  const shaped = (fixed: string, variable: Variable) =>
    step(SHAPED, fixed, {
      variable: variables++,
      shape: variable.shape,
      noColon: mayEndBeforeColon(variable, queue),
    });

  /** From a loose value on, up to the quote that closes the last one; the quote stays in the queue. */
  const looseParts = (): LoosePart[] => {
    const parts: LoosePart[] = [];
    for (;;) {
      const variable = variables++;
      const after: Step[] = [];
      let fixed = '';
      let closed = queue.length === 0;
      while (!closed && !isText(queue[0])) {
        const item = queue.shift()!;
        if (typeof item === 'string') {
          const quote = anchored ? item.indexOf('"') : -1;
          fixed = quote < 0 ? item : item.slice(0, quote);
          if (quote >= 0) queue.unshift(item.slice(quote));
          closed = quote >= 0;
        } else {
          after.push(shaped(fixed, item));
          fixed = '';
        }
        closed ||= queue.length === 0;
      }
      if (fixed !== '') after.push(step(FIXED, fixed));
      parts.push(loosePart(variable, after));
      if (closed) return parts;
      queue.shift();
    }
  };

  let fixed = '';
  while (queue.length > 0) {
    const item = queue.shift()!;
    const next = queue[0];
    if (typeof item === 'string') {
      fixed = item;
      continue;
    }
    if (item.shape !== 'text') steps.push(shaped(fixed, item));
    else if (anchored && typeof next === 'string' && next.startsWith('"')) {
      steps.push(step(QUOTED, fixed, { variable: variables++ }));
    } else steps.push(step(LOOSE, fixed, { parts: looseParts() }));
    fixed = '';
  }
  if (fixed !== '') steps.push(step(FIXED, fixed));
  return steps;
}

/** A list followed by one space and then by text that may begin with `: `, as a separator's rest does. */
function mayEndBeforeColon(variable: Variable, following: readonly Item[]): boolean {
  if (variable.shape !== 'number-list' && variable.shape !== 'peer-list') return false;
  const [literal, next, afterNext] = following;
  if (literal !== ' ') return false;
  // Any other value may be empty.
  return isText(next) || (typeof afterNext === 'string' && afterNext.startsWith(':'));
}

function step(op: Step['op'], fixed: string, fields: Partial<Step> = {}): Step {
  const { variable = 0, shape = 'text', noColon = false, parts = [] } = fields;
  return { op, bytes: Uint8Array.from(Buffer.from(fixed)), variable, shape, noColon, parts };
}

function loosePart(variable: number, after: readonly Step[]): LoosePart {
  let length = 0;
  let fixed = true;
  for (const step of after) {
    length += step.bytes.length;
    if (step.op === FIXED) continue;
    if (step.shape === 'time-local') length += TIME_LOCAL_LENGTH;
    else if (step.shape === 'time-iso8601') length += TIME_ISO8601_LENGTH;
    else fixed = false;
  }
  const first = after[0] === undefined ? -1 : after[0].bytes[0]!;
  return { variable, after, length, fixed, first };
}
