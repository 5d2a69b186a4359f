/** A wrong command line or environment: exit code 2 and one line. */
export class UsageError extends Error {}

/** One row of the table of options. `T` is what the command gets. */
export interface Option<T> {
  /** What stands behind the name in the help; '' for a flag. */
  readonly value: string;
  /** As it would be written on the command line; undefined: unset. */
  readonly fallback: string | undefined;
  readonly flag: boolean;
  readonly repeatable: boolean;
  readonly meaning: string;
  /** `texts` is empty where the option is neither given nor has a default. Throws UsageError without the option's name. */
  read(texts: readonly string[], env: NodeJS.ProcessEnv): T;
}

/** Keys are the options' names in camel case: `maxWait` is `--max-wait` and `REALPOD_MAX_WAIT`. */
export type OptionTable = Readonly<Record<string, Option<unknown>>>;

export interface Command<T extends OptionTable = OptionTable> {
  readonly name: string;
  readonly summary: string;
  /** What the exit codes say beyond 0: done, 1: failed, 2: a bad option or value. */
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

/** A command's checked values, `argument`, and `given`: for each option that is no default, the name that it came by. */
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

/** The name by which the value came, for errors that are found after reading: `REALPOD_MAX_WAIT` or `--max-wait`. */
export function nameOf<K extends string>(
  options: { given: { readonly [key in K]?: string } },
  key: K,
): string {
  return options.given[key] ?? optionName(key);
}
