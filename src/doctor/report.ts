/** A diagnosis as text: ASCII, one line for each location, reasons below it. */
import { type AccessLog, optionText } from './access-log.ts';
import { type Diagnosis, type Finding, type Grade, isExact, serverNames } from './finding.ts';
import type { Fix } from './fix.ts';
import { placeOf } from './parse-conf.ts';
import { blockerReason, exemptReason, fallbackReason, notesOf, portReason } from './reasons.ts';
import { LOG_PATH } from './remedy.ts';
import { own, type Scope, words } from './scope.ts';

const LABEL: Readonly<Record<Grade, string>> = {
  exact: 'exact (request-id)',
  'source-port': 'exact (source-port)',
  'request-window': 'request-window',
  'sole-backend': 'sole-backend',
  nothing: 'nothing',
  unknown: 'unknown',
  'not-applicable': 'not applicable',
};
const ORDER: readonly Grade[] = [
  'exact',
  'source-port',
  'request-window',
  'sole-backend',
  'nothing',
  'unknown',
  'not-applicable',
];
const GREEN = 32;
const YELLOW = 33;
const RED = 31;
const DIM = 2;
const BOLD = 1;

function paint(text: string, code: number, color: boolean): string {
  return color ? `\x1b[${code}m${text}\x1b[0m` : text;
}

function codeOf(grade: Grade): number {
  if (isExact(grade)) return GREEN;
  if (grade === 'not-applicable') return DIM;
  return grade === 'nothing' || grade === 'unknown' ? RED : YELLOW;
}

/** `/api/`, `= /auth`, `/x > if ($y)`; a stream server has no location. */
function locationLabel(finding: Finding): string {
  const inner = finding.route.chain.slice(2);
  if (inner.length === 0) return finding.route.http ? '(server)' : '(stream)';
  return inner
    .map((s) => (s.kind === 'location' ? words(s.node!.args) : `${s.kind} ${words(s.node!.args)}`))
    .join(' > ');
}

function serverLine(server: Scope): string {
  const listen = own(server, 'listen').map((d) => words(d.args));
  const place = server.node ? `  ${placeOf(server.node.file, server.node.start)}` : '';
  return `server ${serverNames(server)}${listen.length > 0 ? ` (listen ${listen.join(', ')})` : ''}${place}`;
}

export function counts(diagnosis: Diagnosis): string {
  const parts = ORDER.map((v) => [v, diagnosis.findings.filter((f) => f.grade === v).length] as const)
    .filter(([, n]) => n > 0)
    .map(([v, n]) => `${n} ${LABEL[v]}`);
  return parts.join(', ');
}

function plural(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? '' : 's'}`;
}

function findingLines(
  finding: Finding,
  diagnosis: Diagnosis,
  widths: [number, number],
  color: boolean,
): string[] {
  const { grade, target, blockers, exempt } = finding;
  const members = target.members?.filter((m) => m !== target.authority).join(', ');
  const leads = `-> ${target.text}${members ? ` (${members})` : ''}`;
  const head = `  ${locationLabel(finding).padEnd(widths[0])}  ${leads.padEnd(widths[1])}  `;
  const reasons = exempt
    ? [exemptReason(exempt)]
    : [
        ...blockers.map((b) => blockerReason(b, diagnosis.names)),
        portReason(finding),
        fallbackReason(finding),
      ].filter((r) => r !== undefined);
  if (grade === 'source-port') reasons.unshift(`$${diagnosis.names.localPortField} is logged`);
  const lines = [(head + paint(LABEL[grade], codeOf(grade), color)).trimEnd()];
  for (const reason of new Set(reasons)) lines.push(`      ${paint(reason, DIM, color)}`);
  return lines;
}

const isRelative = (path: string): boolean => !/^(\/|syslog:|\$)/.test(path);

const fullPath = ({ path }: AccessLog): string => (isRelative(path) ? `PREFIX/${path}` : path);

/** The logs that a sidecar can follow after the changes, those of exact locations first. */
function logsToFollow({ findings }: Diagnosis): AccessLog[] {
  const logs = new Map<string, AccessLog>();
  const exact = findings.filter(({ grade }) => isExact(grade));
  const others = findings.filter(({ grade }) => grade === 'request-window' || grade === 'sole-backend');
  for (const { log } of [...exact, ...others]) {
    if (log?.format && !logs.has(log.path)) logs.set(log.path, log);
  }
  return [...logs.values()];
}

function sidecarLines(after: Diagnosis): string[] {
  const { field, header, localPortField } = after.names;
  const port = localPortField === undefined ? '' : ` --local-port-field ${localPortField}`;
  return logsToFollow(after).map((log) => {
    const format = log.format!;
    const text = optionText(format).replaceAll("'", `'\\''`);
    const id = field === 'request_id' ? '' : ` --request-id-field ${field}`;
    const head = header === 'X-Request-ID' ? '' : `   (helper: --request-id-header ${header})`;
    return `  realpod sidecar --access-log ${fullPath(log)}${id}${port} --log-format '${text}'${head}`;
  });
}

/** The sidecar's ConfigMap for the first of the logs. */
function configMapLines(after: Diagnosis): string[] {
  const [log, ...others] = logsToFollow(after);
  if (!log?.format) return [];
  const { field, localPortField } = after.names;
  const quoted = (text: string): string => `'${text.replaceAll("'", "''")}'`;
  return [
    'apiVersion: v1',
    'kind: ConfigMap',
    'metadata:',
    '  name: realpod',
    'data:',
    `  REALPOD_LOG_FORMAT: ${quoted(optionText(log.format))}`,
    ...(log.path === LOG_PATH ? [] : [`  REALPOD_ACCESS_LOG: ${quoted(fullPath(log))}`]),
    ...(field === 'request_id' ? [] : [`  REALPOD_REQUEST_ID_FIELD: ${quoted(field)}`]),
    ...(localPortField === undefined ? [] : [`  REALPOD_LOCAL_PORT_FIELD: ${quoted(localPortField)}`]),
    ...(others.length === 0
      ? []
      : [`# A sidecar follows one log; not this: ${others.map(fullPath).join(', ')}`]),
  ].map((line) => `  ${line}`);
}

/** Directories in which the access log of an image is a link to stdout. */
const LINKED: readonly { directory: string; image: string }[] = [
  { directory: '/var/log/nginx/', image: 'the official nginx image' },
  { directory: '/var/log/angie/', image: "Angie's image" },
  { directory: '/usr/local/openresty/nginx/logs/', image: "OpenResty's image" },
  { directory: '/opt/bitnami/nginx/logs/', image: "bitnami's nginx image" },
  { directory: '/opt/bitnami/openresty/nginx/logs/', image: "bitnami's OpenResty image" },
];

function generalNotes(diagnosis: Diagnosis): string[] {
  const notes = diagnosis.findings.flatMap((f) => notesOf(f, diagnosis.names));
  for (const { directory, image } of LINKED) {
    if (!diagnosis.findings.some((f) => !f.exempt && f.log?.path.startsWith(directory))) continue;
    notes.push(`in ${image} access.log is a link to stdout: mount a volume over ${directory.slice(0, -1)}`);
  }
  const relative = diagnosis.findings.map((f) => f.log?.path).find((path) => path && isRelative(path));
  if (relative !== undefined) {
    notes.push(
      `access_log ${relative} is relative to nginx's prefix, which is not known here; (nginx -V; nginx -T) 2>&1 | realpod doctor reads it. In OpenResty's image logs/access.log is a link to stdout: mount a volume over /usr/local/openresty/nginx/logs`,
    );
  }
  return [...new Set(notes)];
}

function section(title: string, lines: readonly string[], color: boolean): string[] {
  return lines.length === 0 ? [] : ['', paint(title, BOLD, color), ...lines];
}

export function report(name: string, diagnosis: Diagnosis, proposed: Fix, color: boolean): string {
  const { model, findings, names } = diagnosis;
  const total = `${plural(model.servers, 'server')}, ${plural(findings.length, 'proxying location')}`;
  const nothing = model.unread.length > 0 ? ' in what was read' : ', nothing to resolve';
  const out = [`${name}: ${total}${findings.length > 0 ? `: ${counts(diagnosis)}` : nothing}`];
  if (diagnosis.adopted) {
    out.push(
      `id field: $${names.field}, sent as ${names.header} (sidecar option --request-id-field ${names.field})`,
    );
  }
  const widths: [number, number] = [
    Math.min(40, Math.max(0, ...findings.map((f) => locationLabel(f).length))),
    Math.min(48, Math.max(0, ...findings.map((f) => f.target.text.length + 3))),
  ];
  let server: Scope | undefined;
  for (const f of findings) {
    if (f.route.server !== server) {
      server = f.route.server;
      out.push('', paint(serverLine(server), BOLD, color));
    }
    out.push(...findingLines(f, diagnosis, widths, color));
  }
  out.push(
    ...section(
      'Not read',
      model.unread.map((u) => `  ${u}: give the output of "nginx -T", which has all files`),
      color,
    ),
  );
  const changes = proposed.changes.flatMap((c) => {
    const removed = c.removed === undefined ? [] : [paint(`    - ${c.removed.trim()}`, RED, color)];
    return [`  ${c.path}:${c.line}`, ...removed, paint(`    + ${c.added.trim()}`, GREEN, color)];
  });
  const result =
    changes.length > 0 ? [`  after that: ${counts(proposed.after)}; "--fix" prints this as a patch`] : [];
  out.push(...section('Change', [...changes, ...result], color));
  out.push(...section(changes.length > 0 ? 'Then start' : 'Start', sidecarLines(proposed.after), color));
  out.push(...section('ConfigMap for the sidecar', configMapLines(proposed.after), color));
  out.push(
    ...section(
      'Notes',
      generalNotes(diagnosis).map((n) => `  ${n}`),
      color,
    ),
  );
  return `${out.join('\n')}\n`;
}
