import type { WaitingBlock } from '../join/waiting.ts';
import type { Attempt } from '../record/line.ts';
import { isResolved, type Outcome, type PodName } from '../record/outcome.ts';
import { ReplaceStyle } from '../rewrite/replace.ts';
import type { LineFilter } from './line-filter.ts';
import type { NameAt } from './pods.ts';

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

/**
 * The youngest lines, kept as the bytes they came in and rendered when somebody asks, so that keeping them costs
 * nothing a line. Bounded in bytes; the oldest block goes first.
 */
export class RecentLines {
  readonly #maxBytes: number;
  readonly #nameAt: NameAt;
  readonly #replace = new ReplaceStyle();
  #blocks: WaitingBlock<unknown>[] = [];
  #bytes = 0;

  constructor(maxBytes: number, nameAt: NameAt) {
    this.#maxBytes = maxBytes;
    this.#nameAt = nameAt;
  }

  get bytes(): number {
    return this.#bytes;
  }

  add(block: WaitingBlock<unknown>): void {
    this.#blocks.push(block);
    this.#bytes += block.bytes.length;
    let dropped = 0;
    while (this.#bytes > this.#maxBytes && dropped < this.#blocks.length - 1) {
      this.#bytes -= this.#blocks[dropped++]!.bytes.length;
    }
    if (dropped > 0) this.#blocks = this.#blocks.slice(dropped);
  }

  /** The youngest line with this request id. */
  byRequestId(id: string): ShownLine | undefined {
    for (const [block, i] of this.#youngestFirst()) {
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
  show(block: WaitingBlock<unknown>, i: number): ShownLine {
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
      attempts: parsed.attempts.map((attempt, k) =>
        showAttempt(block.bytes, attempt, outcomes[k], endMs ?? block.readAt, this.#nameAt),
      ),
    };
  }

  *#youngestFirst(): Generator<[WaitingBlock<unknown>, number]> {
    for (let b = this.#blocks.length - 1; b >= 0; b--) {
      const block = this.#blocks[b]!;
      for (let i = block.lines.length - 1; i >= 0; i--) yield [block, i];
    }
  }
}

function withoutNewline(text: string): string {
  return text.endsWith('\n') ? text.slice(0, -1) : text;
}

function showAttempt(
  bytes: Buffer,
  attempt: Attempt,
  outcome: Outcome | undefined,
  at: number,
  nameAt: NameAt,
): ShownAttempt {
  const shown: ShownAttempt = { upstream: bytes.toString('latin1', attempt.start, attempt.end) };
  if (typeof attempt.status === 'number') shown.status = attempt.status;
  if (typeof attempt.responseMs === 'number') shown.responseMs = attempt.responseMs;
  if (!outcome) return shown;
  if (!isResolved(outcome)) return { ...shown, reason: outcome.reason };
  const { ip, port, evidence, flow } = outcome;
  const from = flow ? { src: flow.src, sport: flow.sport } : {};
  return { ...shown, ip, port, ...nameAt(ip, at), evidence, ...from };
}
