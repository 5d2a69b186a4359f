/** One parsed access line: the values that join and rewrite use. */
import type { RequestContent } from './content.ts';

/**
 * The kind of an entry of `$upstream_addr`. `udp`: an address that nginx sends datagrams to, or may. `name`: an upstream group's
 * name, no peer was chosen. `none`: `-`.
 */
export type AddressKind = 'ip' | 'udp' | 'unix' | 'name' | 'none';

/** The byte span of an address, relative to the bytes given to the parser. */
export interface AddressSpan {
  start: number;
  end: number;
}

/**
 * One entry of nginx's upstream lists (`$upstream_addr` and those that run in step with it).
 * Where a variable is not logged, its field is `undefined`; where nginx wrote `-`, it is `null`.
 */
export interface Attempt {
  /** Byte span of the address (with brackets and port), relative to the bytes given to the parser. */
  start: number;
  end: number;
  kind: AddressKind;
  /** Canonical address and port; '' and 0 unless `kind` is `ip`. */
  ip: string;
  port: number;
  connectMs: number | null | undefined;
  headerMs: number | null | undefined;
  responseMs: number | null | undefined;
  status: number | null | undefined;
  bytesSent: number | null | undefined;
  bytesReceived: number | null | undefined;
  /** The upstream connection's local port, from the variable named by `--local-port-field`. */
  localPort: number | null | undefined;
}

export interface ParsedLine {
  attempts: readonly Attempt[];
  /** The spans of each further `$upstream_addr` of the format, in step with the attempts. */
  copies?: readonly (readonly AddressSpan[])[] | undefined;
  /** When nginx wrote the line, ms since the epoch: the earliest instant the logged text allows. */
  endMs: number | undefined;
  /** The resolution of the logged time in ms, so the real instant is before `endMs` plus this: 1 for `$msec`, 1000 for `$time_local`. */
  endStepMs: number;
  /** `$request_time` in ms. */
  requestMs: number | undefined;
  /** The request id, undefined when not logged or `-`. */
  id: string | undefined;
  /** Further requests of clients may have the same id: a client's own, or that of a trace. */
  readonly idRecurs?: boolean | undefined;
  /** From `$request`, or `$request_method`. */
  method: string | undefined;
  /** From `$request` or `$request_uri`: the target as the client sent it (nginx's log escapes undone). */
  path: string | undefined;
  status: number | undefined;
  /** What the line says of its request's content; undefined where the attempts may have had another. */
  readonly content?: RequestContent | undefined;
}

/** Why a line is not parsed; it passes unchanged. */
export type UnparsedReason = 'empty' | 'format' | 'too-long';
