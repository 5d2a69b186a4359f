import { compileLogFormat, type LogFormat, LogFormatError } from '../parse/log-format.ts';
import { UsageError } from './option.ts';

interface FormatOptions {
  readonly logFormat: string;
  readonly requestIdField: string;
  readonly localPortField: string | undefined;
  /** How the format was given, for errors. */
  readonly formatName: string;
}

/** The log format that `--log-format`, `--request-id-field` and `--local-port-field` give; throws UsageError. */
export function logFormatOf(options: FormatOptions): LogFormat {
  try {
    return compileLogFormat(options.logFormat, {
      requestIdField: options.requestIdField,
      localPortField: options.localPortField,
    });
  } catch (error) {
    if (error instanceof LogFormatError) {
      throw new UsageError(`${options.formatName}: ${error.message}`);
    }
    throw error;
  }
}
