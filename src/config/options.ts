import { UsageError } from './option.ts';
import { parseBytes, parseDuration, parseListen } from './values.ts';

export type Values = Record<string, string | string[] | boolean | undefined>;

/** Checked values of one command's options. The getters throw only for names that the command does not have. */
export class Options {
  readonly #values: Values;
  readonly positionals: readonly string[];

  constructor(values: Values, positionals: readonly string[] = []) {
    this.#values = values;
    this.positionals = positionals;
  }

  optional(name: string): string | undefined {
    const value = this.#get(name);
    return typeof value === 'string' ? value : undefined;
  }

  text(name: string): string {
    const value = this.optional(name);
    if (value === undefined) throw new UsageError(`--${name} is needed`);
    return value;
  }

  list(name: string): string[] {
    const value = this.#get(name);
    if (Array.isArray(value)) return value;
    return typeof value === 'string' ? value.split(',') : [];
  }

  flag(name: string): boolean {
    return this.#get(name) === true;
  }

  /** Milliseconds. */
  duration(name: string): number {
    return parseDuration(this.text(name))!;
  }

  bytes(name: string): number {
    return parseBytes(this.text(name))!;
  }

  number(name: string): number {
    return Number(this.text(name));
  }

  listen(name: string): { host: string; port: number } {
    return parseListen(this.text(name))!;
  }

  #get(name: string): Values[string] {
    if (!(name in this.#values)) throw new Error(`no option --${name}`);
    return this.#values[name];
  }
}
