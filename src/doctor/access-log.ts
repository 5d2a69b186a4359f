/** `access_log` and `log_format` (nginx: src/http/modules/ngx_http_log_module.c). */
import { COMBINED } from '../parse/format-text.ts';
import { compileLogFormat, LogFormatError } from '../parse/log-format.ts';
import type { Directive, Token } from './parse-conf.ts';
import { own, type Scope } from './scope.ts';

export interface ConfFormat {
  name: string;
  text: string;
  escape: 'default' | 'json' | 'none';
  variables: ReadonlySet<string>;
  /** Undefined for the built-in `combined`. */
  node: Directive | undefined;
}

/** Why a sidecar cannot follow this log. */
export type Unfollowable = 'stdout' | 'device' | 'syslog' | 'variable' | 'gzip';

export interface AccessLog {
  node: Directive | undefined;
  path: string;
  formatName: string;
  /** Undefined if the files read do not define the format. */
  format: ConfFormat | undefined;
  unfollowable: Unfollowable | undefined;
  buffer: string | undefined;
  flush: string | undefined;
  conditional: boolean;
}

/** The variables of a text: `$name` and `${name}`. */
export function variablesOf(text: string): Set<string> {
  const names = new Set<string>();
  for (const match of text.matchAll(/\$\{?([a-zA-Z0-9_]+)/g)) names.add(match[1]!);
  return names;
}

/** The one variable that a text consists of. */
export function onlyVariable(text: string): string | undefined {
  return /^\$(?:([a-zA-Z0-9_]+)|\{([a-zA-Z0-9_]+)\})$/.exec(text)?.slice(1).find(Boolean);
}

function format(
  name: string,
  text: string,
  escaping: ConfFormat['escape'],
  node: Directive | undefined,
): ConfFormat {
  return { name, text, escape: escaping, variables: variablesOf(text), node };
}

/** The text arguments of a log_format: all after the name and `escape=`. */
export function formatTexts(node: Directive): readonly Token[] {
  return node.args.slice(node.args[1]?.text.startsWith('escape=') ? 2 : 1);
}

export function formatsOf(scope: Scope | undefined): Map<string, ConfFormat> {
  const formats = new Map([['combined', format('combined', COMBINED, 'default', undefined)]]);
  for (const node of scope ? own(scope, 'log_format') : []) {
    const name = node.args[0]?.text ?? '';
    const option = node.args[1]?.text;
    const escaping = option === 'escape=json' ? 'json' : option === 'escape=none' ? 'none' : 'default';
    const text = formatTexts(node)
      .map((t) => t.text)
      .join('');
    formats.set(name, format(name, text, escaping, node));
  }
  return formats;
}

function unfollowable(path: string, gzip: boolean): Unfollowable | undefined {
  if (path.startsWith('syslog:')) return 'syslog';
  if (/^\/dev\/(std|fd\/)|^\/proc\/(self|1)\/fd\//.test(path)) return 'stdout';
  if (/^\/dev\/(?!shm\/)/.test(path)) return 'device';
  if (path.includes('$')) return 'variable';
  return gzip ? 'gzip' : undefined;
}

/**
 * `access_log PATH [FORMAT] [buffer= flush= gzip= if=]`; undefined for `off` and for `/dev/null`, which keep nothing.
 * `prefix`: the directory of relative paths, if known.
 */
export function accessLog(
  node: Directive,
  formats: ReadonlyMap<string, ConfFormat>,
  prefix?: string,
): AccessLog | undefined {
  const written = node.args[0]?.text ?? '';
  if (written === 'off' || written === '/dev/null') return undefined;
  const plain = prefix !== undefined && !/^(\/|syslog:|\$)/.test(written);
  const path = plain ? `${prefix.replace(/\/$/, '')}/${written}` : written;
  const rest = node.args.slice(1).map((t) => t.text);
  const option = (name: string): string | undefined =>
    rest.find((a) => a.startsWith(`${name}=`))?.slice(name.length + 1);
  const gzip = rest.some((a) => a === 'gzip' || a.startsWith('gzip='));
  const second = rest[0];
  const formatName = second !== undefined && !isOption(second) ? second : 'combined';
  return {
    node,
    path,
    formatName,
    format: formats.get(formatName),
    unfollowable: unfollowable(path, gzip),
    buffer: option('buffer'),
    flush: option('flush'),
    conditional: option('if') !== undefined,
  };
}

export function isOption(word: string): boolean {
  return /^(buffer|flush|gzip|if)=|^gzip$/.test(word);
}

/** The fields of this format that the join uses. */
export interface LoggedFields {
  address: boolean;
  requestLine: boolean;
  end: boolean;
  duration: boolean;
}

export function loggedFields({ variables }: ConfFormat): LoggedFields {
  const has = (...names: string[]) => names.some((n) => variables.has(n));
  return {
    address: has('upstream_addr'),
    requestLine: has('request') || (has('request_method') && has('request_uri')),
    end: has('msec', 'time_local', 'time_iso8601'),
    duration: has('request_time', 'upstream_response_time', 'session_time', 'upstream_session_time'),
  };
}

/** The value of `--log-format` for this format: `escape=`, then the text. */
export function optionText(format: ConfFormat): string {
  if (!format.node) return format.name;
  return format.escape === 'default' ? format.text : `escape=${format.escape} ${format.text}`;
}

/** The result of the sidecar's format parser. `refused`: the sidecar does not start with this format. */
export interface Readability {
  refused: string | undefined;
  warnings: readonly string[];
}

export function readability(format: ConfFormat, idField: string): Readability {
  const quoted = format.text.replaceAll('\\', '\\\\').replaceAll('"', '\\"');
  const text = `log_format ${format.name} escape=${format.escape} "${quoted}";`;
  try {
    return {
      refused: undefined,
      warnings: compileLogFormat(text, { requestIdField: idField }).warnings.map(ascii),
    };
  } catch (error) {
    if (!(error instanceof LogFormatError)) throw error;
    return { refused: ascii(error.message), warnings: [] };
  }
}

function ascii(text: string): string {
  return text.replace(/[\u201c\u201d]/g, '"').replace(/\u2019/g, "'");
}
