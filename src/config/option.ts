/** A wrong command line or environment: exit code 2 and one line. */
export class UsageError extends Error {}

export type OptionKind =
  | 'text'
  | 'flag'
  | 'duration'
  | 'bytes'
  | 'port-number'
  | 'listen'
  | 'header'
  | 'variable'
  | { oneOf: readonly string[] }
  | { someOf: readonly string[] };

export interface OptionSpec {
  name: string;
  kind: OptionKind;
  /** What stands behind the name in the help. */
  value?: string;
  /** As it would be written on the command line; undefined: unset. */
  fallback?: string;
  repeatable?: boolean;
  meaning: string;
}

export interface CommandSpec {
  name: string;
  summary: string;
  options: readonly OptionSpec[];
  /** Names of positional arguments, `[NAME]` if optional. */
  positionals?: readonly string[];
}
