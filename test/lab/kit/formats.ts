/** The log formats of the lab. Each ends in the truth fields, which the product gets to see as opaque text only. */

const ARTICLE =
  '$remote_addr - $remote_user [$time_local] "$request" $status $upstream_addr $body_bytes_sent "$http_referer" "$http_user_agent" "$http_x_forwarded_for"';

const TIMES =
  '$msec $request_time "$upstream_connect_time" "$upstream_header_time" "$upstream_response_time" "$upstream_status" "$upstream_bytes_sent"';

/** What the answering backend said about itself (headers of the last attempt's response), at the very end of the line. */
export const TRUTH = '"$upstream_http_x_pod_ip" "$upstream_http_x_pod_port" "$upstream_http_x_client_port"';

/** The article's format with the id and the times, without the lab's truth: what the README recommends. */
export const RECOMMENDED = `${ARTICLE} "$request_id" ${TIMES}`;

export const FORMATS = {
  /** The article's format and nothing that helps. */
  article: `${ARTICLE} ${TRUTH}`,
  /** The article's format with the id alone. */
  id: `${ARTICLE} "$request_id" ${TRUTH}`,
  /** The recommended fields. */
  full: `${ARTICLE} "$request_id" ${TIMES} ${TRUTH}`,
  /** The recommended fields, with an id that a `map` lets clients choose. */
  chosen: `${ARTICLE} "$chosen_id" ${TIMES} ${TRUTH}`,
  /** The same without the id. */
  times: `${ARTICLE} ${TIMES} ${TRUTH}`,
  /** And with both byte counts. */
  counts: `${ARTICLE} ${TIMES} "$upstream_bytes_received" ${TRUTH}`,
  /** The recommended fields with the variable of `nginx-module/`. The port goes before the id. */
  ports: `${ARTICLE} "$upstream_local_port" "$request_id" ${TIMES} ${TRUTH}`,
} as const;

/** A format with the variable of `nginx-module/`. The port goes before the id, where the lab's judge expects one. */
export function withLocalPort(format: string): string {
  return format.replace(ARTICLE, `${ARTICLE} "$upstream_local_port"`);
}

/**
 * Of a `stream { }` server, one line a connection. In the place of the user's name stands the client's port, and in that
 * of the target the server's: by the two the truth is found.
 */
export const STREAM =
  '$remote_addr - $remote_port [$time_local] "$protocol $server_port" $status $upstream_addr $bytes_sent $bytes_received $msec $session_time "$upstream_connect_time" "$upstream_session_time" "$upstream_bytes_sent" "$upstream_bytes_received"';

export type FormatName = keyof typeof FORMATS;

/** The variable of TRUTH that is the upstream connection's local port, for `--local-port-field`. */
export const LOCAL_PORT_FIELD = 'upstream_http_x_client_port';
