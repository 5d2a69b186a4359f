/** Finds the smallest edits that remove the blockers. Pure. */
import { type AccessLog, type ConfFormat, formatTexts, isOption } from './access-log.ts';
import { type Blocker, completeFormat, type Diagnosis, type Finding, isExact } from './finding.ts';
import type { Directive, SourceFile, Token } from './parse-conf.ts';
import type { Edit } from './patch.ts';
import { setHeader } from './request-id.ts';
import type { Route, Scope } from './scope.ts';
import type { Repeat } from './subrequest.ts';

export const LOG_PATH = '/var/log/nginx/access.log';

function isFixable(blocker: Blocker): boolean {
  switch (blocker.kind) {
    case 'header-missing':
    case 'header-differs':
    case 'id-not-logged':
    case 'address-not-logged':
    case 'escape-none':
    case 'format-differs':
    case 'not-followable':
      return true;
    case 'format-refused':
      return blocker.format.escape === 'none';
    case 'repeated':
      return blocker.repeat.private;
    case 'neighbour':
      return blocker.header.from.unsure === undefined;
    default:
      return false;
  }
}

/** One round of edits. The changed text may need a second one; no edits: nothing more can be done. */
export function remedies(diagnosis: Diagnosis): Edit[] {
  const edits: Edit[] = [];
  for (const finding of diagnosis.findings) {
    if (isExact(finding.grade) || !finding.blockers.every(isFixable)) continue;
    for (const blocker of finding.blockers) edits.push(...remedy(blocker, finding, diagnosis));
  }
  return edits;
}

function remedy(blocker: Blocker, finding: Finding, diagnosis: Diagnosis): Edit[] {
  const { field } = diagnosis.names;
  switch (blocker.kind) {
    case 'header-missing':
      return sendId(finding.route, blocker.from.scope, [], diagnosis);
    case 'header-differs':
      return sendId(finding.route, undefined, blocker.lines, diagnosis);
    case 'neighbour':
      return sendId(blocker.route, blocker.header.from.scope, blocker.header.lines, diagnosis);
    case 'not-followable':
      return followable(blocker.logs, finding);
    case 'format-differs':
      return useFormat(blocker.log, blocker.want, diagnosis);
    case 'id-not-logged':
    case 'address-not-logged':
    case 'escape-none':
      if (!blocker.format.node) return finding.log ? useFormat(finding.log, blocker.format, diagnosis) : [];
      return extendFormat(blocker.format, blocker.format.node, field);
    case 'repeated':
      return otherId(blocker.repeat, diagnosis);
    default:
      return [];
  }
}

/** Corrects the lines that send another value, else adds one beside the other headers of this level. */
function sendId(
  { chain }: Route,
  scope: Scope | undefined,
  lines: readonly Directive[],
  diagnosis: Diagnosis,
): Edit[] {
  const { field, header } = diagnosis.names;
  if (lines.length > 0) return lines.map((d) => replace(d.file, d.args[1]!, `$${field}`));
  const name = setHeader(chain);
  const line = `${name} ${header} $${field};`;
  return scope ? [beforeFirst(scope, name, line)] : [atTop(httpOf(diagnosis), line)];
}

function httpOf(diagnosis: Diagnosis): Scope {
  return diagnosis.model.http!;
}

function replace(file: SourceFile, token: Token, insert: string): Edit {
  return { path: file.path, at: token.start, remove: token.end - token.start, insert, wholeLine: false };
}

function inline(file: SourceFile, at: number, insert: string): Edit {
  return { path: file.path, at, remove: 0, insert, wholeLine: false };
}

function lineStart(text: string, at: number): number {
  return text.lastIndexOf('\n', at - 1) + 1;
}

/** A line before `anchor`, indented like it; or on the same line, if other text is before it. */
function before(anchor: Directive, line: string): Edit {
  const { text, path } = anchor.file;
  const start = lineStart(text, anchor.start);
  const indent = text.slice(start, anchor.start);
  if (indent.trim() !== '') return inline(anchor.file, anchor.start, `${line} `);
  return { path, at: start, remove: 0, insert: indent + line, wholeLine: true };
}

function beforeFirst(scope: Scope, name: string, line: string): Edit {
  return before(scope.entries.find((e) => e.directive.name === name)!.anchor, line);
}

/** Adds the first line of a block, before every directive that could need it. */
function atTop(scope: Scope, line: string): Edit {
  const node = scope.node;
  if (!node) return before(scope.entries[0]!.anchor, line);
  const { text, path } = node.file;
  const eol = text.indexOf('\n', node.open);
  const rest = text.slice(node.open, eol < 0 ? text.length : eol).trim();
  if (eol < 0 || (rest !== '' && !rest.startsWith('#'))) return inline(node.file, node.open!, ` ${line}`);
  const blockIndent = /^[ \t]*/.exec(text.slice(lineStart(text, node.start)))![0];
  const first = node.children?.[0];
  const childIndent = first && text.slice(lineStart(text, first.start), first.start);
  const indent = childIndent !== undefined && childIndent.trim() === '' ? childIndent : `${blockIndent}    `;
  return { path, at: eol + 1, remove: 0, insert: indent + line, wholeLine: true };
}

/** Replaces stdout by a file; beside any other log that the sidecar cannot follow, adds a file. */
function followable(logs: readonly AccessLog[], finding: Finding): Edit[] {
  const stdout = logs.find((l) => l.unfollowable === 'stdout');
  if (stdout?.node) return [replace(stdout.node.file, stdout.node.args[0]!, LOG_PATH)];
  const node = logs[0]?.node;
  const scope = node && finding.route.chain.find((s) => s.entries.some((e) => e.directive === node));
  return scope ? [beforeFirst(scope, 'access_log', `access_log ${LOG_PATH} ${logs[0]!.formatName};`)] : [];
}

/** The new format of this log; the built-in `combined` cannot be extended, so another one replaces it. */
function useFormat(log: AccessLog, want: ConfFormat, diagnosis: Diagnosis): Edit[] {
  const ready = want.node ? want : completeFormat(diagnosis);
  const name = ready?.name ?? newName(diagnosis);
  const edits: Edit[] = [];
  if (!ready) {
    const tail = addition(diagnosis.formats.get('combined')!, diagnosis.names.field);
    const text = `log_format ${name} '${diagnosis.formats.get('combined')!.text}${tail}';`;
    edits.push(atTop(httpOf(diagnosis), text));
  }
  if (!log.node) {
    edits.push(atTop(httpOf(diagnosis), `access_log ${log.path} ${name};`));
    return edits;
  }
  const path = log.node.args[0]!;
  const format = log.node.args[1];
  if (format && !isOption(format.text)) edits.push(replace(log.node.file, format, name));
  else edits.push(inline(log.node.file, path.end, ` ${name}`));
  return edits;
}

function newName(diagnosis: Diagnosis): string {
  let name = 'realpod';
  while (diagnosis.formats.has(name)) name += '_';
  return name;
}

/** Fields that are added to a format only if it has to change anyway: each is useful without the others. */
const TIMES: readonly { name: string; unless: readonly string[] }[] = [
  { name: 'msec', unless: [] },
  { name: 'request_time', unless: ['upstream_response_time'] },
  { name: 'upstream_status', unless: [] },
];

function missing({ variables }: ConfFormat, field: string): string[] {
  const needed = ['upstream_addr', field].filter((name) => !variables.has(name));
  if (needed.length === 0) return [];
  const times = TIMES.filter(({ name, unless }) => ![name, ...unless].some((each) => variables.has(each)));
  return [...needed, ...times.map(({ name }) => name)];
}

/** Variables whose values have no blank. */
const BARE = ['request_id', 'msec', 'request_time'];

/** For text formats. A value that can have blanks is quoted. */
function addition(format: ConfFormat, field: string): string {
  return missing(format, field)
    .map((name) => (BARE.includes(name) ? ` $${name}` : ` "$${name}"`))
    .join('');
}

function isJson(format: ConfFormat): boolean {
  const text = format.text.trim();
  return text.startsWith('{') && text.endsWith('}');
}

function extendFormat(format: ConfFormat, node: Directive, field: string): Edit[] {
  const edits: Edit[] = [];
  const option = node.args[1];
  if (format.escape === 'none' && option) {
    edits.push(replace(node.file, option, isJson(format) ? 'escape=json' : 'escape=default'));
  }
  const names = missing(format, field);
  const last = formatTexts(node).at(-1);
  if (names.length === 0 || !last) return edits;
  if (isJson(format)) {
    const at = node.file.text.lastIndexOf('}', last.end - 1);
    const json = names.map((name) => `,"${name}":"$${name}"`).join('');
    edits.push(inline(node.file, at, last.quote === '"' ? json.replaceAll('"', '\\"') : json));
  } else {
    edits.push(inline(node.file, last.end, ` '${addition(format, field)}'`));
  }
  return edits;
}

/** Gives the subrequest another id. Inherited headers are repeated, as the new line replaces all of them. */
function otherId(repeat: Repeat, diagnosis: Diagnosis): Edit[] {
  const { field, header } = diagnosis.names;
  const id = `"\${${field}}-${repeat.by}"`;
  const scope = repeat.chain.at(-1)!;
  const name = setHeader(repeat.chain);
  const isId = (d: Directive) => d.args[0]?.text.toLowerCase() === header.toLowerCase();
  const ownLines = scope.entries.map((e) => e.directive).filter((d) => d.name === name);
  const line = `${name} ${header} ${id};`;
  if (ownLines.some(isId)) return ownLines.filter(isId).map((d) => replace(d.file, d.args[1]!, id));
  if (ownLines.length > 0) return [beforeFirst(scope, name, line)];
  const pass = scope.entries.find(({ directive }) => /^(?:proxy|grpc)_pass$/.test(directive.name))!.anchor;
  const outer = [...repeat.chain].reverse().find((s) => s.entries.some((e) => e.directive.name === name));
  const copies = (outer?.entries ?? [])
    .map((e) => e.directive)
    .filter((d) => d.name === name && !isId(d))
    .map((d) => before(pass, d.file.text.slice(d.start, d.end)));
  return [before(pass, line), ...copies];
}
