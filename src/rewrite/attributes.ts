/**
 * The names of nginx's variables in `--style json`: the attribute of OpenTelemetry's semantic conventions with the same
 * meaning, else `nginx.` and the variable's name.
 */

export type AttributeType =
  | 'string'
  /** A JSON number; text that is not a number stays text. */
  | 'number'
  /** A list of strings, which the conventions require for headers. */
  | 'strings';

export interface Attribute {
  readonly name: string;
  readonly type: AttributeType;
}

/** Variables of a fixed name. `$request`, `$request_method`, `$request_uri` and `$server_protocol` are in SPLIT_ATTRIBUTES. */
export const ATTRIBUTES: Readonly<Record<string, Attribute>> = {
  args: { name: 'url.query', type: 'string' },
  body_bytes_sent: { name: 'http.response.body.size', type: 'number' },
  bytes_sent: { name: 'http.response.size', type: 'number' },
  connection: { name: 'nginx.connection', type: 'number' },
  connection_requests: { name: 'nginx.connection_requests', type: 'number' },
  connection_time: { name: 'nginx.connection_time', type: 'number' },
  content_length: { name: 'http.request.body.size', type: 'number' },
  gzip_ratio: { name: 'nginx.gzip_ratio', type: 'number' },
  host: { name: 'server.address', type: 'string' },
  hostname: { name: 'host.name', type: 'string' },
  http_user_agent: { name: 'user_agent.original', type: 'string' },
  msec: { name: 'nginx.msec', type: 'number' },
  otel_span_id: { name: 'span_id', type: 'string' },
  otel_trace_id: { name: 'trace_id', type: 'string' },
  pid: { name: 'process.pid', type: 'number' },
  query_string: { name: 'url.query', type: 'string' },
  realip_remote_addr: { name: 'network.peer.address', type: 'string' },
  realip_remote_port: { name: 'network.peer.port', type: 'number' },
  remote_addr: { name: 'client.address', type: 'string' },
  remote_port: { name: 'client.port', type: 'number' },
  remote_user: { name: 'user.name', type: 'string' },
  request_length: { name: 'http.request.size', type: 'number' },
  request_time: { name: 'nginx.request_time', type: 'number' },
  scheme: { name: 'url.scheme', type: 'string' },
  server_addr: { name: 'network.local.address', type: 'string' },
  server_port: { name: 'server.port', type: 'number' },
  ssl_cipher: { name: 'tls.cipher', type: 'string' },
  status: { name: 'http.response.status_code', type: 'number' },
};

/** Variables that become several attributes, in the order in which they are written. */
export const SPLIT_ATTRIBUTES: Readonly<Record<string, readonly string[]>> = {
  request: [
    'http.request.method',
    'http.request.method_original',
    'url.path',
    'url.query',
    'url.original',
    'network.protocol.name',
    'network.protocol.version',
  ],
  request_method: ['http.request.method', 'http.request.method_original'],
  request_uri: ['url.path', 'url.query', 'url.original'],
  server_protocol: ['network.protocol.name', 'network.protocol.version'],
  ssl_protocol: ['tls.protocol.name', 'tls.protocol.version'],
};

/** Attributes that come from no variable. */
export const OWN_ATTRIBUTES: Readonly<Record<string, string>> = {
  timestamp: 'when nginx wrote the line, RFC 3339, UTC',
  body: 'a line that does not fit the log format, unchanged',
  'log.record.original': 'the unchanged line, where not all of its values are certain',
  'destination.address':
    'the address that answered: of the last attempt, where it was resolved or is the pod’s own',
  'destination.port': 'its port',
  'destination.k8s.pod.name': 'the pod of that address',
  'destination.k8s.namespace.name': 'its namespace',
  'destination.k8s.node.name': 'its node',
  'service.peer.name': 'its Service',
  'realpod.attempts':
    'what each entry of $upstream_addr led to: upstream, ip, port, pod, namespace, node, service, status, seconds (of $upstream_response_time), evidence or reason',
  'realpod.client.reason':
    'why the client behind an address of a node is not known, in the place of client.address: ambiguous, gap, no-flow, realip or other-node',
  'realpod.unparsed': 'why the line was not parsed: empty, format or too-long',
};

/** The attribute of a variable that is not in SPLIT_ATTRIBUTES. */
export function attributeOf(variable: string): Attribute {
  const fixed = Object.hasOwn(ATTRIBUTES, variable) ? ATTRIBUTES[variable] : undefined;
  if (fixed) return fixed;
  const request = /^http_(\w+)$/.exec(variable);
  if (request) return { name: `http.request.header.${request[1]!.replaceAll('_', '-')}`, type: 'strings' };
  const response = /^sent_http_(\w+)$/.exec(variable);
  if (response) return { name: `http.response.header.${response[1]!.replaceAll('_', '-')}`, type: 'strings' };
  return { name: `nginx.${variable}`, type: 'string' };
}

/** Methods of the conventions; others are `_OTHER`, with the text in `http.request.method_original`. */
export const KNOWN_METHODS: ReadonlySet<string> = new Set([
  'GET',
  'HEAD',
  'POST',
  'PUT',
  'DELETE',
  'CONNECT',
  'OPTIONS',
  'TRACE',
  'PATCH',
]);
