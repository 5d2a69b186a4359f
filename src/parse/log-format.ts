import type { AddressSpan, ParsedLine, UnparsedReason } from '../model/line.ts';
import { AccessLine, type RequestVariables } from './access-line.ts';
import { AttemptReader, COLUMNS } from './attempts.ts';
import { type Escaping, LogFormatError, readFormatText } from './format-text.ts';
import { DateReader, secondsToMs, wholeNumber } from './log-time.ts';
import { mayBreakLine } from './log-variable.ts';
import { Splitter } from './split.ts';

export { LogFormatError };

/** The default of `--log-format`: `combined` with `$upstream_addr`, and with the client's address as a proxy passes it on. */
export const DEFAULT_LOG_FORMAT =
  '$remote_addr - $remote_user [$time_local] "$request" $status $upstream_addr $body_bytes_sent "$http_referer" "$http_user_agent" "$http_x_forwarded_for"';

/** Longest line that is looked at, in bytes. nginx's own limits (4 header buffers of 8 KiB) stay far below. */
export const MAX_LINE_BYTES = 256 * 1024;

/** nginx makes one for each request of a client; no configuration can set it. */
const OWN_ID = 'request_id';

export interface LogFormatOptions {
  /** The variable that carries the request id, without `$`. Default `request_id`. */
  requestIdField?: string | undefined;
  /** The variable that carries the local port of the upstream connection, without `$`. */
  localPortField?: string | undefined;
}

/**
 * Compiles the text of nginx's `log_format` (see format-text.ts for the forms that are understood).
 * Throws LogFormatError with one line for the operator.
 */
export function compileLogFormat(text: string, options: LogFormatOptions = {}): LogFormat {
  return new LogFormat(text, options);
}

export class LogFormat {
  readonly escaping: Escaping;
  /** Names in the order of the line; neighbours with nothing between them as one, `a$b`. */
  readonly variables: readonly string[];
  /** Clients can write whole lines of their own into this log, so none of them is parsed. */
  readonly forgeable: boolean;
  /** Whether a line says when it was written. */
  readonly timed: boolean;
  /** What the operator should know of the format, each one line. */
  readonly warnings: readonly string[];
  readonly #splitter: Splitter;
  readonly #attempts: AttemptReader;
  readonly #dates = new DateReader();
  readonly #request: RequestVariables;
  readonly #time: number;
  readonly #timeKind: 'msec' | 'iso8601' | 'local' | 'none';
  readonly #requestTime: number;
  readonly #status: number;
  /** Where `$upstream_addr` stands again. */
  readonly #copies: readonly number[];

  constructor(text: string, options: LogFormatOptions) {
    const { escaping, pieces } = readFormatText(text);
    const idField = fieldName(options.requestIdField ?? OWN_ID);
    const portField = options.localPortField === undefined ? undefined : fieldName(options.localPortField);
    const names = pieces.flatMap((piece) => ('variable' in piece ? [piece.variable] : []));
    if (!names.includes('upstream_addr')) {
      throw new LogFormatError(
        'the log format has no $upstream_addr, so there is no address to resolve; add it to log_format in nginx and to --log-format',
      );
    }
    if (portField !== undefined && !names.includes(portField)) {
      throw new LogFormatError(`the log format has no $${portField}, which --local-port-field names`);
    }
    const time = finestTime(names);
    this.escaping = escaping;
    this.#splitter = new Splitter(pieces, escaping, (name) => name === 'upstream_addr' || name === portField);
    this.variables = this.#splitter.variables;
    const addresses = this.variables.flatMap((name, index) => (name === 'upstream_addr' ? [index] : []));
    this.#copies = addresses.slice(1);
    const indexOf = (name: string): number => {
      const index = this.variables.indexOf(name);
      const other = IN_STREAMS[name];
      return index >= 0 || other === undefined ? index : this.variables.indexOf(other);
    };
    this.#attempts = new AttemptReader(indexOf, portField);
    this.#request = {
      id: indexOf(idField),
      idRecurs: idField !== OWN_ID,
      request: indexOf('request'),
      method: indexOf('request_method'),
      target: indexOf('request_uri'),
      userAgent: indexOf('http_user_agent'),
      referer: indexOf('http_referer'),
    };
    this.#time = time === undefined ? -1 : indexOf(time);
    this.#timeKind = time === undefined ? 'none' : TIME_KINDS[time];
    this.#requestTime = indexOf('request_time');
    this.#status = indexOf('status');
    const read = new Set([
      'upstream_addr',
      ...COLUMNS,
      'request_time',
      ...Object.values(IN_STREAMS),
      'status',
    ]);
    for (const name of [idField, portField, time]) if (name !== undefined) read.add(name);
    const breaking = escaping === 'none' ? lineBreaking(names, read) : undefined;
    this.forgeable = breaking !== undefined;
    this.timed = time !== undefined;
    this.warnings = [
      ...escapingWarnings(escaping, breaking),
      ...joinedWarnings(this.variables, read),
      ...(this.timed ? [] : [NO_TIME]),
    ];
  }

  /**
   * Reads the line `bytes[start, end)`, without its newline. Spans in the result are relative to `bytes`, which must not
   * change as long as the result is in use.
   *
   * A line with more than one reading of `$upstream_addr` is 'format' (see Splitter). Any other value that is not certain
   * is left out, as if it were not logged.
   */
  parse(bytes: Buffer, start: number, end: number): ParsedLine | UnparsedReason {
    if (start >= end) return 'empty';
    if (end - start > MAX_LINE_BYTES) return 'too-long';
    if (this.forgeable || !this.#splitter.split(bytes, start, end)) return 'format';
    const { spans } = this.#splitter;
    const attempts = this.#attempts.read(bytes, spans);
    if (!attempts) return 'format';
    const copies = this.#copies.length === 0 ? NO_COPIES : this.#readCopies(bytes, spans);
    if (!copies) return 'format';
    const took = spanStart(spans, this.#requestTime);
    const status = spanStart(spans, this.#status);
    return new AccessLine(bytes, this.escaping, spans, this.#request, {
      attempts,
      copies,
      endMs: this.#endMs(bytes, spans),
      endStepMs: this.#timeKind === 'msec' ? 1 : 1000,
      requestMs: took < 0 ? undefined : secondsToMs(bytes, took, spans[2 * this.#requestTime + 1]!),
      status: status < 0 ? undefined : wholeNumber(bytes, status, spans[2 * this.#status + 1]!),
    });
  }

  /** The spans of each further `$upstream_addr`; undefined where one is not certain, or says something else. */
  #readCopies(bytes: Buffer, spans: Int32Array): AddressSpan[][] | undefined {
    const copies: AddressSpan[][] = [];
    for (const variable of this.#copies) {
      const copy = this.#attempts.copyAt(bytes, spans, variable);
      if (!copy) return undefined;
      copies.push(copy);
    }
    return copies;
  }

  /**
   * Where the values of `variables` stand in the line `bytes[start, end)`: start and end of each, the start -1 where it
   * is not certain; undefined if the line does not fit. Overwritten by the next call of `split` or `parse`.
   */
  split(bytes: Buffer, start: number, end: number): Int32Array | undefined {
    if (start >= end || end - start > MAX_LINE_BYTES) return undefined;
    return this.#splitter.split(bytes, start, end) ? this.#splitter.spans : undefined;
  }

  #endMs(bytes: Buffer, spans: Int32Array): number | undefined {
    const start = spanStart(spans, this.#time);
    if (start < 0) return undefined;
    switch (this.#timeKind) {
      case 'msec':
        return secondsToMs(bytes, start, spans[2 * this.#time + 1]!);
      case 'iso8601':
        return this.#dates.iso8601(bytes, start);
      case 'local':
        return this.#dates.timeLocal(bytes, start);
      default:
        return undefined;
    }
  }
}

const NO_COPIES: readonly (readonly AddressSpan[])[] = [];

const NO_TIME =
  'the log format has no time, so a line is taken to be written when it is read: delays cost evidence, and a finished log cannot be resolved; add $msec and $request_time';

/** Where the value of a variable begins; -1: it is not logged, or not certain. */
function spanStart(spans: Int32Array, variable: number): number {
  return variable < 0 ? -1 : spans[2 * variable]!;
}

const TIME_KINDS = { msec: 'msec', time_iso8601: 'iso8601', time_local: 'local' } as const;

/** What `stream { }` calls the same (ngx_stream_upstream.c, ngx_stream_variables.c). */
const IN_STREAMS: Readonly<Record<string, string>> = {
  request_time: 'session_time',
  upstream_response_time: 'upstream_session_time',
};

/**
 * The variable through which clients can write whole lines that would pass for nginx's.
 *
 * `$remote_user` can break a line, but a user name ends at its first colon (RFC 7617). So where it stands before every value
 * that is read, as in `combined`, a piece of a broken line holds no `address:port`. Only the last piece does, and there
 * nginx wrote all values that are read.
 */
function lineBreaking(names: readonly string[], read: ReadonlySet<string>): string | undefined {
  const first = names.findIndex((name) => read.has(name) || name.startsWith('request'));
  return names.find((name, index) => mayBreakLine(name) && !(name === 'remote_user' && index < first));
}

function escapingWarnings(escaping: Escaping, breaking: string | undefined): string[] {
  if (breaking !== undefined) {
    return [
      `with escape=none, $${breaking} lets clients write log lines of their own, so no line of this log is resolved; use escape=json or escape=default in log_format`,
    ];
  }
  if (escaping !== 'none') return [];
  return [
    'with escape=none, lines in which a client wrote what looks like other fields are left as they are; escape=json or escape=default in log_format avoids this',
  ];
}

function joinedWarnings(variables: readonly string[], read: ReadonlySet<string>): string[] {
  return variables
    .filter((name) => name.includes('$') && name.split('$').some((part) => read.has(part)))
    .map(
      (name) =>
        `the log format has nothing between $${name.split('$').join(' and $')}, so they are not read; put a space between them`,
    );
}

function finestTime(names: readonly string[]): keyof typeof TIME_KINDS | undefined {
  for (const name of ['msec', 'time_iso8601', 'time_local'] as const) if (names.includes(name)) return name;
  return undefined;
}

function fieldName(option: string): string {
  return option.replace(/^\$/, '').toLowerCase();
}
