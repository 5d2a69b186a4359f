/** Which evidence a log format can reach, in a sentence for the operator. Pure. */
import type { Compared } from './model/content.ts';
import type { Reason } from './model/outcome.ts';
import type { LogFormat } from './parse/log-format.ts';

export interface ReachFields {
  requestIdField: string;
  localPortField: string | undefined;
}

const TIMES = ['msec', 'time_iso8601', 'time_local'];
const DURATIONS = ['request_time', 'session_time'];
/** The variable of nginx-module/, without an option that names it. */
const MODULE_FIELD = 'upstream_local_port';

/** The fields that the format lacks, as in nginx's `log_format`. */
export function missingFields(format: LogFormat, fields: ReachFields): string[] {
  const has = (names: readonly string[]): boolean => names.some((name) => format.variables.includes(name));
  const missing: string[] = [];
  // $time_local and $time_iso8601 are whole seconds: hundreds of requests may end in the same one.
  if (!has(['msec'])) missing.push('$msec');
  if (!has(DURATIONS)) missing.push('$request_time');
  if (!has(['upstream_status'])) missing.push('$upstream_status');
  if (!has([fields.requestIdField])) missing.push(`$${fields.requestIdField}`);
  return missing;
}

/** Whether its lines are named by the order of answers: they have no id and no port, and say when they were written. */
export function needsAnswers(
  { variables }: LogFormat,
  { requestIdField, localPortField }: ReachFields,
): boolean {
  if (variables.includes(requestIdField)) return false;
  if (localPortField !== undefined && variables.includes(localPortField)) return false;
  return TIMES.some((name) => variables.includes(name));
}

/**
 * What of a request to this address its line and the wire have alike, by what nginx passes on; undefined: nothing.
 * Without escapes a client's text may end its field, so nothing is compared.
 */
export function comparedBy(
  { variables, escaping }: LogFormat,
  passedOn: ((address: string) => Compared) | undefined,
): ((ip: string, port: number) => Compared | undefined) | undefined {
  const has = (name: string): boolean => variables.includes(name);
  const target = has('request') || has('request_uri');
  const userAgent = has('http_user_agent');
  const referer = has('http_referer');
  if (!passedOn || escaping === 'none' || !(target || userAgent || referer)) return undefined;
  return (ip, port) => {
    const passed = passedOn(`${ip.includes(':') ? `[${ip}]` : ip}:${port}`);
    const compared = {
      target: target && passed.target,
      userAgent: userAgent && passed.userAgent,
      referer: referer && passed.referer,
    };
    return compared.target || compared.userAgent || compared.referer ? compared : undefined;
  };
}

/** One line: what the format can reach, and what to add for more. */
export function reachOf(format: LogFormat, fields: ReachFields, idHeader: string): string {
  const has = (names: readonly string[]): boolean => names.some((name) => format.variables.includes(name));
  const port = fields.localPortField;
  if (port !== undefined && has([port])) return `the log format reaches source-port ($${port}): every line`;
  const id = has([fields.requestIdField]);
  const timed = has(TIMES);
  const lasting = has(DURATIONS);
  const can = [
    ...(id ? [`request-id, where nginx sends $${fields.requestIdField} as ${idHeader}`] : []),
    ...(timed && lasting ? ['request-window, where all requests of its time went to one pod'] : []),
    'sole-backend',
    ...(needsAnswers(format, fields) ? ['only-answer, where requests do not overlap'] : []),
  ];
  const lacks = [
    ...(id ? [] : ['no id']),
    ...(timed ? (lasting ? [] : ['no duration']) : [lasting ? 'no time' : 'no times']),
    ...(!id && timed && lasting && !has(['upstream_status'])
      ? ['no $upstream_status, which decides in quiet traffic']
      : []),
  ];
  const missing = lacks.length === 0 ? [] : missingFields(format, fields);
  const header = id ? '' : `, and proxy_set_header ${idHeader} $${fields.requestIdField};`;
  const add = missing.length === 0 ? '' : `; add ${missing.join(' ')} to log_format${header}`;
  const lack = lacks.length === 0 ? 'reaches' : `has ${lacks.join(', ')}: it reaches`;
  const unused = has([MODULE_FIELD])
    ? `; with --local-port-field ${MODULE_FIELD}: source-port, every line`
    : '';
  return `the log format ${lack} ${can.join('; ')}${add}${unused}`;
}

/** The advice for a reason: what its lines lack, or where the cause is. */
export function adviceFor(reason: Reason, format: LogFormat, fields: ReachFields, idHeader: string): string {
  switch (reason) {
    case 'ambiguous': {
      const missing = missingFields(format, fields);
      return missing.length > 0
        ? `ambiguous: the lines do not say enough; add ${missing.join(' ')} to log_format and proxy_set_header ${idHeader} $${fields.requestIdField}; to nginx`
        : `ambiguous: is $${fields.requestIdField} sent to the backend as ${idHeader}? realpod doctor says where it is not`;
    }
    case 'no-flow':
      return 'no-flow: no connection was seen that could have served them; is --source-address the address that nginx connects from, and is the helper on this node?';
    case 'gap':
      return 'gap: the record of connections is incomplete over their time; the helper says why in its log';
    case 'late':
      return 'late: the evidence did not come within --max-wait; is the helper reachable, and do the clocks agree?';
    case 'direct':
      return 'direct: nginx connects to pods itself, so there is nothing to resolve';
    case 'unconnected':
      return 'unconnected: nginx got no connection; has the Service a ready pod, and does it accept connections?';
    case 'not-ip':
      return 'not-ip: the upstream is a socket, a name, or reached by UDP';
  }
}

/** The beginning of a line for a message: control characters and bytes beyond ASCII as `\xHH`. */
export function excerpt(line: Buffer): string {
  const shown = line.subarray(0, 200).toString('latin1');
  const text = shown.replace(/[^\x20-\x7e]/g, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`);
  return line.length > 200 ? `${text}…` : text;
}
