import { parseArgs } from 'node:util';
import { didYouMean } from './environment.ts';
import {
  type Command,
  environmentName,
  type Option,
  type Options,
  optionName,
  UsageError,
} from './option.ts';

interface Given {
  texts: readonly string[];
  /** The name that the value was given by; undefined: the default, or no value. */
  by: string | undefined;
}

/**
 * Reads a command's options: command line first, then `REALPOD_…`, then the default. Throws UsageError with one line that
 * has the name of the option or variable, and what a valid value is.
 */
export function readOptions<C extends Command>(
  command: C,
  argv: readonly string[],
  env: NodeJS.ProcessEnv,
): Options<C> {
  return read(command, argv, env, (error) => {
    throw error;
  }) as Options<C>;
}

/**
 * The same, but a bad value of the environment gives way to the default, and a bad default leaves the option out. Throws
 * UsageError for a bad command line.
 */
export function readSoundOptions<C extends Command>(
  command: C,
  argv: readonly string[],
  env: NodeJS.ProcessEnv,
): Partial<Options<C>> {
  return read(command, argv, env, (error, by) => {
    if (by?.startsWith('--')) throw error;
  });
}

function read<C extends Command>(
  command: C,
  argv: readonly string[],
  env: NodeJS.ProcessEnv,
  refuse: (error: UsageError, by: string | undefined) => void,
): Partial<Options<C>> {
  const { values: written, argument } = commandLine(command, argv);
  const values: Record<string, unknown> = {};
  const given: Record<string, string> = {};
  for (const [key, option] of Object.entries(command.options)) {
    const sources = [written.get(key), environment(key, option, env), fallback(option)];
    for (const { texts, by } of sources.filter((source) => source !== undefined)) {
      try {
        values[key] = option.read(texts, env);
        if (by !== undefined) given[key] = by;
        break;
      } catch (error) {
        if (!(error instanceof UsageError)) throw error;
        const separator = error.message === 'is needed' ? ' ' : ': ';
        refuse(new UsageError(`${by ?? optionName(key)}${separator}${error.message}`), by);
      }
    }
  }
  // Each value was parsed by the option of its key, so it has that option's type.
  return { ...values, argument, given } as Partial<Options<C>>;
}

function commandLine(
  command: Command,
  argv: readonly string[],
): { values: Map<string, Given>; argument: string | undefined } {
  const byName = new Map(Object.keys(command.options).map((key) => [optionName(key).slice(2), key]));
  const fail = (message: string): never => {
    throw new UsageError(`${message}; see realpod ${command.name} --help`);
  };
  let parsed: ReturnType<typeof parseArgs>;
  try {
    parsed = parseArgs({
      args: [...argv],
      strict: true,
      allowPositionals: command.argument !== undefined,
      options: Object.fromEntries(
        [...byName].map(([name, key]) => [
          name,
          { type: command.options[key]?.flag ? 'boolean' : 'string', multiple: true },
        ]),
      ),
    });
  } catch (error) {
    const [message] = (error instanceof Error ? error.message : String(error)).split(/\. |\n/, 1);
    const [, unknown] = /^Unknown option '(--[^']*)'/.exec(message ?? '') ?? [];
    if (unknown === undefined) return fail(message ?? '');
    const known = [...byName.keys()].map((name) => `--${name}`);
    return fail(`there is no option ${unknown}${didYouMean(unknown, known)}`);
  }
  const [argument, surplus] = parsed.positionals;
  if (surplus !== undefined) fail(`${surplus}: one ${command.argument} is enough`);
  const values = new Map<string, Given>();
  for (const [name, key] of byName) {
    const value = parsed.values[name];
    if (value === undefined) continue;
    const texts = (Array.isArray(value) ? value : [value]).map(String);
    values.set(key, { texts, by: optionName(key) });
  }
  return { values, argument };
}

function environment(key: string, option: Option<unknown>, env: NodeJS.ProcessEnv): Given | undefined {
  const by = environmentName(key);
  const text = env[by];
  if (text === undefined || text === '') return undefined;
  return { texts: option.repeatable ? text.split(',').map((part) => part.trim()) : [text], by };
}

function fallback(option: Option<unknown>): Given {
  return { texts: option.fallback === undefined ? [] : [option.fallback], by: undefined };
}
