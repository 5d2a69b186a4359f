import type { BlockLine } from '../../join/pending.ts';
import type { Attempt } from '../../model/line.ts';
import { isResolved, type Outcome, type PodName } from '../../model/outcome.ts';
import type { Parse } from '../../pipeline.ts';
import { ReplaceStyle } from '../../rewrite/replace.ts';
import { Style } from '../../rewrite/style.ts';
import type { LineFilter } from './line-filter.ts';
import type { ShownBlock } from './shown.ts';

/** One attempt as the HTTP interface shows it. */
export interface ShownAttempt extends Partial<PodName> {
  upstream: string;
  ip?: string;
  port?: number;
  evidence?: string;
  reason?: string;
  /** nginx's end of the connection, where exactly one is left. */
  src?: string;
  sport?: number;
  status?: number;
  /** `$upstream_response_time` in ms. */
  responseMs?: number;
}

/** One line as the HTTP interface shows it. `line` is nginx's own text, `enriched` that with the resolved addresses; `time` is ISO 8601. */
export interface ShownLine {
  line: string;
  enriched: string;
  time?: string;
  id?: string;
  status?: number;
  method?: string;
  path?: string;
  /** `$request_time` in ms. */
  requestMs?: number;
  /** Why it was not read: `empty`, `format` or `too-long`. */
  unparsed?: string;
  attempts: ShownAttempt[];
}

/** A settled block without its parsed lines: they are several times as large as the text, and can be parsed again. */
interface KeptBlock extends Omit<ShownBlock, 'lines'> {
  /** Begin and end of each line. */
  spans: Uint32Array;
  /** The block is one line, too long to be parsed. */
  tooLong: boolean;
}

const NO_BLOCK: KeptBlock = {
  bytes: Buffer.alloc(0),
  readAt: 0,
  outcomes: [],
  spans: new Uint32Array(0),
  tooLong: false,
};

/**
 * The youngest lines: their bytes and the outcomes of the join. They are parsed again for each request. Bounded in bytes
 * of lines; the oldest block goes first.
 */
export class RecentLines {
  readonly #maxBytes: number;
  readonly #parse: Parse;
  readonly #replace = new Style(new ReplaceStyle());
  #blocks: KeptBlock[] = [];
  /** Blocks before it are dropped, and leave the array when they are half of it: it is not copied for each. */
  #oldest = 0;
  #bytes = 0;

  constructor(maxBytes: number, parse: Parse) {
    this.#maxBytes = maxBytes;
    this.#parse = parse;
  }

  get bytes(): number {
    return this.#bytes;
  }

  add({ bytes, readAt, lines, outcomes }: ShownBlock): void {
    const spans = new Uint32Array(2 * lines.length);
    for (let i = 0; i < lines.length; i++) {
      spans[2 * i] = lines[i]!.start;
      spans[2 * i + 1] = lines[i]!.end;
    }
    this.#blocks.push({ bytes, readAt, outcomes, spans, tooLong: lines[0]?.parsed === 'too-long' });
    this.#bytes += bytes.length;
    while (this.#bytes > this.#maxBytes && this.#oldest < this.#blocks.length - 1) {
      this.#bytes -= this.#blocks[this.#oldest]!.bytes.length;
      this.#blocks[this.#oldest++] = NO_BLOCK;
    }
    if (2 * this.#oldest > this.#blocks.length) {
      this.#blocks = this.#blocks.slice(this.#oldest);
      this.#oldest = 0;
    }
  }

  /** The youngest line with this request id. */
  byRequestId(id: string): ShownLine | undefined {
    // These characters are never escaped, so a block whose bytes lack the id need not be parsed.
    const text = /^[ !#-[\]-~]+$/.test(id) ? id : undefined;
    for (const [block, i] of this.#youngestFirst(text)) {
      const { parsed } = block.lines[i]!;
      if (typeof parsed !== 'string' && parsed.id === id) return this.show(block, i);
    }
    return undefined;
  }

  /** Up to `limit` lines that `accept`, youngest first. */
  list(limit: number, accept: LineFilter): ShownLine[] {
    const lines: ShownLine[] = [];
    if (limit === 0) return lines;
    for (const [block, i] of this.#youngestFirst()) {
      if (accept(block, i) && lines.push(this.show(block, i)) >= limit) break;
    }
    return lines;
  }

  /** Line `i` of a settled block. */
  show(block: ShownBlock, i: number): ShownLine {
    const shape = block.lines[i]!;
    const { start, end, parsed } = shape;
    const line = block.bytes.toString('utf8', start, end);
    if (typeof parsed === 'string') return { line, enriched: line, unparsed: parsed, attempts: [] };
    const { endMs, id, status, method, path, requestMs } = parsed;
    const outcomes = block.outcomes[i] ?? [];
    const enriched = outcomes.some(isResolved)
      ? withoutNewline(Buffer.concat(this.#replace.render(block.bytes, [shape], [outcomes])).toString('utf8'))
      : line;
    return {
      line,
      enriched,
      ...(endMs === undefined ? {} : { time: new Date(endMs).toISOString() }),
      ...(id === undefined ? {} : { id }),
      ...(status === undefined ? {} : { status }),
      ...(method === undefined ? {} : { method }),
      ...(path === undefined ? {} : { path }),
      ...(requestMs === undefined ? {} : { requestMs }),
      attempts: parsed.attempts.map((attempt, k) => showAttempt(block.bytes, attempt, outcomes[k])),
    };
  }

  /** With `text`: of the blocks that contain it. */
  *#youngestFirst(text?: string): Generator<[ShownBlock, number]> {
    for (let b = this.#blocks.length - 1; b >= this.#oldest; b--) {
      const kept = this.#blocks[b]!;
      if (text !== undefined && !kept.bytes.includes(text)) continue;
      const block = this.#readAgain(kept);
      for (let i = block.lines.length - 1; i >= 0; i--) yield [block, i];
    }
  }

  #readAgain({ bytes, readAt, outcomes, spans, tooLong }: KeptBlock): ShownBlock {
    const lines: BlockLine[] = [];
    for (let i = 0; i < spans.length; i += 2) {
      const start = spans[i]!;
      const end = spans[i + 1]!;
      const parsed = tooLong ? 'too-long' : start === end ? 'empty' : this.#parse(bytes, start, end);
      lines.push({ start, end, parsed });
    }
    return { bytes, readAt, lines, outcomes };
  }
}

function withoutNewline(text: string): string {
  return text.endsWith('\n') ? text.slice(0, -1) : text;
}

function showAttempt(bytes: Buffer, attempt: Attempt, outcome: Outcome | undefined): ShownAttempt {
  const shown: ShownAttempt = { upstream: bytes.toString('latin1', attempt.start, attempt.end) };
  if (typeof attempt.status === 'number') shown.status = attempt.status;
  if (typeof attempt.responseMs === 'number') shown.responseMs = attempt.responseMs;
  if (!outcome) return shown;
  if (!isResolved(outcome)) return { ...shown, reason: outcome.reason };
  const { ip, port, evidence, flow, name } = outcome;
  const from = flow ? { src: flow.src, sport: flow.sport } : {};
  return { ...shown, ip, port, ...name, evidence, ...from };
}
