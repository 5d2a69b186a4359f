/** The table of options. Help, docs/options.md, the environment and the types of what commands get come from it. */
import { DEFAULT_LOG_FORMAT } from '../parse/log-format.ts';
import {
  address,
  bytes,
  count,
  duration,
  flag,
  header,
  helperAt,
  host,
  listening,
  oneOf,
  short,
  sources,
  text,
  url,
  variable,
} from './kinds.ts';
import type { Command, Options } from './option.ts';

const MESSAGES = {
  log: oneOf('text', 'json').or('text', "form of realpod's own messages on stderr"),
};

/** How a log is read and written, by the sidecar and offline. */
const LINES = {
  nginxConf: text.unset(
    "nginx's configuration, or the output of nginx -T: source of log, format and id; options take precedence",
    'PATH',
  ),
  logFormat: text.or(
    DEFAULT_LOG_FORMAT,
    "the text of nginx's log_format, or combined; escape=json and escape=none understood",
    'STRING',
  ),
  style: oneOf('replace', 'annotate', 'json').or(
    'replace',
    'replace: only the addresses differ; annotate: and pod=… evidence=… at the end; json: one object a line',
  ),
  evidence: oneOf('exact', 'inferred').or('exact', 'inferred also accepts timing'),
  requestIdField: variable.or('request_id', 'the log variable that carries the request id'),
  localPortField: variable.unset("the log variable that carries the upstream connection's local port"),
};

const HOSTS = {
  allowHost: host.list(
    undefined,
    'a further host name that requests may use (addresses, localhost and *.svc always may)',
  ),
};

const FEED = {
  sourceAddress: address.list(undefined, "nginx's own addresses (default: those of this network namespace)"),
  tokenFile: text.unset('bearer token for the helper', 'PATH'),
};

/** Options of the helper and of `--helper embedded`. */
const CAPTURE = {
  sources: sources.or('conntrack,tap', 'any of conntrack, tap, kernel-log, trace'),
  tapSource: oneOf('nflog', 'packet', 'auto').or(
    'nflog',
    'where the tap reads packets: nflog, by rules in nftables; packet, a packet socket, for nodes whose packets pass no netfilter and for older kernels (needs NET_RAW); auto, packet where the kernel cannot run the rules',
  ),
  tapGroup: short.or('9797', 'NFLOG group'),
  tapSnaplen: bytes.or('1024', "how much of a request's first packet is copied"),
  tap: oneOf('request', 'headers').or('request', 'headers copies no payload at all, only TCP headers'),
  noPaths: flag('keep the targets of requests out of the feed'),
  requestIdHeader: header.or('X-Request-ID', 'the header that carries the request id'),
  kernelLog: text.or('/dev/kmsg', 'or a syslog file such as /var/log/kern.log', 'PATH'),
  logRule: flag('keep one LOG rule of its own, in its own table, for the subscribed pods'),
  receiveBuffer: bytes.or('16777216', 'receive buffer of each netlink socket'),
};

const SIDECAR = {
  name: 'sidecar',
  summary: 'follow the access log, join, rewrite, serve the lookup API',
  options: {
    accessLog: text.or('/var/log/nginx/access.log', 'the log to follow; may not exist yet', 'PATH'),
    output: text.list('-', 'where enriched lines go; - is stdout', 'PATH'),
    ...LINES,
    client: oneOf('replace', 'annotate', 'off').or(
      'annotate',
      'the real client where $remote_addr is a node’s address: annotate: client=… with --style annotate, client.address with json; replace: in its place',
    ),
    helper: helperAt.or(
      'http://$HOST_IP:9797',
      'where the feed is pulled from; embedded: read the kernel in this process',
    ),
    ...FEED,
    maxWait: duration.or('2s', 'how long a line may wait for its evidence; then it is written unchanged'),
    batch: duration.or(
      '100ms',
      'how long records and lines may be gathered before they are handled together: cost against delay',
    ),
    listen: listening.or(':9798', 'lookup API, metrics, page'),
    ...HOSTS,
    state: text.unset('checkpoint (default: beside the output; with stdout alone, beside the log)', 'PATH'),
    reclaim: flag('free the consumed bytes of the access log on disk (hole punching)'),
    readyFile: text.unset('created once the feed of the helper is read, removed at the start', 'PATH'),
    onBadOptions: oneOf('end', 'pass').or(
      'end',
      'a REALPOD_… or nginx configuration that cannot be used: end with code 2; pass: write every line as nginx did',
    ),
    ...MESSAGES,
    ...CAPTURE,
  },
  embedded: Object.keys(CAPTURE),
} satisfies Command;

const HELPER = {
  name: 'helper',
  summary: 'the node helper: kernel and Kubernetes API → feed',
  options: {
    listen: listening.or(':9797', 'feed, lookup, metrics'),
    ...HOSTS,
    ...CAPTURE,
    check: flag(
      'say which sources this node can give, and why not, and end: 0 if it can give all of --sources',
    ),
    auth: oneOf('token', 'source-ip', 'none').unset(
      'who may read which records (default: token in a cluster, else source-ip)',
    ),
    kubeconfig: text.unset('names for addresses (default: in-cluster, else none)', 'PATH'),
    readyFile: text.unset(
      'created once it can serve, or waits for an earlier helper’s port; removed at the start',
      'PATH',
    ),
    ...MESSAGES,
  },
} satisfies Command;

const DOCTOR = {
  name: 'doctor',
  summary: 'what evidence an nginx configuration can reach, and the lines to add',
  exits:
    '0: every proxying location reaches exact evidence (with --fix: will, once patched); 1: one does not, or a file was not read; 2: no nginx configuration, or it cannot be read',
  argument: '[FILE]',
  options: {
    fix: flag('print a patch instead of the report'),
    requestIdField: variable.unset('the log variable that carries the request id (default: found)'),
    requestIdHeader: header.or('X-Request-ID', 'the header that carries the request id'),
    localPortField: LINES.localPortField,
  },
} satisfies Command;

/** Settings of an injected sidecar, for inject and webhook. */
const POD = {
  image: text.or('ghcr.io/realpod/sidecar:0.1.0', "the sidecar's image", 'IMAGE'),
  logVolumeSize: text.or('1Gi', 'size limit of the log volume', 'QUANTITY'),
  limits: text.unset("the sidecar's limits, such as cpu=200m,memory=128Mi (default: memory=256Mi)", 'LIST'),
  requests: text.unset("the sidecar's requests (default: cpu=10m,memory=96Mi)", 'LIST'),
};

const INJECT = {
  name: 'inject',
  summary: 'Kubernetes YAML in, the same YAML with the sidecar added out',
  exits: '0: the sidecar is in the output; 2: nothing was written, and one line says why',
  argument: '[FILE]',
  options: {
    container: text.unset('the nginx container (default: found by its image)', 'NAME'),
    ...POD,
    logPath: text.unset("nginx's access log (default: where the image is known to log)", 'PATH'),
  },
} satisfies Command;

const WEBHOOK = {
  name: 'webhook',
  summary: 'a mutating admission webhook that adds the sidecar to the pods of labelled namespaces',
  options: {
    listen: listening.or(':9443', 'HTTPS, for the API server'),
    ...POD,
    namespace: text.unset("of its Service and Secret (default: the pod's own, else realpod)", 'NAME'),
    service: text.or('realpod-webhook', 'its Service, which the certificate names', 'NAME'),
    secret: text.or('realpod-webhook', 'the Secret that all replicas share', 'NAME'),
    configuration: text.or('realpod', 'the MutatingWebhookConfiguration that gets the CA bundle', 'NAME'),
    kubeconfig: text.unset('the cluster (default: in-cluster)', 'PATH'),
    ...MESSAGES,
  },
} satisfies Command;

const ENRICH = {
  name: 'enrich',
  summary: 'a finished access log (FILE or stdin, gzip or not) + a recorded feed → enriched log on stdout',
  exits:
    '0: everything was read; 1: a file could not be read to its end, or no address was named; 2: a bad option',
  argument: '[FILE]',
  options: {
    feed: text.needed('the file of realpod record, gzip or not', 'PATH'),
    ...LINES,
    gzip: flag('compress the output'),
  },
} satisfies Command;

const RECORD = {
  name: 'record',
  summary: "keep a helper's feed in a file, for realpod enrich",
  options: {
    helper: url('http://10.0.0.5:9797').needed('the helper, such as http://10.0.0.5:9797'),
    ...FEED,
    output: text.or('feed.ndjson', 'a new file; compressed where it ends in .gz', 'PATH'),
    ...MESSAGES,
  },
} satisfies Command;

const SIDECAR_URL = url('http://127.0.0.1:9798').or(
  'http://127.0.0.1:9798',
  'the sidecar to ask, such as one behind kubectl port-forward POD 9798',
);

const LOOKUP = {
  name: 'lookup',
  summary: 'which pod was behind source port PORT, from a running sidecar',
  argument: 'PORT',
  options: {
    time: text.unset('ISO 8601, or seconds or milliseconds since the epoch (default: now)', 'T'),
    upstream: text.unset('only connections to this address, as in $upstream_addr', 'ADDR:PORT'),
    sidecar: SIDECAR_URL,
  },
} satisfies Command;

const TAIL = {
  name: 'tail',
  summary: 'the enriched lines of a running sidecar, as they leave',
  options: {
    pod: text.unset("a pod's name, its beginning up to a dash, or its address", 'POD'),
    status: text.unset('three digits, or a class such as 5xx', 'STATUS'),
    path: text.unset('text that the path contains'),
    last: short.or('10', 'begin with the N youngest lines'),
    sidecar: SIDECAR_URL,
  },
} satisfies Command;

const DEMO = {
  name: 'demo',
  summary: 'a recorded run through the real feed and sidecar: no root, no cluster',
  exits: '0: every line that the recording can name was named; 1: one was not',
  options: {
    once: flag('end by itself (also without a terminal)'),
    speed: count.or('1', 'times the recorded pace'),
  },
} satisfies Command;

export const COMMAND = {
  sidecar: SIDECAR,
  helper: HELPER,
  doctor: DOCTOR,
  inject: INJECT,
  webhook: WEBHOOK,
  enrich: ENRICH,
  record: RECORD,
  lookup: LOOKUP,
  tail: TAIL,
  demo: DEMO,
};

export const COMMANDS: readonly Command[] = Object.values(COMMAND);

export type SidecarOptions = Options<typeof SIDECAR>;
export type HelperOptions = Options<typeof HELPER>;
export type DoctorOptions = Options<typeof DOCTOR>;
export type InjectOptions = Options<typeof INJECT>;
export type WebhookOptions = Options<typeof WEBHOOK>;
export type EnrichOptions = Options<typeof ENRICH>;
export type RecordOptions = Options<typeof RECORD>;
export type LookupOptions = Options<typeof LOOKUP>;
export type TailOptions = Options<typeof TAIL>;
export type DemoOptions = Options<typeof DEMO>;
/** What `sidecar --helper embedded` and `helper` both have. */
export type CaptureOptions = Pick<HelperOptions, keyof typeof CAPTURE>;
