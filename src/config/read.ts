import { parseArgs } from 'node:util';
import type { CommandSpec, OptionSpec } from './option.ts';
import { UsageError } from './option.ts';
import { Options, type Values } from './options.ts';
import { parseBytes, parseDuration, parseListen } from './values.ts';

/**
 * Reads a command's options: command line first, then `REALPOD_…`, then the default. Throws UsageError with one line
 * that names the option and what it takes.
 */
export function readOptions(command: CommandSpec, argv: readonly string[], env: NodeJS.ProcessEnv): Options {
  let parsed: ReturnType<typeof parseArgs>;
  try {
    parsed = parseArgs({
      args: [...argv],
      strict: true,
      allowPositionals: (command.positionals?.length ?? 0) > 0,
      options: Object.fromEntries(
        command.options.map((spec) => [
          spec.name,
          { type: spec.kind === 'flag' ? 'boolean' : 'string', multiple: spec.repeatable === true },
        ]),
      ),
    });
  } catch (error) {
    const [message] = (error as Error).message.split(/\. |\n/, 1);
    throw new UsageError(`${message}; see realpod ${command.name} --help`);
  }
  const values: Values = {};
  for (const spec of command.options) {
    const given = parsed.values[spec.name] as Values[string];
    values[spec.name] = check(spec, given ?? fromEnvironment(spec, env) ?? fallback(spec));
  }
  return new Options(values, parsed.positionals);
}

function fallback(spec: OptionSpec): Values[string] {
  if (spec.kind === 'flag') return false;
  if (spec.fallback === undefined) return spec.repeatable ? [] : undefined;
  return spec.repeatable ? [spec.fallback] : spec.fallback;
}

export function environmentName(spec: OptionSpec): string {
  return `REALPOD_${spec.name.toUpperCase().replaceAll('-', '_')}`;
}

function fromEnvironment(spec: OptionSpec, env: NodeJS.ProcessEnv): Values[string] {
  const name = environmentName(spec);
  const text = env[name];
  if (text === undefined || text === '') return undefined;
  if (spec.kind === 'flag') {
    if (/^(1|true|yes|on)$/i.test(text)) return true;
    if (/^(0|false|no|off)$/i.test(text)) return false;
    throw new UsageError(`${name}: ${text} is neither true nor false`);
  }
  return spec.repeatable ? text.split(',').map((part) => part.trim()) : text;
}

function check(spec: OptionSpec, value: Values[string]): Values[string] {
  if (Array.isArray(value)) {
    for (const item of value) checkText(spec, item);
  } else if (typeof value === 'string') {
    checkText(spec, value);
  }
  return value;
}

function checkText(spec: OptionSpec, text: string): void {
  const wrong = (what: string): never => {
    throw new UsageError(`--${spec.name}: ${text === '' ? 'nothing given' : text} is not ${what}`);
  };
  const { kind } = spec;
  if (typeof kind === 'object') {
    const known = 'oneOf' in kind ? kind.oneOf : kind.someOf;
    const given = 'oneOf' in kind ? [text] : text.split(',');
    if (!given.every((item) => known.includes(item))) {
      wrong(`${'oneOf' in kind ? 'one of' : 'a comma-separated list of'} ${known.join(', ')}`);
    }
    return;
  }
  switch (kind) {
    case 'duration':
      if (parseDuration(text) === undefined) wrong('a duration such as 500ms, 2s or 1m');
      break;
    case 'bytes':
      if (parseBytes(text) === undefined) wrong('a whole number of at least 1, such as 1024 or 16Mi');
      break;
    case 'port-number':
      if (!/^\d{1,5}$/.test(text) || Number(text) > 65_535) wrong('a number from 0 to 65535');
      break;
    case 'listen':
      if (!parseListen(text)) wrong('an address and port such as :9797, 127.0.0.1:9797 or [::1]:9797');
      break;
    case 'header':
      if (!/^[A-Za-z0-9-]{1,64}$/.test(text)) wrong('the name of a header');
      break;
    case 'variable':
      if (!/^\$?[a-zA-Z0-9_]{1,64}$/.test(text)) wrong('the name of an nginx variable');
      break;
    case 'text':
      if (text === '') wrong('a value');
      break;
    case 'flag':
      break;
  }
}
