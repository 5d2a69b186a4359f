import { compileLogFormat, type LogFormat, LogFormatError } from '../parse/log-format.ts';
import { UsageError } from './option.ts';
import type { Options } from './options.ts';

/** The log format that `--log-format`, `--request-id-field` and `--local-port-field` ask for; throws UsageError. */
export function logFormatOf(options: Options): LogFormat {
  const variable = (name: string): string | undefined => options.optional(name)?.replace(/^\$/, '');
  try {
    return compileLogFormat(options.text('log-format'), {
      requestIdField: variable('request-id-field'),
      localPortField: variable('local-port-field'),
    });
  } catch (error) {
    if (error instanceof LogFormatError) throw new UsageError(`--log-format: ${error.message}`);
    throw error;
  }
}
