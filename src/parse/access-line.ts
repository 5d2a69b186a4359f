import type { RequestContent } from '../model/content.ts';
import type { AddressSpan, Attempt, ParsedLine } from '../model/line.ts';
import { headerHash, targetHash } from './content.ts';
import type { Escaping } from './format-text.ts';
import { unescapeValue } from './log-escape.ts';
import { matchShape } from './match-shape.ts';

const SPACE = 0x20;
const COMMA = 0x2c;
const MINUS = 0x2d;

/** Which variables hold the id and the request line, as indices into the splitter's variables; -1: not logged. */
export interface RequestVariables {
  readonly id: number;
  /** It is not nginx's own `$request_id`. */
  readonly idRecurs: boolean;
  /** `$request`: method, target and protocol. */
  readonly request: number;
  readonly method: number;
  /** `$request_uri`: the target. */
  readonly target: number;
  /** `$http_user_agent` and `$http_referer`. */
  readonly userAgent: number;
  readonly referer: number;
}

/** What is read before a line is made. */
export type ReadFields = Pick<
  ParsedLine,
  'attempts' | 'copies' | 'endMs' | 'endStepMs' | 'requestMs' | 'status'
>;

/**
 * A line that fits its format. Id, method and path are made from the bytes when first asked for, so the bytes must not change
 * as long as the line is in use.
 */
export class AccessLine implements ParsedLine {
  readonly attempts: readonly Attempt[];
  readonly copies: readonly (readonly AddressSpan[])[] | undefined;
  readonly endMs: number | undefined;
  readonly endStepMs: number;
  readonly requestMs: number | undefined;
  readonly status: number | undefined;
  readonly idRecurs: boolean;
  readonly #bytes: Buffer;
  readonly #escaping: Escaping;
  /** Whether `$request` holds method and target; else the spans are those of the two. */
  readonly #together: boolean;
  readonly #idStart: number;
  readonly #idEnd: number;
  readonly #methodStart: number;
  readonly #methodEnd: number;
  readonly #targetStart: number;
  readonly #targetEnd: number;
  readonly #agentStart: number;
  readonly #agentEnd: number;
  readonly #refererStart: number;
  readonly #refererEnd: number;
  /** `null`: not asked for yet. */
  #id: string | undefined | null = null;
  #path: string | undefined | null = null;
  #content: RequestContent | undefined | null = null;

  /** Spans that begin at -1 are not certain, and their values are left out. */
  constructor(
    bytes: Buffer,
    escaping: Escaping,
    spans: Int32Array,
    variables: RequestVariables,
    fields: ReadFields,
  ) {
    this.attempts = fields.attempts;
    this.copies = fields.copies;
    this.endMs = fields.endMs;
    this.endStepMs = fields.endStepMs;
    this.requestMs = fields.requestMs;
    this.status = fields.status;
    this.idRecurs = variables.idRecurs;
    this.#bytes = bytes;
    this.#escaping = escaping;
    this.#together = variables.request >= 0;
    const { id, request, method, target, userAgent, referer } = variables;
    this.#idStart = id < 0 ? -1 : spans[2 * id]!;
    this.#idEnd = id < 0 ? -1 : spans[2 * id + 1]!;
    const first = request >= 0 ? request : method;
    this.#methodStart = first < 0 ? -1 : spans[2 * first]!;
    this.#methodEnd = first < 0 ? -1 : spans[2 * first + 1]!;
    this.#targetStart = target < 0 ? -1 : spans[2 * target]!;
    this.#targetEnd = target < 0 ? -1 : spans[2 * target + 1]!;
    this.#agentStart = userAgent < 0 ? -1 : spans[2 * userAgent]!;
    this.#agentEnd = userAgent < 0 ? -1 : spans[2 * userAgent + 1]!;
    this.#refererStart = referer < 0 ? -1 : spans[2 * referer]!;
    this.#refererEnd = referer < 0 ? -1 : spans[2 * referer + 1]!;
  }

  get id(): string | undefined {
    if (this.#id === null) this.#id = this.#text(this.#idStart, this.#idEnd);
    return this.#id;
  }

  get method(): string | undefined {
    const start = this.#methodStart;
    const end = this.#together ? this.#endOfMethod() : this.#methodEnd;
    return start < 0 || end < 0 ? undefined : this.#text(start, end);
  }

  get path(): string | undefined {
    if (this.#path === null) this.#path = this.#target();
    return this.#path;
  }

  get content(): RequestContent | undefined {
    if (this.#content === null) this.#content = this.#hashes();
    return this.#content;
  }

  #hashes(): RequestContent | undefined {
    // Without escapes a client's text may end its field.
    if (this.#escaping === 'none' || this.#redirected()) return undefined;
    const { path } = this;
    return {
      target: path === undefined ? undefined : targetHash(path),
      userAgent: this.#headerHash(this.#agentStart, this.#agentEnd),
      referer: this.#headerHash(this.#refererStart, this.#refererEnd),
    };
  }

  #headerHash(start: number, end: number): number | undefined {
    if (start < 0) return undefined;
    return headerHash(unescapeValue(this.#bytes.toString('latin1', start, end), this.#escaping));
  }

  /** Whether nginx redirected the request inside: ` : ` between attempts. The attempts behind it may have another target. */
  #redirected(): boolean {
    const { attempts } = this;
    for (let k = 0; k < attempts.length - 1; k++) if (this.#bytes[attempts[k]!.end] !== COMMA) return true;
    return false;
  }

  #target(): string | undefined {
    if (!this.#together) return this.#text(this.#targetStart, this.#targetEnd);
    const bytes = this.#bytes;
    const end = this.#methodEnd;
    let from = this.#endOfMethod();
    if (from < 0) return undefined;
    while (from < end && bytes[from] === SPACE) from++;
    let to = end;
    for (let at = end - 1; at > from; at--) {
      if (bytes[at] !== SPACE) continue;
      if (isProtocol(bytes, at + 1, end)) to = at;
      break;
    }
    while (to > from && bytes[to - 1] === SPACE) to--;
    return this.#text(from, to);
  }

  /**
   * Where the method ends in `METHOD target HTTP/x.y` or `METHOD target` (HTTP/0.9), or -1 if it begins with none, as a TLS
   * handshake on a plain port. Before nginx 1.21.1 the target may hold spaces.
   */
  #endOfMethod(): number {
    const start = this.#methodStart;
    const end = this.#methodEnd;
    if (start < 0) return -1;
    const at = matchShape('word', this.#bytes, start, end);
    return at > start && at < end && this.#bytes[at] === SPACE ? at : -1;
  }

  #text(start: number, end: number): string | undefined {
    if (start < 0 || start >= end || (end === start + 1 && this.#bytes[start] === MINUS)) return undefined;
    return unescapeValue(this.#bytes.toString('latin1', start, end), this.#escaping);
  }
}

/** Whether the bytes begin with `HTTP/`. */
function isProtocol(bytes: Uint8Array, at: number, end: number): boolean {
  return (
    at + 5 <= end &&
    bytes[at] === 0x48 &&
    bytes[at + 1] === 0x54 &&
    bytes[at + 2] === 0x54 &&
    bytes[at + 3] === 0x50 &&
    bytes[at + 4] === 0x2f
  );
}
