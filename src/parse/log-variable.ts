/**
 * What nginx can write for a variable, as far as that decides where its value ends in a line.
 *
 * A shape must allow everything that nginx writes (else lines would not fit), and a shape other than `text` claims
 * that no client can put anything else there. Hence all that comes from a client as it is, and all that is not listed,
 * is `text`.
 */
export type Shape =
  /** Anything, within the format's escaping. */
  | 'text'
  /** Digits and points, or `-`, or nothing. */
  | 'number'
  /** Digits, at least one: what nginx always knows (ngx_http_log_module.c). */
  | 'count'
  /** Digits, at least three (`%03ui` in ngx_http_log_module.c). */
  | 'status'
  /** Seconds with their fraction, `1764837843.123` (`%T.%03M`). */
  | 'decimal'
  /** `HTTP/1.1`, also with blanks behind it, as nginx takes them from the client (ngx_http_parse.c); `-`; nothing. */
  | 'protocol'
  /** Letters, digits and `. _ - / % + ~ @`, or nothing. */
  | 'word'
  /** A word that may hold colons: an IP address, or `unix:`. */
  | 'address'
  /** `04/Dec/2025:07:27:17 +0000` (ngx_times.c) */
  | 'time-local'
  /** `2025-12-04T07:27:17+00:00` (ngx_times.c) */
  | 'time-iso8601'
  /** Numbers, one an attempt: `0.001, 0.002 : 0.003` */
  | 'number-list'
  /** Whole numbers, one an attempt: `502, 200` */
  | 'count-list'
  /** Peers, one an attempt: `10.0.0.1:80, [::1]:80 : unix:/run/app.sock` */
  | 'peer-list';

const SHAPES: Readonly<Record<string, Shape>> = {
  upstream_addr: 'peer-list',
  upstream_connect_time: 'number-list',
  upstream_header_time: 'number-list',
  upstream_response_time: 'number-list',
  upstream_queue_time: 'number-list',
  upstream_status: 'count-list',
  upstream_bytes_sent: 'count-list',
  upstream_bytes_received: 'count-list',
  upstream_response_length: 'count-list',
  upstream_first_byte_time: 'number-list',
  upstream_session_time: 'number-list',
  time_local: 'time-local',
  time_iso8601: 'time-iso8601',
  msec: 'decimal',
  request_time: 'decimal',
  status: 'status',
  body_bytes_sent: 'count',
  bytes_sent: 'count',
  bytes_received: 'count',
  session_time: 'decimal',
  request_length: 'count',
  connection: 'count',
  connection_requests: 'count',
  connection_time: 'number',
  connections_active: 'number',
  pid: 'count',
  gzip_ratio: 'number',
  remote_port: 'number',
  realip_remote_port: 'number',
  server_port: 'number',
  proxy_protocol_port: 'number',
  proxy_protocol_server_port: 'number',
  tcpinfo_rtt: 'number',
  tcpinfo_rttvar: 'number',
  tcpinfo_snd_cwnd: 'number',
  tcpinfo_rcv_space: 'number',
  request_id: 'word',
  // ngx_http_parse.c and ngx_http_v2.c take A-Z, "-" and "_" only.
  request_method: 'word',
  server_protocol: 'protocol',
  protocol: 'word',
  scheme: 'word',
  pipe: 'word',
  http2: 'word',
  http3: 'word',
  https: 'word',
  request_completion: 'word',
  upstream_cache_status: 'word',
  ssl_protocol: 'word',
  ssl_cipher: 'word',
  ssl_session_reused: 'word',
  limit_req_status: 'word',
  limit_conn_status: 'word',
  nginx_version: 'word',
  remote_addr: 'address',
  server_addr: 'address',
  realip_remote_addr: 'address',
  proxy_protocol_addr: 'address',
  proxy_protocol_server_addr: 'address',
};

export function shapeOf(variable: string): Shape {
  return Object.hasOwn(SHAPES, variable) ? SHAPES[variable]! : 'text';
}

/**
 * Whether a client can put a line break into the variable, and so whole lines of its own into a log that escapes nothing.
 * Header fields, targets and parts of them end at a line break. A variable that is not listed may come from a decoded
 * target, as `$uri` does.
 */
export function mayBreakLine(variable: string): boolean {
  if (shapeOf(variable) !== 'text' || WHOLE.has(variable)) return false;
  return !/^(http|arg|cookie|upstream_http|upstream_cookie)_/.test(variable);
}

const WHOLE: ReadonlySet<string> = new Set([
  'args',
  'content_length',
  'content_type',
  'host',
  'hostname',
  'is_args',
  'proxy_add_x_forwarded_for',
  'proxy_host',
  'query_string',
  'request',
  'request_uri',
  'server_name',
  'ssl_server_name',
]);

/** Byte classes, as bits of `CLASS[byte]`. */
export const DIGITS = 1;
export const WORD = 2;
export const ADDRESS = 4;
export const PEER = 8;
export const INTEGER = 16;

/** The classes that each byte belongs to. */
export const CLASS = new Uint8Array(256);
for (let byte = 0x21; byte < 0x7f; byte++) {
  const char = String.fromCharCode(byte);
  const alphanumeric = /[0-9A-Za-z]/.test(char);
  if (/[0-9.]/.test(char)) CLASS[byte]! |= DIGITS;
  if (/[0-9]/.test(char)) CLASS[byte]! |= INTEGER;
  if (alphanumeric || '._-/%+~@'.includes(char)) CLASS[byte]! |= WORD;
  if (alphanumeric || '._-/%+~@:'.includes(char)) CLASS[byte]! |= ADDRESS;
  // nginx allows any byte in an upstream's name or a socket's path; spaces, commas, brackets, bars and quotes are left out.
  if (alphanumeric || '._-/%+~@:=#$!*'.includes(char)) CLASS[byte]! |= PEER;
}

/** The class of the bytes that a value of this shape may go on with, or 0 where the shape itself says where it ends. */
export function classOf(shape: Shape): number {
  switch (shape) {
    case 'number':
    case 'count':
    case 'status':
    case 'decimal':
    case 'number-list':
      return DIGITS;
    case 'word':
      return WORD;
    case 'address':
      return ADDRESS;
    case 'count-list':
      return INTEGER;
    case 'peer-list':
      return PEER;
    default:
      return 0;
  }
}
