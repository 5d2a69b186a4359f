/** JSON schemas of the sidecar's responses. Fields without a schema are not sent, so the documentation is complete. */

export interface Schema {
  type?: string | readonly string[];
  description?: string;
  properties?: Record<string, Schema>;
  required?: readonly string[];
  items?: Schema;
  additionalProperties?: boolean | Schema;
  enum?: readonly string[];
  const?: string;
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  pattern?: string;
  default?: string | number | boolean;
}

export const text = (description: string): Schema => ({ type: 'string', description });
export const number = (description: string): Schema => ({ type: 'number', description });
export const integer = (description: string): Schema => ({ type: 'integer', description });
export const flag = (description: string): Schema => ({ type: 'boolean', description });
export const orNull = (schema: Schema): Schema => ({ ...schema, type: [schema.type as string, 'null'] });
export const list = (items: Schema, description: string): Schema => ({ type: 'array', items, description });

/** An object with every property required but those in `optional`. */
export function object(properties: Record<string, Schema>, optional: readonly string[] = []): Schema {
  return {
    type: 'object',
    properties,
    required: Object.keys(properties).filter((name) => !optional.includes(name)),
  };
}

/** Query parameters; others are refused. */
export function query(properties: Record<string, Schema>): Schema {
  return { type: 'object', properties, additionalProperties: false };
}

/** Numbers by name. */
export const counts = (description: string): Schema => ({
  type: 'object',
  description,
  additionalProperties: { type: 'integer' },
});

const NAME = {
  pod: text("the pod's name; missing where the address has none"),
  namespace: text("the pod's namespace"),
  node: text("the pod's node"),
  service: text('a Service that the pod belongs to'),
};

export const ATTEMPT = object(
  {
    upstream: text('the entry of $upstream_addr, as nginx wrote it'),
    ip: text('address of the pod that it led to'),
    port: integer('port of that pod'),
    ...NAME,
    evidence: text(
      'the evidence: source-port, request-id, request-window, sole-backend, only-answer or timing',
    ),
    reason: text('why it is not resolved: ambiguous, no-flow, gap, late, direct, not-ip or unconnected'),
    src: text("nginx's address on the connection, where exactly one is left"),
    sport: integer("nginx's port on that connection"),
    status: integer('the entry of $upstream_status'),
    responseMs: number('the entry of $upstream_response_time, ms'),
  },
  ['ip', 'port', ...Object.keys(NAME), 'evidence', 'reason', 'src', 'sport', 'status', 'responseMs'],
);

export const LINE = object(
  {
    line: text('the line as nginx wrote it'),
    enriched: text('the line with the addresses that were resolved'),
    time: text('when nginx wrote it, ISO 8601'),
    id: text('the request id'),
    status: integer('the status that the client got'),
    method: text('the method'),
    path: text('the target as the client sent it'),
    requestMs: number('$request_time, ms'),
    unparsed: text('why it was not read: empty, format or too-long'),
    attempts: list(ATTEMPT, 'in step with $upstream_addr'),
  },
  ['time', 'id', 'status', 'method', 'path', 'requestMs', 'unparsed'],
);

export const MATCH = object(
  {
    src: text("nginx's address"),
    sport: integer("nginx's port"),
    vip: text('the address that nginx connected to; missing where the source cannot know it'),
    vport: integer('the port that nginx connected to'),
    ip: text('the address of the pod that answered'),
    port: integer('its port'),
    ...NAME,
    from: orNull(number('when it was opened, ms since the epoch; null: before the record began')),
    to: orNull(number('when it was closed, ms since the epoch; null: it is open')),
    via: text('where it was seen: conntrack, kernel-log or tap'),
  },
  ['vip', 'vport', ...Object.keys(NAME)],
);

const OUTLIER = object(
  {
    kind: { type: 'string', enum: ['errors', 'latency'], description: 'what stands out' },
    share: number('the share of its requests that failed, or were slow (0 to 1)'),
    siblings: number('the same of the other pods: their median'),
    slowMs: number('latency: what counts as slow, ms'),
    text: text("one sentence for people, without the pod's name"),
  },
  ['slowMs'],
);

export const POD = object(
  {
    upstream: text('the upstream address that nginx connected to'),
    service: text('the Service; empty where it is not known'),
    ip: text('the address of the pod'),
    port: integer('its port'),
    pod: text("the pod's name; empty where it is not known"),
    namespace: text('its namespace; empty where it is not known'),
    node: text('its node; empty where it is not known'),
    requests: integer('requests since realpod started, or the pod was first seen'),
    errors: integer('of these, answers of 500 and above'),
    lastSeen: text('time of its last line, ISO 8601'),
    recent: object({
      requests: integer('requests within the window'),
      errors: integer('of these, answers of 500 and above'),
      rate: number('requests a second'),
      share: number("share of the upstream's attempts, also those without a pod (0 to 1)"),
      errorRate: number('share of errors (0 to 1)'),
      p50Ms: orNull(number('median of the upstream time, ms; null: none is logged')),
      p95Ms: orNull(number('95th percentile, ms')),
      p99Ms: orNull(number('99th percentile, ms')),
    }),
    outlier: list(OUTLIER, 'by what it stands out from the other pods of the upstream; empty: it does not'),
    tooFew: flag('too few requests to tell whether it stands out from the other pods of the upstream'),
    series: object({
      requests: list({ type: 'integer' }, 'requests of each step'),
      errors: list({ type: 'integer' }, 'errors of each step'),
      p95Ms: list({ type: ['number', 'null'] }, '95th percentile of each step, ms'),
    }),
  },
  ['series'],
);

const UNRESOLVED = object({
  upstream: text('the upstream address that nginx connected to'),
  service: text('the Service; empty where it is not known'),
  namespace: text('its namespace; empty where it is not known'),
  requests: integer('attempts that realpod could not give to a pod'),
  errors: integer('of these, answers of 500 and above'),
  rate: number('attempts a second'),
  share: number("share of the upstream's attempts (0 to 1)"),
  reason: text('their most frequent reason'),
});

export const PODS = object(
  {
    time: text('now, ISO 8601'),
    windowSeconds: integer('what `recent` covers'),
    timedBy: orNull(text('which times: upstream_response_time, or request_time where that is not logged')),
    since: orNull(number('time of the earliest line that was counted, ms since the epoch; null: none was')),
    seriesFrom: number('begin of the first step of `series`, ms since the epoch'),
    seriesStepMs: integer('length of a step of `series`'),
    pods: list(POD, 'busiest first within each upstream'),
    unresolved: list(UNRESOLVED, 'attempts without a pod within the window, by upstream'),
  },
  ['seriesFrom', 'seriesStepMs'],
);

export const STATUS = object({
  time: text('now, ISO 8601'),
  startedAt: text('when realpod started, ISO 8601'),
  feed: object({
    connected: flag('whether the feed is read'),
    lagMs: orNull(number('age of the newest watermark, ms; null: there was none')),
    records: integer('records read'),
    connects: integer('feeds begun'),
    failures: integer('feeds that broke or did not begin'),
  }),
  sources: list(
    object({
      source: text('conntrack, tap or kernel-log'),
      gaps: integer('gaps remembered, the time before the source began among them'),
      since: orNull(number('since when it is whole, ms since the epoch')),
    }),
    'the sources of the feed; one that is missing here has sent nothing',
  ),
  lines: counts('lines, by result'),
  evidence: counts('attempts that were resolved, by evidence'),
  reasons: counts('attempts that were not, by reason'),
  waitingBytes: integer('bytes of lines that wait for their evidence'),
  unwrittenBytes: integer('bytes of lines that are not written to the outputs yet'),
  backlogBytes: integer('unread bytes of the access log, at the last look'),
  losses: integer('times that lines are, or may be, missing'),
  outputStalled: flag('whether an output is blocked'),
});

export const ERROR = object({
  error: object({
    code: text('stable, for programs'),
    message: text('one line for people'),
    next: text('what to do about it'),
  }),
});
