/** `--nginx-conf`: the sidecar and `enrich` read options that are not given from nginx's configuration. */
import { isAbsolute } from 'node:path';
import { nameOf, UsageError } from '../config/option.ts';
import { outlivesClients } from './background.ts';
import { disk, loadFile } from './load.ts';
import { ConfError } from './parse-conf.ts';
import { type PassedOnTo, passedOnTo } from './passed-on.ts';
import { leavesClient } from './real-ip.ts';
import { type Taken, takeFrom } from './taken.ts';

interface LogOptions {
  readonly nginxConf: string | undefined;
  readonly logFormat: string;
  readonly requestIdField: string;
  readonly given: { readonly [K in 'nginxConf' | 'logFormat' | 'requestIdField']?: string };
}

export interface LogPlan {
  /** Undefined: the option's value is used. */
  accessLog: string | undefined;
  logFormat: string;
  requestIdField: string;
  requestIdHeader: string;
  /** The origin of the format, for messages. */
  formatName: string;
  /** One line about the values taken; undefined without `--nginx-conf`. */
  notice: string | undefined;
  /** Undefined: nothing is known. */
  passedOn: PassedOnTo | undefined;
  /** It is certain that nginx leaves `$remote_addr` and `$remote_port` as the connection has them. */
  leavesClient: boolean;
  /** The directive because of which a request may outlive its client (`outlivesClients`). */
  outlivesClients: string | undefined;
  /** The files that were read: path and text. */
  texts: ReadonlyMap<string, string> | undefined;
}

/** Throws UsageError. `given`: the command's options beside `LogOptions`; a default is undefined. */
export function planLog(
  options: LogOptions,
  given: { accessLog: string | undefined; requestIdHeader: string | undefined },
): LogPlan {
  const plain = {
    accessLog: given.accessLog,
    logFormat: options.logFormat,
    requestIdField: options.requestIdField,
    requestIdHeader: given.requestIdHeader ?? 'X-Request-ID',
    formatName: nameOf(options, 'logFormat'),
  };
  if (options.nginxConf === undefined)
    return {
      ...plain,
      notice: undefined,
      passedOn: undefined,
      leavesClient: false,
      outlivesClients: undefined,
      texts: undefined,
    };
  try {
    const sources = loadFile(options.nginxConf, disk);
    const taken = takeFrom(sources, {
      accessLog: given.accessLog,
      requestIdField: options.given.requestIdField === undefined ? undefined : options.requestIdField,
      requestIdHeader: given.requestIdHeader,
      logFormat: options.given.logFormat === undefined ? undefined : options.logFormat,
    });
    const accessLog = given.accessLog ?? taken.accessLog;
    if (!isAbsolute(accessLog)) {
      throw new ConfError(
        `access_log ${accessLog} is relative to nginx's prefix, which nginx -V shows; give --access-log`,
      );
    }
    return {
      accessLog,
      logFormat: taken.logFormat,
      requestIdField: taken.requestIdField,
      requestIdHeader: taken.requestIdHeader,
      formatName: options.given.logFormat ?? `log_format ${taken.formatName} of ${options.nginxConf}`,
      notice: `${options.nginxConf}: ${noticeOf(taken, given.accessLog)}`,
      passedOn: passedOnTo(taken.model, taken.accessLog),
      leavesClient: leavesClient(taken.model),
      outlivesClients: outlivesClients(taken.model),
      texts: sources.texts,
    };
  } catch (error) {
    if (!(error instanceof ConfError)) throw error;
    throw new UsageError(`${nameOf(options, 'nginxConf')}: ${error.message}`);
  }
}

function noticeOf(taken: Taken, givenLog: string | undefined): string {
  const format = taken.formatName === undefined ? 'the given format' : `log_format ${taken.formatName}`;
  const log = givenLog === undefined ? `log ${taken.accessLog}` : `log ${givenLog} as given`;
  const id = taken.idIsSent
    ? `id $${taken.requestIdField}, sent as ${taken.requestIdHeader}`
    : `no location sends an id that nginx makes as ${taken.requestIdHeader}`;
  const others =
    taken.otherLogs.length === 0 ? '' : `; not followed: ${taken.otherLogs.slice(0, 5).join(', ')}`;
  return `${log}, ${format}; ${id}${others}`;
}
