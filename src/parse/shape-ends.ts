import { CLASS, classOf, type Shape } from './log-variable.ts';
import {
  isTimeIso8601,
  isTimeLocal,
  separatorLength,
  TIME_ISO8601_LENGTH,
  TIME_LOCAL_LENGTH,
} from './match-shape.ts';

const SPACE = 0x20;
const MINUS = 0x2d;
const POINT = 0x2e;
const SLASH = 0x2f;
const COLON = 0x3a;
const OPEN = 0x5b;
const CLOSE = 0x5d;

/** All places where a value of a shape can end, as the longest one need not be the true one. */
export class ShapeEnds {
  /** What `find` found, ascending. */
  readonly found: number[] = [];
  /** How many bytes the last `find` looked at. */
  looked = 0;
  #count = 0;
  #fixed: Uint8Array = new Uint8Array(0);
  #bytes: Uint8Array = new Uint8Array(0);
  #limit = 0;
  /** The first byte of `fixed`, or -1. Loops compare it before they look further. */
  #first = -1;

  /** The ends of the values that begin at `at`, before `end`, and have `fixed` behind them: how many there are. */
  find(shape: Shape, fixed: Uint8Array, bytes: Uint8Array, at: number, end: number): number {
    this.#count = 0;
    this.#fixed = fixed;
    this.#bytes = bytes;
    this.#limit = end - fixed.length;
    this.#first = fixed.length === 0 ? -1 : fixed[0]!;
    this.looked = 1;
    switch (shape) {
      case 'number':
        this.#offer(at);
        if (at < end && bytes[at] === MINUS) this.#offer(at + 1);
        else this.#run(classOf(shape), at, end, at + 1);
        break;
      case 'count':
        this.#digits(at, end, 1);
        break;
      case 'status':
        this.#digits(at, end, 3);
        break;
      case 'decimal':
        this.#decimal(at, end);
        break;
      case 'word':
      case 'address':
        this.#offer(at);
        this.#run(classOf(shape), at, end, at + 1);
        break;
      case 'protocol':
        this.#protocol(at, end);
        break;
      case 'number-list':
      case 'count-list':
      case 'peer-list':
        this.#list(classOf(shape), shape === 'peer-list', at, end);
        break;
      case 'time-local':
        if (isTimeLocal(bytes, at, end)) this.#offer(at + TIME_LOCAL_LENGTH);
        break;
      case 'time-iso8601':
        if (isTimeIso8601(bytes, at, end)) this.#offer(at + TIME_ISO8601_LENGTH);
        break;
      case 'text':
        break;
    }
    return this.#count;
  }

  #offer(at: number): void {
    if (at > this.#limit) return;
    const fixed = this.#fixed;
    const bytes = this.#bytes;
    for (let k = 0; k < fixed.length; k++) if (bytes[at + k] !== fixed[k]) return;
    if (this.#count > 0 && this.found[this.#count - 1] === at) return;
    this.found[this.#count++] = at;
  }

  /** Offers each place from `first` on behind bytes of the class; returns where they end. */
  #run(mask: number, from: number, end: number, first: number): number {
    const bytes = this.#bytes;
    const next = this.#first;
    let at = from;
    while (at < end && (CLASS[bytes[at]!]! & mask) !== 0) {
      at++;
      if (at >= first && (next < 0 || bytes[at] === next)) this.#offer(at);
    }
    this.looked += at - from;
    return at;
  }

  #digits(from: number, end: number, fewest: number): void {
    const bytes = this.#bytes;
    const next = this.#first;
    let at = from;
    while (at < end && isDigit(bytes[at]!)) {
      at++;
      if (at >= from + fewest && (next < 0 || bytes[at] === next)) this.#offer(at);
    }
    this.looked += at - from;
  }

  /** `1764837843.123` */
  #decimal(from: number, end: number): void {
    const bytes = this.#bytes;
    let at = from;
    while (at < end && isDigit(bytes[at]!)) at++;
    const point = at;
    if (point > from && point < end && bytes[point] === POINT) {
      at++;
      while (at < end && isDigit(bytes[at]!)) this.#offer(++at);
    }
    this.looked += at - from;
  }

  /** `-`, nothing, or `HTTP/1.1` and blanks. */
  #protocol(from: number, end: number): void {
    const bytes = this.#bytes;
    this.#offer(from);
    if (from < end && bytes[from] === MINUS) this.#offer(from + 1);
    let at = from;
    while (at < end && at < from + 4 && bytes[at] === HTTP[at - from]) at++;
    if (at < from + 4 || at >= end || bytes[at] !== SLASH) return;
    at++;
    while (at < end && (isDigit(bytes[at]!) || bytes[at] === POINT)) this.#offer(++at);
    while (at < end && bytes[at] === SPACE) this.#offer(++at);
    this.looked += at - from;
  }

  /** As matchList in match-shape.ts, where an entry may also end before its last byte. */
  #list(mask: number, peers: boolean, from: number, end: number): void {
    const bytes = this.#bytes;
    let at = from;
    for (;;) {
      this.#offer(at);
      if (!peers && at < end && bytes[at] === MINUS) this.#offer(++at);
      else if (peers && at < end && bytes[at] === OPEN) at = this.#ipv6Peer(at, end);
      else at = this.#run(mask, at, end, at + 1);
      const separator = separatorLength(bytes, at, end);
      if (separator === 0) break;
      at += separator;
      this.looked += separator;
    }
  }

  #ipv6Peer(from: number, end: number): number {
    const bytes = this.#bytes;
    const mask = classOf('address');
    let close = from + 1;
    while (close < end && (CLASS[bytes[close]!]! & mask) !== 0) close++;
    this.looked += close - from;
    if (close + 1 >= end || bytes[close] !== CLOSE || bytes[close + 1] !== COLON) return from;
    this.#offer(close + 2);
    return this.#run(classOf('number'), close + 2, end, close + 3);
  }
}

const HTTP = Uint8Array.from(Buffer.from('HTTP'));

function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39;
}
