import { type Escaping, type FormatPiece, LogFormatError } from './format-text.ts';
import { CLASS, classOf, type Shape, shapeOf } from './log-variable.ts';
import type { RegionPart } from './split-region.ts';

/** What a step does. Numbers and one shape of object for all steps, as these run for each value of each line. */
export const FIXED = 0;
export const SHAPED = 1;
export const ENCLOSED = 2;
export const REGION = 3;

/** A piece of fixed text, and the value behind it. */
export interface Step {
  /**
   * - FIXED: there is no value.
   * - SHAPED: the shape says where the value ends.
   * - ENCLOSED: it goes up to the next `anchor`.
   * - REGION: values that can hold what follows them (`parts`), up to the next `anchor` or the end of the line.
   */
  readonly op: typeof FIXED | typeof SHAPED | typeof ENCLOSED | typeof REGION;
  /** The fixed text; may be empty. */
  readonly bytes: Uint8Array;
  /** Which of the format's variables the value belongs to. */
  readonly variable: number;
  readonly shape: Shape;
  /** A byte that no value holds, or -1: the end of the line. */
  readonly anchor: number;
  readonly parts: readonly RegionPart[];
}

interface Variable {
  name: string;
  shape: Shape;
}
type Item = string | Variable;

export interface CompiledSteps {
  steps: Step[];
  /** In order of appearance. Variables with nothing between them count as one, named `a$b`. */
  variables: string[];
}

/**
 * The steps that cut a line of this format.
 *
 * Throws LogFormatError where nothing divides a variable that is `needed` from the next one.
 */
export function compileSteps(
  pieces: readonly FormatPiece[],
  escaping: Escaping,
  needed: (variable: string) => boolean,
): CompiledSteps {
  const items = joinNeighbours(pieces, needed);
  if (escaping === 'json' && items.some((item) => typeof item === 'string' && item.includes('\\'))) {
    throw new LogFormatError(
      'the fixed text of an escape=json format holds a backslash, which looks like an escape of a value; leave it out',
    );
  }
  const variables = items.filter((item) => typeof item !== 'string').map((item) => item.name);
  return { steps: stepsOf(items, escaping), variables };
}

/** Joins neighbours: literals to one literal, variables to one variable of any text. */
function joinNeighbours(pieces: readonly FormatPiece[], needed: (variable: string) => boolean): Item[] {
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

function stepsOf(items: readonly Item[], escaping: Escaping): Step[] {
  const queue = [...items];
  const steps: Step[] = [];
  let variables = 0;

  /** From this value on, up to the next anchor, which stays in the queue. */
  const region = (first: Variable): Pick<Step, 'parts' | 'anchor'> => {
    const parts: RegionPart[] = [];
    let { shape } = first;
    for (;;) {
      const literal = typeof queue[0] === 'string' ? (queue.shift() as string) : '';
      const anchor = anchorIn(literal, escaping);
      const fixed = anchor < 0 ? Buffer.from(literal) : Buffer.from(literal).subarray(0, anchor);
      parts.push({ variable: variables++, shape, fixed: Uint8Array.from(fixed) });
      if (anchor >= 0) {
        const rest = Buffer.from(literal).subarray(anchor);
        queue.unshift(rest.toString());
        return { parts, anchor: rest[0]! };
      }
      const next = queue.shift();
      if (typeof next !== 'object') return { parts, anchor: -1 };
      shape = next.shape;
    }
  };

  let fixed = '';
  while (queue.length > 0) {
    const item = queue.shift()!;
    if (typeof item === 'string') {
      fixed = item;
      continue;
    }
    if (endsClearly(item, queue)) {
      steps.push(step(SHAPED, fixed, { variable: variables++, shape: item.shape }));
    } else if (item.shape === 'text' && typeof queue[0] === 'string' && anchorIn(queue[0], escaping) === 0) {
      steps.push(step(ENCLOSED, fixed, { variable: variables++, anchor: Buffer.from(queue[0])[0]! }));
    } else steps.push(step(REGION, fixed, region(item)));
    fixed = '';
  }
  if (fixed !== '') steps.push(step(FIXED, fixed));
  return steps;
}

/**
 * Index of the first byte of the text that no value holds, or -1: `"` and control characters, which nginx escapes in values
 * (ngx_http_log_escape, ngx_escape_json). Bytes from 0x80 on do not count: some builds can leave them as they are
 * (`log_escape_non_ascii off`).
 */
function anchorIn(literal: string, escaping: Escaping): number {
  return escaping === 'none' ? -1 : Buffer.from(literal).findIndex((byte) => byte === 0x22 || byte < 0x20);
}

/** Whether the value's last byte is the last that its shape allows, whatever stands in the line. */
function endsClearly({ shape }: Variable, following: readonly Item[]): boolean {
  if (shape === 'text') return false;
  if (shape === 'time-local' || shape === 'time-iso8601') return true;
  const [literal, next, afterNext] = following;
  if (typeof literal !== 'string') return true;
  const first = Buffer.from(literal)[0]!;
  if ((CLASS[first]! & classOf(shape)) !== 0 || literal[0] === '-' || literal[0] === '.') return false;
  if (shape === 'protocol') return !/^[\w./ -]/.test(literal);
  if (shape !== 'number-list' && shape !== 'count-list' && shape !== 'peer-list') return true;
  if (literal[0] === '[') return false;
  for (const separator of [', ', ' : ']) {
    if (literal.startsWith(separator)) return false;
    if (!separator.startsWith(literal)) continue;
    // What follows may go on as the separator does: text, or the fixed text behind a value that is empty.
    const rest = separator.slice(literal.length);
    if (typeof next === 'object' && next.shape === 'text') return false;
    if (typeof afterNext === 'string' && (afterNext.startsWith(rest) || rest.startsWith(afterNext)))
      return false;
  }
  return true;
}

function step(op: Step['op'], fixed: string, fields: Partial<Step> = {}): Step {
  const { variable = 0, shape = 'text', anchor = -1, parts = [] } = fields;
  return { op, bytes: Uint8Array.from(Buffer.from(fixed)), variable, shape, anchor, parts };
}
