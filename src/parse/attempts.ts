import type { AddressSpan, Attempt } from '../model/line.ts';
import { parseHostPort, parsePort } from './address.ts';
import { secondsToMs, wholeNumber } from './log-time.ts';
import { separatorLength } from './match-shape.ts';

const SPACE = 0x20;
const COMMA = 0x2c;
const MINUS = 0x2d;

/** Attempts of one line that are read; a line with more is not looked at. */
export const MAX_ATTEMPTS = 256;

/** The variables that run in step with `$upstream_addr`, in the order of the columns below. */
export const COLUMNS = [
  'upstream_connect_time',
  'upstream_header_time',
  'upstream_response_time',
  'upstream_status',
  'upstream_bytes_sent',
  'upstream_bytes_received',
] as const;
const TIMES = 3;
const LOCAL_PORT = COLUMNS.length;

/** Entries of a column that are no number: `-` or nothing, and not known. */
const NONE = -1;
const UNKNOWN = -2;

/**
 * Reads the attempts of a line from the spans of its upstream lists.
 *
 * nginx writes these lists in step, with the same separators (ngx_http_upstream.c). Where its own lists are not, only the
 * addresses are kept, as it is unknown which entries belong together. The local port comes from elsewhere; where it is
 * not in step, it alone is left out.
 */
export class AttemptReader {
  readonly #peers: number;
  /** `$protocol` of `stream { }`. */
  readonly #protocol: number;
  /** The columns that are logged, and the variables they are read from. */
  readonly #columns: readonly number[];
  readonly #variables: readonly number[];
  readonly #localPort: number;
  readonly #values = new Float64Array((LOCAL_PORT + 1) * MAX_ATTEMPTS);
  readonly #starts = new Int32Array(MAX_ATTEMPTS);
  readonly #ends = new Int32Array(MAX_ATTEMPTS);
  readonly #separators = new Uint8Array(MAX_ATTEMPTS);

  /** `indexOf`: the place of a variable among the splitter's, or -1. */
  constructor(indexOf: (variable: string) => number, localPortField: string | undefined) {
    this.#peers = indexOf('upstream_addr');
    this.#protocol = indexOf('protocol');
    const variables = COLUMNS.map(indexOf);
    this.#columns = variables.flatMap((variable, column) => (variable < 0 ? [] : [column]));
    this.#variables = this.#columns.map((column) => variables[column]!);
    this.#values.fill(UNKNOWN);
    this.#localPort = localPortField === undefined ? -1 : indexOf(localPortField);
  }

  /** Undefined: `$upstream_addr` is not certain, or holds more than MAX_ATTEMPTS. */
  read(bytes: Uint8Array, spans: Int32Array): Attempt[] | undefined {
    if (spans[2 * this.#peers]! < 0) return undefined;
    const count = this.#readPeers(bytes, spans[2 * this.#peers]!, spans[2 * this.#peers + 1]!);
    if (count > MAX_ATTEMPTS) return undefined;
    let inStep = true;
    for (let i = 0; i < this.#columns.length; i++) {
      if (!this.#readColumn(this.#columns[i]!, this.#variables[i]!, count, bytes, spans)) inStep = false;
    }
    if (!inStep) for (const column of this.#columns) this.#forget(column, count);
    if (this.#localPort >= 0 && !this.#readColumn(LOCAL_PORT, this.#localPort, count, bytes, spans)) {
      this.#forget(LOCAL_PORT, count);
    }
    const attempts = new Array<Attempt>(count);
    const ofIp = this.#protocol >= 0 && mayBeUdp(bytes, spans, this.#protocol) ? 'udp' : 'ip';
    for (let k = 0; k < count; k++) attempts[k] = this.#attempt(k, bytes, ofIp);
    return attempts;
  }

  /**
   * The addresses of the line that `read` has read last, where `variable` says them again. Undefined: it does not, or is
   * not certain.
   */
  copyAt(bytes: Uint8Array, spans: Int32Array, variable: number): AddressSpan[] | undefined {
    const from = spans[2 * this.#peers]!;
    const length = spans[2 * this.#peers + 1]! - from;
    const start = spans[2 * variable]!;
    if (start < 0 || spans[2 * variable + 1]! - start !== length) return undefined;
    for (let k = 0; k < length; k++) if (bytes[start + k] !== bytes[from + k]) return undefined;
    const copy: AddressSpan[] = [];
    for (let k = 0; ; k++) {
      copy.push({ start: this.#starts[k]! - from + start, end: this.#ends[k]! - from + start });
      if (this.#separators[k] === 0) return copy;
    }
  }

  #attempt(k: number, bytes: Uint8Array, ofIp: 'ip' | 'udp'): Attempt {
    const start = this.#starts[k]!;
    const end = this.#ends[k]!;
    const peer = parseHostPort(bytes, start, end);
    return {
      start,
      end,
      kind: peer ? ofIp : kindOf(bytes, start, end),
      ip: peer && ofIp === 'ip' ? peer.ip : '',
      port: peer && ofIp === 'ip' ? peer.port : 0,
      connectMs: this.#value(0, k),
      headerMs: this.#value(1, k),
      responseMs: this.#value(2, k),
      status: this.#value(3, k),
      bytesSent: this.#value(4, k),
      bytesReceived: this.#value(5, k),
      localPort: this.#value(LOCAL_PORT, k),
    };
  }

  #value(column: number, k: number): number | null | undefined {
    const value = this.#values[column * MAX_ATTEMPTS + k]!;
    return value >= 0 ? value : value === NONE ? null : undefined;
  }

  /** Finds the entries of `$upstream_addr` and what stands between them; returns how many there are. */
  #readPeers(bytes: Uint8Array, from: number, end: number): number {
    let count = 0;
    let start = from;
    for (;;) {
      const at = nextSeparator(bytes, start, end);
      const separator = separatorLength(bytes, at, end);
      if (count === MAX_ATTEMPTS) return MAX_ATTEMPTS + 1;
      this.#starts[count] = start;
      this.#ends[count] = at;
      this.#separators[count] = separator;
      count++;
      if (separator === 0) return count;
      start = at + separator;
    }
  }

  /** Reads one list into its column; false if it is not in step with the peers. */
  #readColumn(
    column: number,
    variable: number,
    count: number,
    bytes: Uint8Array,
    spans: Int32Array,
  ): boolean {
    const values = this.#values;
    const base = column * MAX_ATTEMPTS;
    const end = spans[2 * variable + 1]!;
    let start = spans[2 * variable]!;
    if (start < 0) {
      this.#forget(column, count);
      return true;
    }
    for (let k = 0; k < count; k++) {
      const at = nextSeparator(bytes, start, end);
      const separator = separatorLength(bytes, at, end);
      if (separator !== this.#separators[k]) return false;
      values[base + k] = readEntry(column, bytes, start, at);
      start = at + separator;
    }
    return true;
  }

  #forget(column: number, count: number): void {
    const base = column * MAX_ATTEMPTS;
    for (let k = 0; k < count; k++) this.#values[base + k] = UNKNOWN;
  }
}

/** Where the entry that begins at `from` ends. */
function nextSeparator(bytes: Uint8Array, from: number, end: number): number {
  for (let at = from; at < end; at++) {
    const byte = bytes[at]!;
    if ((byte === SPACE || byte === COMMA) && separatorLength(bytes, at, end) !== 0) return at;
  }
  return end;
}

function readEntry(column: number, bytes: Uint8Array, start: number, end: number): number {
  if (isNone(bytes, start, end)) return NONE;
  if (column === LOCAL_PORT) {
    const port = parsePort(bytes, start, end);
    return port === 0 ? UNKNOWN : port;
  }
  const value = column < TIMES ? secondsToMs(bytes, start, end) : wholeNumber(bytes, start, end);
  return value ?? UNKNOWN;
}

const UDP = Buffer.from('UDP');

/** Whether the value is `UDP`, or not certain: connections say nothing of datagrams to the same address and port. */
function mayBeUdp(bytes: Uint8Array, spans: Int32Array, variable: number): boolean {
  const start = spans[2 * variable]!;
  return start < 0 || UDP.equals(bytes.subarray(start, spans[2 * variable + 1]!));
}

function kindOf(bytes: Uint8Array, start: number, end: number): 'unix' | 'name' | 'none' {
  if (isNone(bytes, start, end)) return 'none';
  return isUnix(bytes, start, end) ? 'unix' : 'name';
}

function isNone(bytes: Uint8Array, start: number, end: number): boolean {
  return start === end || (end === start + 1 && bytes[start] === MINUS);
}

function isUnix(bytes: Uint8Array, start: number, end: number): boolean {
  return (
    end - start >= 5 &&
    bytes[start] === 0x75 &&
    bytes[start + 1] === 0x6e &&
    bytes[start + 2] === 0x69 &&
    bytes[start + 3] === 0x78 &&
    bytes[start + 4] === 0x3a
  );
}
