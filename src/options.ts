import { parseArgs } from 'node:util';
import { DEFAULT_LOG_FORMAT } from './parse/log-format.ts';

/** A wrong command line or environment: exit code 2 and one line. */
export class UsageError extends Error {}

export type OptionKind =
  | 'text'
  | 'flag'
  | 'duration'
  | 'bytes'
  | 'port-number'
  | 'listen'
  | 'header'
  | 'variable'
  | { oneOf: readonly string[] }
  | { someOf: readonly string[] };

export interface OptionSpec {
  name: string;
  kind: OptionKind;
  /** What stands behind the name in the help. */
  value?: string;
  /** As it would be written on the command line; undefined: unset. */
  fallback?: string;
  repeatable?: boolean;
  meaning: string;
}

export interface CommandSpec {
  name: string;
  summary: string;
  options: readonly OptionSpec[];
  /** Names of positional arguments, `[NAME]` if optional. */
  positionals?: readonly string[];
}

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
      ...sidecarOptions('log-format', 'style', 'request-id-field', 'local-port-field'),
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

export type Values = Record<string, string | string[] | boolean | undefined>;

/**
 * Reads a command's options: command line first, then `REALPOD_…`, then the default. Throws UsageError with one line
 * that names the option and what it takes.
 */
export function readOptions(command: CommandSpec, argv: readonly string[], env: NodeJS.ProcessEnv): Options {
  let parsed: ReturnType<typeof parseArgs>;
  try {
    parsed = parseArgs({
      args: [...argv],
      strict: true,
      allowPositionals: (command.positionals?.length ?? 0) > 0,
      options: Object.fromEntries(
        command.options.map((spec) => [
          spec.name,
          { type: spec.kind === 'flag' ? 'boolean' : 'string', multiple: spec.repeatable === true },
        ]),
      ),
    });
  } catch (error) {
    const [message] = (error as Error).message.split(/\. |\n/, 1);
    throw new UsageError(`${message}; see realpod ${command.name} --help`);
  }
  const values: Values = {};
  for (const spec of command.options) {
    const given = parsed.values[spec.name] as Values[string];
    values[spec.name] = check(spec, given ?? fromEnvironment(spec, env) ?? fallback(spec));
  }
  return new Options(values, parsed.positionals);
}

function fallback(spec: OptionSpec): Values[string] {
  if (spec.kind === 'flag') return false;
  if (spec.fallback === undefined) return spec.repeatable ? [] : undefined;
  return spec.repeatable ? [spec.fallback] : spec.fallback;
}

export function environmentName(spec: OptionSpec): string {
  return `REALPOD_${spec.name.toUpperCase().replaceAll('-', '_')}`;
}

function fromEnvironment(spec: OptionSpec, env: NodeJS.ProcessEnv): Values[string] {
  const name = environmentName(spec);
  const text = env[name];
  if (text === undefined || text === '') return undefined;
  if (spec.kind === 'flag') {
    if (/^(1|true|yes|on)$/i.test(text)) return true;
    if (/^(0|false|no|off)$/i.test(text)) return false;
    throw new UsageError(`${name}: ${text} is neither true nor false`);
  }
  return spec.repeatable ? text.split(',').map((part) => part.trim()) : text;
}

function check(spec: OptionSpec, value: Values[string]): Values[string] {
  if (Array.isArray(value)) {
    for (const item of value) checkText(spec, item);
  } else if (typeof value === 'string') {
    checkText(spec, value);
  }
  return value;
}

function checkText(spec: OptionSpec, text: string): void {
  const wrong = (what: string): never => {
    throw new UsageError(`--${spec.name}: ${text === '' ? 'nothing given' : text} is not ${what}`);
  };
  const { kind } = spec;
  if (typeof kind === 'object') {
    const known = 'oneOf' in kind ? kind.oneOf : kind.someOf;
    const given = 'oneOf' in kind ? [text] : text.split(',');
    if (!given.every((item) => known.includes(item))) {
      wrong(`${'oneOf' in kind ? 'one of' : 'a comma-separated list of'} ${known.join(', ')}`);
    }
    return;
  }
  switch (kind) {
    case 'duration':
      if (parseDuration(text) === undefined) wrong('a duration such as 500ms, 2s or 1m');
      break;
    case 'bytes':
      if (parseBytes(text) === undefined) wrong('a whole number of at least 1, such as 1024 or 16Mi');
      break;
    case 'port-number':
      if (!/^\d{1,5}$/.test(text) || Number(text) > 65_535) wrong('a number from 0 to 65535');
      break;
    case 'listen':
      if (!parseListen(text)) wrong('an address and port such as :9797, 127.0.0.1:9797 or [::1]:9797');
      break;
    case 'header':
      if (!/^[A-Za-z0-9-]{1,64}$/.test(text)) wrong('the name of a header');
      break;
    case 'variable':
      if (!/^\$?[a-zA-Z0-9_]{1,64}$/.test(text)) wrong('the name of an nginx variable');
      break;
    case 'text':
      if (text === '') wrong('a value');
      break;
    case 'flag':
      break;
  }
}

/** `250ms`, `2s`, `1.5m`, `1h` → ms; undefined if it is none. */
export function parseDuration(text: string): number | undefined {
  const match = /^(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h)$/.exec(text);
  if (!match) return undefined;
  const unit = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 }[match[2] as 'ms' | 's' | 'm' | 'h'];
  return Number(match[1]) * unit;
}

/** `1024`, `64Ki`, `16Mi`, `1Gi` → bytes; undefined if it is none. */
export function parseBytes(text: string): number | undefined {
  const match = /^([1-9]\d{0,11})(Ki|Mi|Gi)?$/.exec(text);
  if (!match) return undefined;
  const unit = { Ki: 1024, Mi: 1024 ** 2, Gi: 1024 ** 3 }[match[2] as 'Ki' | 'Mi' | 'Gi'] ?? 1;
  return Number(match[1]) * unit;
}

/** `:9798` (all addresses, IPv6 and IPv4), `127.0.0.1:9798`, `[::1]:9798`; undefined if it is none of these. */
export function parseListen(text: string): { host: string; port: number } | undefined {
  const colon = text.lastIndexOf(':');
  const port = text.slice(colon + 1);
  if (colon < 0 || !/^\d{1,5}$/.test(port) || Number(port) > 65_535) return undefined;
  let host = text.slice(0, colon);
  if (host.startsWith('[') && host.endsWith(']')) host = host.slice(1, -1);
  else if (host.includes(':')) return undefined;
  return { host: host === '' ? '::' : host, port: Number(port) };
}

/** Checked values of one command's options. The getters throw only for names that the command does not have. */
export class Options {
  readonly #values: Values;
  readonly positionals: readonly string[];

  constructor(values: Values, positionals: readonly string[] = []) {
    this.#values = values;
    this.positionals = positionals;
  }

  optional(name: string): string | undefined {
    const value = this.#get(name);
    return typeof value === 'string' ? value : undefined;
  }

  text(name: string): string {
    const value = this.optional(name);
    if (value === undefined) throw new UsageError(`--${name} is needed`);
    return value;
  }

  list(name: string): string[] {
    const value = this.#get(name);
    if (Array.isArray(value)) return value;
    return typeof value === 'string' ? value.split(',') : [];
  }

  flag(name: string): boolean {
    return this.#get(name) === true;
  }

  /** Milliseconds. */
  duration(name: string): number {
    return parseDuration(this.text(name))!;
  }

  bytes(name: string): number {
    return parseBytes(this.text(name))!;
  }

  number(name: string): number {
    return Number(this.text(name));
  }

  listen(name: string): { host: string; port: number } {
    return parseListen(this.text(name))!;
  }

  #get(name: string): Values[string] {
    if (!(name in this.#values)) throw new Error(`no option --${name}`);
    return this.#values[name];
  }
}

export function helpText(command: CommandSpec | undefined): string {
  if (!command) {
    const rows = COMMANDS.map(({ name, summary }) => `  ${name.padEnd(10)} ${summary}`);
    return `realpod: the pod that really answered, in nginx's access log\n\nusage: realpod COMMAND [OPTIONS]\n\n${rows.join('\n')}\n\nrealpod COMMAND --help lists a command's options. Each is also REALPOD_OPTION_NAME; the command line wins.\n`;
  }
  const rows = command.options.map((spec) => {
    const head = `  --${spec.name}${spec.value ? ` ${spec.value}` : valueHint(spec.kind)}`;
    const tail = `${spec.repeatable ? '; repeatable' : ''}${spec.fallback === undefined ? '' : ` [${spec.fallback}]`}`;
    return `${head.padEnd(32)} ${spec.meaning}${tail}`;
  });
  const positionals = (command.positionals ?? []).map((name) => ` ${name}`).join('');
  return `realpod ${command.name}: ${command.summary}\n\nusage: realpod ${command.name}${positionals} [OPTIONS]\n\n${rows.join('\n')}\n\nEach option is also REALPOD_OPTION_NAME; the command line wins.\n`;
}

function valueHint(kind: OptionKind): string {
  return typeof kind === 'object' && 'oneOf' in kind ? ` ${kind.oneOf.join('|')}` : '';
}
