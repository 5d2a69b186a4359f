import { DEFAULT_LOG_FORMAT } from '../parse/log-format.ts';
import type { CommandSpec, OptionSpec } from './option.ts';

const SIDECAR: readonly OptionSpec[] = [
  {
    name: 'access-log',
    kind: 'text',
    value: 'PATH',
    fallback: '/var/log/nginx/access.log',
    meaning: 'the log to follow; may not exist yet',
  },
  {
    name: 'log-format',
    kind: 'text',
    value: 'STRING',
    fallback: DEFAULT_LOG_FORMAT,
    meaning: "the text of nginx's log_format, or combined; escape=json and escape=none understood",
  },
  {
    name: 'output',
    kind: 'text',
    value: 'PATH',
    fallback: '-',
    repeatable: true,
    meaning: 'where enriched lines go; - is stdout',
  },
  {
    name: 'style',
    kind: { oneOf: ['replace', 'annotate', 'json'] },
    fallback: 'replace',
    meaning:
      'replace: only the addresses differ; annotate: and pod=… evidence=… at the end; json: one object a line',
  },
  {
    name: 'helper',
    kind: 'text',
    value: 'URL|embedded',
    fallback: 'http://$HOST_IP:9797',
    meaning: 'where the feed is pulled from; embedded: read the kernel in this process',
  },
  {
    name: 'source-address',
    kind: 'text',
    value: 'IP',
    repeatable: true,
    meaning: "nginx's own addresses (default: those of this network namespace)",
  },
  {
    name: 'evidence',
    kind: { oneOf: ['exact', 'inferred'] },
    fallback: 'exact',
    meaning: 'inferred also accepts timing',
  },
  {
    name: 'request-id-field',
    kind: 'variable',
    value: 'NAME',
    fallback: 'request_id',
    meaning: 'the log variable that carries the request id',
  },
  {
    name: 'local-port-field',
    kind: 'variable',
    value: 'NAME',
    meaning: "the log variable that carries the upstream connection's local port",
  },
  {
    name: 'max-wait',
    kind: 'duration',
    value: 'DURATION',
    fallback: '2s',
    meaning: 'how long a line may wait for its evidence; then it is written as it is',
  },
  {
    name: 'listen',
    kind: 'listen',
    value: 'ADDR:PORT',
    fallback: ':9798',
    meaning: 'lookup API, metrics, page',
  },
  {
    name: 'state',
    kind: 'text',
    value: 'PATH',
    meaning: 'checkpoint (default: beside the output; with stdout alone, beside the log)',
  },
  {
    name: 'reclaim',
    kind: 'flag',
    meaning: 'give consumed bytes of the access log back to the file system (hole punching)',
  },
  { name: 'token-file', kind: 'text', value: 'PATH', meaning: 'bearer token for the helper' },
];

const sidecarOptions = (...names: string[]): OptionSpec[] =>
  SIDECAR.filter(({ name }) => names.includes(name));

const SIDECAR_URL: OptionSpec = {
  name: 'sidecar',
  kind: 'text',
  value: 'URL',
  fallback: 'http://127.0.0.1:9798',
  meaning: 'the sidecar to ask, such as one behind kubectl port-forward POD 9798',
};

/** What an embedded helper shares with a helper of its own. */
const CAPTURE: readonly OptionSpec[] = [
  {
    name: 'sources',
    kind: { someOf: ['conntrack', 'tap', 'kernel-log'] },
    value: 'LIST',
    fallback: 'conntrack,tap',
    meaning: 'any of conntrack, tap, kernel-log',
  },
  { name: 'tap-group', kind: 'port-number', value: 'N', fallback: '9797', meaning: 'NFLOG group' },
  {
    name: 'tap-snaplen',
    kind: 'bytes',
    value: 'BYTES',
    fallback: '1024',
    meaning: "how much of a request's first packet is copied",
  },
  {
    name: 'tap',
    kind: { oneOf: ['request', 'headers'] },
    fallback: 'request',
    meaning: 'headers copies no payload at all, only TCP headers',
  },
  {
    name: 'no-paths',
    kind: 'flag',
    meaning: 'keep the targets of requests out of the feed',
  },
  {
    name: 'request-id-header',
    kind: 'header',
    value: 'NAME',
    fallback: 'X-Request-ID',
    meaning: 'the header that carries the request id',
  },
  {
    name: 'kernel-log',
    kind: 'text',
    value: 'PATH',
    fallback: '/dev/kmsg',
    meaning: 'or a syslog file such as /var/log/kern.log',
  },
  {
    name: 'log-rule',
    kind: 'flag',
    meaning: 'keep one LOG rule of its own, in its own table, for the subscribed pods',
  },
  {
    name: 'receive-buffer',
    kind: 'bytes',
    value: 'BYTES',
    fallback: '16777216',
    meaning: 'receive buffer of each netlink socket',
  },
];

const HELPER: readonly OptionSpec[] = [
  { name: 'listen', kind: 'listen', value: 'ADDR:PORT', fallback: ':9797', meaning: 'feed, lookup, metrics' },
  ...CAPTURE,
  {
    name: 'auth',
    kind: { oneOf: ['token', 'source-ip', 'none'] },
    meaning: 'who may read which records (default: token in a cluster, else source-ip)',
  },
  {
    name: 'kubeconfig',
    kind: 'text',
    value: 'PATH',
    meaning: 'names for addresses (default: in-cluster, else none)',
  },
];

export const COMMANDS: readonly CommandSpec[] = [
  {
    name: 'sidecar',
    summary: 'follow the access log, join, rewrite, serve the lookup API',
    options: [
      ...SIDECAR,
      ...CAPTURE.map((spec) => ({ ...spec, meaning: `${spec.meaning} (embedded helper)` })),
    ],
  },
  { name: 'helper', summary: 'the node helper: kernel and Kubernetes API → feed', options: HELPER },
  {
    name: 'doctor',
    summary: 'what evidence an nginx configuration can reach, and the lines to add',
    positionals: ['[FILE]'],
    options: [
      { name: 'fix', kind: 'flag', meaning: 'print a patch instead of the report' },
      {
        name: 'request-id-field',
        kind: 'variable',
        value: 'NAME',
        meaning: 'the log variable that carries the request id (default: found)',
      },
      {
        name: 'request-id-header',
        kind: 'header',
        value: 'NAME',
        fallback: 'X-Request-ID',
        meaning: 'the header that carries the request id',
      },
      {
        name: 'local-port-field',
        kind: 'variable',
        value: 'NAME',
        meaning: "the log variable that carries the upstream connection's local port",
      },
    ],
  },
  {
    name: 'inject',
    summary: 'Kubernetes YAML in, the same YAML with the sidecar added out',
    positionals: ['[FILE]'],
    options: [
      {
        name: 'container',
        kind: 'text',
        value: 'NAME',
        meaning: 'the nginx container (default: found by its image)',
      },
      {
        name: 'image',
        kind: 'text',
        value: 'IMAGE',
        fallback: 'ghcr.io/realpod/sidecar:0.1.0',
        meaning: "the sidecar's image",
      },
      {
        name: 'log-volume-size',
        kind: 'text',
        value: 'QUANTITY',
        fallback: '1Gi',
        meaning: 'size limit of the log volume',
      },
    ],
  },
  {
    name: 'enrich',
    summary: 'a finished access log (FILE or stdin, gzip or not) + a recorded feed → enriched log on stdout',
    positionals: ['[FILE]'],
    options: [
      { name: 'feed', kind: 'text', value: 'PATH', meaning: 'what realpod record kept, gzip or not' },
      ...sidecarOptions('log-format', 'style', 'evidence', 'request-id-field', 'local-port-field'),
      { name: 'gzip', kind: 'flag', meaning: 'compress what is written' },
    ],
  },
  {
    name: 'record',
    summary: "keep a helper's feed in a file, for realpod enrich",
    options: [
      { name: 'helper', kind: 'text', value: 'URL', meaning: 'the helper, such as http://10.0.0.5:9797' },
      ...sidecarOptions('source-address', 'token-file'),
      {
        name: 'output',
        kind: 'text',
        value: 'PATH',
        fallback: 'feed.ndjson',
        meaning: 'a new file; compressed where it ends in .gz',
      },
    ],
  },
  {
    name: 'lookup',
    summary: 'which pod was behind source port PORT, asked of a running sidecar',
    positionals: ['PORT'],
    options: [
      {
        name: 'time',
        kind: 'text',
        value: 'T',
        meaning: 'ISO 8601, or seconds or milliseconds since the epoch (default: now)',
      },
      {
        name: 'upstream',
        kind: 'text',
        value: 'ADDR:PORT',
        meaning: 'only connections to this address, as in $upstream_addr',
      },
      SIDECAR_URL,
    ],
  },
  {
    name: 'tail',
    summary: 'the enriched lines of a running sidecar, as they leave',
    options: [
      {
        name: 'pod',
        kind: 'text',
        value: 'POD',
        meaning: "a pod's name, its beginning up to a dash, or its address",
      },
      { name: 'status', kind: 'text', value: 'STATUS', meaning: 'three digits, or a class such as 5xx' },
      { name: 'path', kind: 'text', value: 'TEXT', meaning: 'text that the path contains' },
      { name: 'last', kind: 'text', value: 'N', fallback: '10', meaning: 'begin with the N youngest lines' },
      SIDECAR_URL,
    ],
  },
  {
    name: 'demo',
    summary: 'a recorded run through the real feed and sidecar: no root, no cluster',
    options: [
      { name: 'once', kind: 'flag', meaning: 'end by itself (also without a terminal)' },
      { name: 'speed', kind: 'bytes', value: 'N', fallback: '1', meaning: 'times the recorded pace' },
    ],
  },
];
