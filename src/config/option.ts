/** A wrong command line or environment: exit code 2 and one line. */
export class UsageError extends Error {}

/** One row of the table of options. `T` is the type of its value. */
export interface Option<T> {
  /** The placeholder behind the name in the help; '' for a flag. */
  readonly value: string;
  /** As it would be written on the command line; undefined: unset. */
  readonly fallback: string | undefined;
  readonly flag: boolean;
  readonly repeatable: boolean;
  readonly meaning: string;
  /** `texts` is empty if the option is not given and has no default. Throws UsageError without the option's name. */
  read(texts: readonly string[], env: NodeJS.ProcessEnv): T;
}

/** Keys are the options' names in camel case: `maxWait` is `--max-wait` and `REALPOD_MAX_WAIT`. */
export type OptionTable = Readonly<Record<string, Option<unknown>>>;

export interface Command<T extends OptionTable = OptionTable> {
  readonly name: string;
  readonly summary: string;
  /** Meanings of exit codes that differ from 0: done, 1: failed, 2: a bad option or value. */
  readonly exits?: string;
  /** Name of the positional argument, `[NAME]` if optional. */
  readonly argument?: string;
  readonly options: T;
  /** Names of the options that count with `--helper embedded` only. */
  readonly embedded?: readonly string[];
}

type Values<T extends OptionTable> = {
  readonly [K in keyof T]: T[K] extends Option<infer V> ? V : never;
};

/** A command's checked values, `argument`, and `given`: the name of each option or variable that was given. */
export type Options<C extends Command> = Values<C['options']> & {
  readonly argument: string | undefined;
  readonly given: { readonly [K in keyof C['options']]?: string };
};

const kebab = (key: string): string => key.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`);

/** `maxWait` → `--max-wait`. */
export function optionName(key: string): string {
  return `--${kebab(key)}`;
}

/** `maxWait` → `REALPOD_MAX_WAIT`. */
export function environmentName(key: string): string {
  return `REALPOD_${kebab(key).toUpperCase().replaceAll('-', '_')}`;
}

/** The name that the value was given by, for later errors: `REALPOD_MAX_WAIT` or `--max-wait`. */
export function nameOf<K extends string>(
  options: { given: { readonly [key in K]?: string } },
  key: K,
): string {
  return options.given[key] ?? optionName(key);
}
