/** The text of a diagnosis: one line for each fact. */
import { type AccessLog, loggedFields, readability, type Unfollowable } from './access-log.ts';
import type { Blocker, DoctorNames, Exempt, Finding, Grade } from './finding.ts';
import { placeOf } from './parse-conf.ts';
import { headerValue, longLinesBefore, originOf } from './request-id.ts';
import { inherited, own, value } from './scope.ts';
import { repeatsOf } from './subrequest.ts';
import { keepalive, type Unreadable } from './target.ts';

const UNREADABLE: Readonly<Record<Unreadable, string>> = {
  tls: 'TLS to the backend: the request id cannot be seen on the way',
  'maybe-tls': 'the scheme is a variable: with TLS to the backend the request id cannot be seen',
  fastcgi: 'FastCGI is not HTTP on the wire: no request id to see',
  uwsgi: 'uwsgi is not HTTP on the wire: no request id to see',
  scgi: 'SCGI is not HTTP on the wire: no request id to see',
  memcached: 'memcached is not HTTP on the wire: no request id to see',
  tcp: 'a TCP stream has no request id',
  udp: 'UDP is not followed',
};

/** Grades that are left without an id or a port. */
const LEFT: ReadonlySet<Grade> = new Set(['request-window', 'sole-backend']);
/** The variable of nginx-module/. */
const MODULE_FIELD = 'upstream_local_port';

const UNFOLLOWABLE: Readonly<Record<Unfollowable, string>> = {
  stdout: 'is stdout, not a file that the sidecar can follow',
  device: 'is a device, not a file that the sidecar can follow',
  syslog: 'goes to syslog, not to a file',
  variable: 'has a variable in its path: many files, the sidecar follows one',
  gzip: 'is compressed while it is written',
};

const EXEMPT: Readonly<Record<Exempt, string>> = {
  'log-off': 'access_log off or /dev/null here: no lines',
  local: 'stays in the pod (unix socket or loopback), without a Service',
  subrequest:
    'reached by subrequests only (mirror, auth_request, ngx.location.capture), which are not logged',
};

function unfollowable({ path, unfollowable: why }: AccessLog): string {
  const text = UNFOLLOWABLE[why!];
  return /stderr|fd\/2$/.test(path) ? text.replace('stdout', 'stderr') : text;
}

export function exemptReason(exempt: Exempt): string {
  return EXEMPT[exempt];
}

export function blockerReason(blocker: Blocker, names: DoctorNames): string {
  const { header, field } = names;
  switch (blocker.kind) {
    case 'header-missing': {
      const { scope, directives } = blocker.from;
      if (!scope) return `${header} is not sent`;
      const { name } = directives[0]!;
      const place = placeOf(directives[0]!.file, directives[0]!.start);
      return scope.kind === 'location'
        ? `${header} is not sent: this location's own ${name} lines (${place}) replace all inherited ones`
        : `${header} is not sent: not among the ${name} lines of the ${scope.kind} (${place})`;
    }
    case 'header-differs': {
      const line = blocker.lines[0]!;
      const sent = line.args[1]?.text || '(nothing)';
      const client = /^\$\{?http_/.test(sent) ? ', which the client supplies,' : '';
      return `${header} is sent as ${sent}${client} and not as $${field}, the id field of the log (${placeOf(line.file, line.start)})`;
    }
    case 'client-id':
      return `$${field} is only what the client sent: often absent, and anyone can repeat it`;
    case 'id-not-logged':
      return `log format "${blocker.format.name}" lacks $${field}`;
    case 'address-not-logged':
      return `log format "${blocker.format.name}" lacks $upstream_addr`;
    case 'escape-none':
      return `log format "${blocker.format.name}" has escape=none: a client can forge lines`;
    case 'format-differs':
      return `${blocker.log.path} gets lines in two formats, "${blocker.log.formatName}" here and "${blocker.want.name}" elsewhere; the sidecar reads one`;
    case 'not-followable':
      return blocker.logs.map((l) => `access_log ${l.path} ${unfollowable(l)}`).join('; ');
    case 'not-logged':
      return 'no access log (off or /dev/null): no lines to resolve';
    case 'repeated':
      return `${blocker.repeat.by} ${blocker.repeat.uri} sends the request to the same Service a second time, with the same id or none${blocker.repeat.private ? '' : ' (make that location internal, log_subrequest off, and give it an id of its own)'}`;
    case 'neighbour': {
      const { pass } = blocker.route;
      return `${placeOf(pass.file, pass.start)} sends requests without an id to the same Service: each of them may be the request of a line`;
    }
    case 'slice':
      return 'slice: one id goes to the Service in many requests, to several pods';
    case 'bound-address':
      return "proxy_bind: the connection does not come from the pod's own address";
    case 'unreadable':
      return UNREADABLE[blocker.how];
    case 'unread':
      return `include ${blocker.what} was not read and may change this`;
    case 'script': {
      const { name, args, file, start } = blocker.script;
      return `internal, and only ${name} ${args[0]?.text ?? ''} (${placeOf(file, start)}) can lead here: lines of subrequests are not logged, and their requests carry ids that no line has`;
    }
    case 'format-refused':
      return `log format "${blocker.format.name}" cannot be read: ${blocker.message}`;
    case 'format-unknown':
      return `log format "${blocker.name}" is not in the files read`;
  }
}

/** The option that is missing where the log has the module's field. */
export function portReason({ grade, log }: Finding): string | undefined {
  if (!LEFT.has(grade)) return undefined;
  const format = log?.format;
  return format?.variables.has(MODULE_FIELD) && format.escape !== 'none'
    ? `$${MODULE_FIELD} is logged: exact with --local-port-field ${MODULE_FIELD} (of doctor and sidecar)`
    : undefined;
}

/** The evidence that is left, or the fields that are missing, if there is no request id. */
export function fallbackReason(finding: Finding): string | undefined {
  const { grade, route, target, log, blockers } = finding;
  if (grade !== 'request-window' && grade !== 'sole-backend') return undefined;
  if (!log?.format) return undefined;
  if (target.http2) return 'HTTP/2 to the backend shows the request id and nothing else';
  const fields = loggedFields(log.format);
  const connection = keepalive(route, target, headerValue(route.chain, 'Connection'));
  const open =
    connection === 'yes' ? 'connections are kept open' : 'on nginx >= 1.29.7 connections are kept open';
  const kept = connection === 'no' ? '' : `; ${open}, so time alone decides little`;
  const quiet =
    target.unreadable || log.format.variables.has('upstream_status')
      ? ''
      : '; $upstream_status in the log decides in quiet traffic, add it';
  // Without an id the join can assign answers to lines in order.
  const answers =
    !target.unreadable && blockers.some(({ kind }) => kind === 'id-not-logged')
      ? '; only-answer names lines whose requests do not overlap with others'
      : '';
  if (!fields.duration) {
    return `no $request_time in the log: any request still open may be the one${kept}${answers}; add $msec $request_time${quiet}`;
  }
  return `resolved only where all ${grade === 'request-window' ? 'requests' : 'connections'} of its time went to one pod${answers}${quiet}`;
}

function logNotes(log: AccessLog, names: DoctorNames): string[] {
  const { format } = log;
  const warnings = format?.variables.has('upstream_addr') ? readability(format, names.field).warnings : [];
  const notes = warnings.map((w) => `log format "${log.formatName}": ${w}`);
  if (log.buffer !== undefined && log.flush === undefined) {
    notes.push(
      `${log.path}: buffer=${log.buffer} without flush=: lines wait until the buffer is full; add flush=1s`,
    );
  } else if (log.flush !== undefined) {
    notes.push(`${log.path}: lines come up to ${log.flush} late (flush=)`);
  }
  if (log.conditional) notes.push(`${log.path}: if= leaves requests out of the log`);
  const text = format?.text.trim() ?? '';
  if (format?.escape === 'default' && text.startsWith('{')) {
    notes.push(`log format "${format.name}" is JSON without escape=json: some values make invalid JSON`);
  }
  return notes;
}

/** Notes that change no grade. */
export function notesOf(finding: Finding, names: DoctorNames): string[] {
  if (finding.exempt) return [];
  const { route, target, log, header } = finding;
  const { chain } = route;
  const notes = log ? logNotes(log, names) : [];
  const where = placeOf(route.pass.file, route.pass.start);
  if (inherited(chain, 'access_log').directives.length > 1 && log) {
    notes.push(`several access_logs apply at ${where}; the judged one is ${log.path} ("${log.formatName}")`);
  }
  if (!route.http) return notes;

  const { unreadable } = target;
  if (unreadable && unreadable !== 'maybe-tls' && LEFT.has(finding.grade) && !portReason(finding)) {
    notes.push(
      `where no request id can be seen, $${MODULE_FIELD} in the log (nginx-module/README.md) or the helper's source trace (docs/trace.md) names lines`,
    );
  }
  if (finding.grade === 'exact') {
    const origin = originOf(chain, names.field);
    if (origin === 'client-or-nginx') {
      notes.push(
        `$${names.field} takes a client's own id: where a client repeats one, those lines may stay unresolved`,
      );
    } else if (origin === 'other') {
      notes.push(
        `$${names.field} is made outside the configuration: exact only if it is unique for each request`,
      );
    }
    if (target.http2) {
      notes.push(
        `${where}: HTTP/2 to the backend: where bodies are longer than some hundred bytes, some lines may stay unresolved; raise --tap-snaplen`,
      );
    }
    const long = longLinesBefore(header);
    if (long) {
      notes.push(
        `${placeOf(long.file, long.start)}: a long header before ${names.header} can push the id out of the bytes copied; put ${names.header} first or raise --tap-snaplen`,
      );
    }
  }
  if (value(chain, 'log_subrequest') === 'on') notes.push('log_subrequest on: one id is in several lines');
  for (const name of ['ssi', 'proxy_cache_background_update']) {
    if (value(chain, name) === 'on')
      notes.push(`${name} on: subrequests send the same id again; such lines may stay unresolved`);
  }
  for (const name of ['add_before_body', 'add_after_body']) {
    if (value(chain, name))
      notes.push(`${name}: subrequests send the same id again; such lines may stay unresolved`);
  }
  for (const repeat of repeatsOf(route, target, names)) {
    if (repeat.same === undefined) {
      notes.push(
        `${repeat.by} ${repeat.uri}: where it goes is known only at run time; to the same Service it makes lines unresolved`,
      );
    }
  }
  if (target.variable) notes.push(`${where}: the backend is a variable, resolved for each request`);
  if (target.upstream && own(target.upstream, 'balancer_by_lua_block').length > 0) {
    notes.push(
      `upstream ${target.authority}: Lua picks the address; if it picks pods, $upstream_addr is a pod already`,
    );
  }
  const buffers = inherited(chain, 'large_client_header_buffers').directives.at(-1)?.args[1]?.text;
  if (buffers && /^(\d{3,}|1[6-9]|[2-9]\d)k$|m$/i.test(buffers)) {
    notes.push(
      `large_client_header_buffers ${buffers}: request lines over some 900 bytes push the id out of --tap-snaplen 1024`,
    );
  }
  return notes;
}
