/** Takes the sidecar's options from nginx's configuration, so that format, path and id have one source. Pure. */
import { type AccessLog, onlyVariable, optionText } from './access-log.ts';
import { diagnose } from './diagnose.ts';
import type { Finding } from './finding.ts';
import { ConfError } from './parse-conf.ts';
import { type IdNames, originOf, setHeader } from './request-id.ts';
import { inherited, type Model, modelOf } from './scope.ts';
import { assemble, type ConfFiles } from './sources.ts';

/** Options that are given; they have precedence. */
export interface GivenNames {
  accessLog: string | undefined;
  requestIdField: string | undefined;
  requestIdHeader: string | undefined;
  logFormat: string | undefined;
}

export interface Taken {
  /** Path of the log in nginx's configuration. */
  accessLog: string;
  /** A value for `--log-format`. */
  logFormat: string;
  /** Undefined if the format was given. */
  formatName: string | undefined;
  requestIdField: string;
  requestIdHeader: string;
  /** Whether a location sends the field in the header. */
  idIsSent: boolean;
  /** Other logs with proxied requests. */
  otherLogs: readonly string[];
  model: Model;
}

const DEFAULT_ID: IdNames = { field: 'request_id', header: 'X-Request-ID' };

/** @throws ConfError: one line with the option to give */
export function takeFrom(sources: ConfFiles, given: GivenNames): Taken {
  const model = modelOf(assemble(sources));
  if (!model) throw new ConfError(`${sources.main}: no http, stream or server block in it`);
  const id = idSent(model, given);
  const names: IdNames = {
    field: given.requestIdField ?? id?.field ?? DEFAULT_ID.field,
    header: given.requestIdHeader ?? id?.header ?? DEFAULT_ID.header,
  };
  const { findings } = diagnose(model, names, true, sources.prefix);
  const proxied = findings.filter(({ exempt, log }) => exempt === undefined && log?.format !== undefined);
  const shared = {
    requestIdField: names.field,
    requestIdHeader: names.header,
    idIsSent: id?.field === names.field && id.header.toLowerCase() === names.header.toLowerCase(),
    model,
  };
  const paths = [...new Set(proxied.flatMap(({ log }) => (log ? [log.path] : [])))];
  const others = (path: string): string[] => paths.filter((other) => other !== path);
  const { accessLog, logFormat } = given;
  if (logFormat !== undefined && accessLog !== undefined) {
    return { ...shared, accessLog, logFormat, formatName: undefined, otherLogs: others(accessLog) };
  }
  const log = choose(proxied, accessLog, names, sources.main);
  if (!log.format)
    throw new ConfError(`${sources.main}: log_format ${log.formatName} is not in the files read`);
  return {
    ...shared,
    accessLog: log.path,
    logFormat: logFormat ?? optionText(log.format),
    formatName: logFormat === undefined ? log.formatName : undefined,
    otherLogs: others(accessLog ?? log.path),
  };
}

/** The header and variable in which most locations send an id that nginx makes. `X-Request-ID` has precedence. */
function idSent(model: Model, given: GivenNames): IdNames | undefined {
  const found = new Map<string, { names: IdNames; uses: number }>();
  for (const { chain, http } of model.routes) {
    if (!http) continue;
    for (const { args } of inherited(chain, setHeader(chain)).directives) {
      const header = args[0]?.text ?? '';
      const field = onlyVariable(args[1]?.text ?? '');
      if (field === undefined) continue;
      if (given.requestIdField !== undefined && given.requestIdField !== field) continue;
      if (given.requestIdHeader !== undefined && given.requestIdHeader.toLowerCase() !== header.toLowerCase())
        continue;
      const origin = originOf(chain, field);
      if (origin !== 'nginx' && origin !== 'client-or-nginx') continue;
      const key = `${header.toLowerCase()} ${field}`;
      const entry = found.get(key) ?? { names: { field, header }, uses: 0 };
      entry.uses++;
      found.set(key, entry);
    }
  }
  const weight = ({ names, uses }: { names: IdNames; uses: number }): number =>
    uses + (names.header.toLowerCase() === 'x-request-id' ? model.routes.length : 0);
  return [...found.values()].sort((a, b) => weight(b) - weight(a))[0]?.names;
}

/** The given log, else the one with most of the needed fields, then the one of most locations. */
function choose(
  proxied: readonly Finding[],
  path: string | undefined,
  names: IdNames,
  main: string,
): AccessLog {
  const logs = proxied.flatMap(({ log }) => (log ? [log] : []));
  if (path !== undefined) {
    const same = logs.filter((log) => log.path === path);
    if (same.length > 0) return mostUsed(same, names);
    // The path in the sidecar can differ from nginx's: if all logs have one format, it is certain.
    const texts = new Set(logs.map(({ format }) => format && optionText(format)));
    if (texts.size === 1 && logs[0]) return logs[0];
    throw new ConfError(
      logs.length === 0
        ? `${main}: no location with an access log proxies; give --log-format`
        : `${main}: no access_log ${path} in it, and the others have several formats; give --log-format`,
    );
  }
  if (logs.length === 0) {
    throw new ConfError(
      `${main}: no proxying location has a log in a file that can be followed; realpod doctor shows the reasons`,
    );
  }
  return mostUsed(logs, names);
}

function mostUsed(logs: readonly AccessLog[], names: IdNames): AccessLog {
  const says = ({ format }: AccessLog): number =>
    (format?.variables.has('upstream_addr') ? 2 : 0) + (format?.variables.has(names.field) ? 1 : 0);
  const uses = (log: AccessLog): number =>
    logs.filter(({ path, formatName }) => path === log.path && formatName === log.formatName).length;
  const [first] = [...logs].sort((a, b) => says(b) - says(a) || uses(b) - uses(a));
  if (!first) throw new ConfError('no log');
  return first;
}
