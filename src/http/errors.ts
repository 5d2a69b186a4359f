/** The body of every error of the HTTP interfaces, under the key `error`. */
export interface ErrorBody {
  /** Stable, for programs. */
  code: string;
  /** One line for people. */
  message: string;
  /** What to do about it. */
  next: string;
}

/** A response other than success. Thrown in a route, it becomes `{"error":{code,message,next}}` with its status. */
export class HttpError extends Error {
  readonly status: number;
  readonly code: string;
  readonly next: string;

  constructor(status: number, code: string, message: string, next: string) {
    super(message);
    this.status = status;
    this.code = code;
    this.next = next;
  }

  get body(): ErrorBody {
    return { code: this.code, message: this.message, next: this.next };
  }
}

/** One kind of failure of the HTTP interfaces. */
interface ErrorKind {
  status: number;
  /** The condition, for the documentation. */
  when: string;
  /** What to do about it by default. */
  next: string;
}

/**
 * Every error of the sidecar's interface. `/openapi.json` is made from this, and a test compares docs/api.md and the
 * code with it.
 */
export const ERRORS = {
  'bad-parameter': {
    status: 400,
    when: 'A parameter is missing, unknown or not what it has to be; the message names it.',
    next: 'docs/api.md and /openapi.json describe the parameters',
  },
  'bad-request': {
    status: 400,
    when: 'The request cannot be read as HTTP, or its body is not wanted; 408, 413, 414, 415, 417 or 431 where HTTP has a status for the case.',
    next: 'docs/api.md and /openapi.json list the endpoints',
  },
  'wrong-host': {
    status: 421,
    when: 'The `Host` header names neither an address, localhost nor a Service (`*.svc`), and `--allow-host` does not list it.',
    next: 'ask by the address, or add the name with --allow-host',
  },
  'no-such-route': {
    status: 404,
    when: 'There is no such path, or not with this method.',
    next: 'docs/api.md and /openapi.json list the endpoints',
  },
  'no-line': {
    status: 404,
    when: 'No line with this request id is among the recent ones.',
    next: 'only the youngest lines are kept; look it up in the enriched log',
  },
  'no-feed': {
    status: 404,
    when: 'Nothing has come from the helper yet, so no port can be looked up.',
    next: 'see /status and the log of realpod',
  },
  gap: {
    status: 404,
    when: 'The record of connections is incomplete at the time that was asked for.',
    next: 'see /status for the gaps',
  },
  'no-flow': {
    status: 404,
    when: 'No connection from this source port is known at that time.',
    next: 'connections are kept for a while only; ask sooner, or without time for the last one',
  },
  'too-many-requests': {
    status: 429,
    when: 'One address sends more requests a second than it is allowed.',
    next: 'ask more rarely, or keep /lines/stream open',
  },
  'too-many-streams': {
    status: 503,
    when: 'As many clients read /lines/stream as it serves.',
    next: 'close another page or tail, or poll /lines',
  },
  'output-stalled': {
    status: 503,
    when: 'An output is blocked, so lines are waiting.',
    next: 'see the log of realpod: a disk may be full',
  },
  internal: {
    status: 500,
    when: 'Something failed that was not foreseen.',
    next: 'the log of realpod says why; please report it',
  },
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof ERRORS;

/** The error `code` with a message for this case; `next` replaces the default. */
export function failure(code: ErrorCode, message: string, next: string = ERRORS[code].next): HttpError {
  return new HttpError(ERRORS[code].status, code, message, next);
}
