/** Finds the evidence that each proxying location can reach, and the causes if it is less than exact. Pure. */
import {
  type AccessLog,
  accessLog,
  type ConfFormat,
  formatsOf,
  loggedFields,
  readability,
} from './access-log.ts';
import type { Blocker, Diagnosis, DoctorNames, Exempt, Finding, Grade } from './finding.ts';
import { type IdHeader, type IdNames, idHeader, originOf, sentVariable } from './request-id.ts';
import { type Chain, type Inherited, inherited, type Model, type Route, value } from './scope.ts';
import { repeatsOf, scriptThatMayReach, subrequestOnly } from './subrequest.ts';
import { sameTarget, type Target, targetOf } from './target.ts';

interface Logs {
  from: Inherited;
  /** nginx's default if no level has an access_log: `combined`. */
  logs: readonly AccessLog[];
}

function logsOf(
  chain: Chain,
  formats: ReadonlyMap<string, ConfFormat>,
  http: boolean,
  prefix: string | undefined,
): Logs {
  const from = inherited(chain, 'access_log');
  const logs = from.directives.map((d) => accessLog(d, formats, prefix)).filter((l) => l !== undefined);
  if (from.scope || !http) return { from, logs };
  const fallback: AccessLog = {
    node: undefined,
    path: '/var/log/nginx/access.log',
    formatName: 'combined',
    format: formats.get('combined'),
    unfollowable: undefined,
    buffer: undefined,
    flush: undefined,
    conditional: false,
  };
  return { from, logs: [fallback] };
}

function completeness(format: ConfFormat | undefined, names: IdNames): number {
  if (!format) return 0;
  return (format.variables.has('upstream_addr') ? 2 : 1) + (format.variables.has(names.field) ? 2 : 0);
}

/** The log to follow: the one whose format has most of the needed fields. */
function best(logs: readonly AccessLog[], names: IdNames): AccessLog | undefined {
  return logs
    .filter((l) => !l.unfollowable)
    .sort((a, b) => completeness(b.format, names) - completeness(a.format, names))[0];
}

/** A sidecar reads one file in one format. If a file gets several, the best one is used, then the most frequent one. */
function formatOfPath(logs: readonly AccessLog[], names: IdNames): Map<string, ConfFormat> {
  const uses = new Map<string, Map<ConfFormat, number>>();
  for (const { path, format } of logs) {
    const formats = uses.get(path) ?? new Map<ConfFormat, number>();
    if (format) formats.set(format, (formats.get(format) ?? 0) + 1);
    uses.set(path, formats);
  }
  const chosen = new Map<string, ConfFormat>();
  for (const [path, formats] of uses) {
    const [first] = [...formats].sort(
      ([a, m], [b, n]) => completeness(b, names) - completeness(a, names) || n - m,
    );
    if (first) chosen.set(path, first[0]);
  }
  return chosen;
}

/** If the tap cannot read the id on the wire, a log without the id is not a blocker. */
function formatBlockers(
  log: AccessLog,
  want: ConfFormat | undefined,
  target: Target,
  names: IdNames,
): Blocker[] {
  const format = log.format;
  if (!format) return [{ kind: 'format-unknown', name: log.formatName }];
  const blockers: Blocker[] = [];
  if (want && want !== format) blockers.push({ kind: 'format-differs', log, want });
  const judged = want ?? format;
  if (!judged.variables.has('upstream_addr')) {
    blockers.push({ kind: 'address-not-logged', format: judged });
  } else {
    const { refused } = readability(judged, names.field);
    if (refused !== undefined) blockers.push({ kind: 'format-refused', format: judged, message: refused });
  }
  if (!target.unreadable && !judged.variables.has(names.field))
    blockers.push({ kind: 'id-not-logged', format: judged });
  if (judged.escape === 'none') blockers.push({ kind: 'escape-none', format: judged });
  return blockers;
}

function headerBlockers(route: Route, header: IdHeader, names: IdNames): Blocker[] {
  if (originOf(route.chain, names.field) === 'client') return [{ kind: 'client-id', field: names.field }];
  if (header.wrong.length > 0) return [{ kind: 'header-differs', lines: header.wrong }];
  if (header.lines.length > 0) return [];
  if (header.from.unsure) return [{ kind: 'unread', what: header.from.unsure }];
  return [{ kind: 'header-missing', from: header.from }];
}

function rank(
  blockers: readonly Blocker[],
  log: AccessLog | undefined,
  target: Target,
  names: DoctorNames,
): Grade {
  const has = (...kinds: Blocker['kind'][]) => blockers.some((b) => kinds.includes(b.kind));
  if (blockers.length === 0) return 'exact';
  if (has('format-unknown', 'script')) return 'unknown';
  if (has('not-logged', 'not-followable', 'bound-address', 'format-differs', 'format-refused'))
    return 'nothing';
  if (target.unreadable === 'udp' || !log?.format) return 'nothing';
  const logged = loggedFields(log.format);
  if (!logged.address || !logged.end) return has('unread') ? 'unknown' : 'nothing';
  const forgeable = log.format.escape === 'none';
  if (!forgeable && names.localPortField && log.format.variables.has(names.localPortField))
    return 'source-port';
  if (has('unread')) return 'unknown';
  const readable = target.unreadable === undefined && !target.http2 && !has('repeated', 'slice');
  return readable && logged.requestLine && logged.duration ? 'request-window' : 'sole-backend';
}

function exemption(route: Route, target: Target, logs: Logs): Exempt | undefined {
  if (target.local) return 'local';
  if (route.http && subrequestOnly(route)) return 'subrequest';
  const inner = route.chain.indexOf(logs.from.scope!) > 1;
  return inner && logs.logs.length === 0 ? 'log-off' : undefined;
}

/** The configured field, unless this nginx always sends another variable in the id header. */
function adoptField(model: Model, names: DoctorNames): DoctorNames {
  const routes = model.routes.filter((r) => r.http);
  const sent = routes.map((r) => sentVariable(r.chain, names.header));
  const direct = routes.some((r) => {
    const header = idHeader(r.chain, names);
    return header.lines.length > 0 && header.wrong.length === 0;
  });
  const candidate = sent.find(
    (s, i) => s !== undefined && s !== names.field && originOf(routes[i]!.chain, s) !== 'client',
  );
  return direct || candidate === undefined ? names : { ...names, field: candidate };
}

/**
 * @param names.field log variable of the request id, without the `$`
 * @param prefix the directory of relative log paths, if known
 * @param explicit the user chose the field: no other one replaces it
 */
export function diagnose(model: Model, wanted: DoctorNames, explicit: boolean, prefix?: string): Diagnosis {
  const names = explicit ? wanted : adoptField(model, wanted);
  const formats = formatsOf(model.http);
  const streamFormats = formatsOf(model.stream);
  const prepared = model.routes.map((route) => {
    const logs = logsOf(route.chain, route.http ? formats : streamFormats, route.http, prefix);
    const target = targetOf(route);
    const exempt = exemption(route, target, logs);
    return { route, logs, target, exempt, log: best(logs.logs, names), header: idHeader(route.chain, names) };
  });
  const counted = prepared.filter((p) => p.exempt === undefined && p.log);
  const chosen = {
    http: formatOfPath(
      counted.filter((p) => p.route.http).map((p) => p.log!),
      names,
    ),
    stream: formatOfPath(
      counted.filter((p) => !p.route.http).map((p) => p.log!),
      names,
    ),
  };

  const silent = prepared.filter(isSilent);

  const findings = prepared.map(({ route, logs, target, exempt, log, header }): Finding => {
    const base = { route, target, exempt, log, header };
    if (exempt) return { ...base, grade: 'not-applicable', blockers: [] };
    const blockers: Blocker[] = [];
    if (logs.from.unsure) blockers.push({ kind: 'unread', what: logs.from.unsure });
    const script = route.http ? scriptThatMayReach(route) : undefined;
    if (script) blockers.push({ kind: 'script', script });
    if (logs.logs.length === 0) blockers.push({ kind: 'not-logged' });
    else if (!log) blockers.push({ kind: 'not-followable', logs: logs.logs });
    else {
      const want = (route.http ? chosen.http : chosen.stream).get(log.path);
      blockers.push(...formatBlockers(log, want, target, names));
    }
    if (boundAway(route.chain)) blockers.push({ kind: 'bound-address' });
    if (target.unreadable) blockers.push({ kind: 'unreadable', how: target.unreadable });
    else blockers.push(...headerBlockers(route, header, names));
    if (value(route.chain, 'slice') !== undefined && value(route.chain, 'slice') !== '0') {
      blockers.push({ kind: 'slice' });
    }
    const repeats = repeatsOf(route, target, names).filter((r) => r.same);
    for (const repeat of repeats) blockers.push({ kind: 'repeated', repeat });
    if (!target.unreadable) {
      for (const other of silent) {
        const repeated = repeats.some((r) => r.chain.at(-1)!.node === other.route.chain.at(-1)!.node);
        if (other.route !== route && !repeated && sameTarget(target, other.target)) {
          blockers.push({ kind: 'neighbour', route: other.route, header: other.header });
        }
      }
    }
    return { ...base, grade: rank(blockers, log, target, names), blockers };
  });
  return { model, names, adopted: names.field !== wanted.field, formats, findings };
}

/**
 * Whether the location sends requests without an id. Each of them may be the request of a line of another location, as the
 * target on the wire is no evidence.
 */
function isSilent(p: { route: Route; target: Target; header: IdHeader }): boolean {
  if (!p.route.http || p.target.unreadable || p.target.local) return false;
  return p.header.lines.every((d) => (d.args[1]?.text ?? '') === '');
}

function boundAway(chain: Chain): boolean {
  const bind = value(chain, 'proxy_bind');
  return bind !== undefined && bind !== 'off';
}
