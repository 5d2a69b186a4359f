import { compileLogFormat, type LogFormat, LogFormatError } from '../parse/log-format.ts';
import { nameOf, UsageError } from './option.ts';

interface FormatOptions {
  readonly logFormat: string;
  readonly requestIdField: string;
  readonly localPortField: string | undefined;
  readonly given: { readonly logFormat?: string };
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
      throw new UsageError(`${nameOf(options, 'logFormat')}: ${error.message}`);
    }
    throw error;
  }
}
