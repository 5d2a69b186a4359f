import { COMMANDS } from './commands.ts';
import { type Command, type Option, optionName } from './option.ts';

const ENVIRONMENT = 'is also a variable: --some-option is REALPOD_SOME_OPTION; the command line wins.';

export function helpText(command: Command | undefined): string {
  if (!command) {
    const rows = COMMANDS.map(({ name, summary }) => `  ${name.padEnd(10)} ${summary}`);
    return `realpod: the pod that really answered, in nginx's access log\n\nusage: realpod COMMAND [OPTIONS]\n\n${rows.join('\n')}\n\nrealpod COMMAND --help lists a command's options; realpod --version prints the version. Each option\n${ENVIRONMENT}\n`;
  }
  const [own, embedded] = optionGroups(command);
  const more = embedded.length === 0 ? '' : `\n\nwith --helper embedded also:\n\n${rowsOf(embedded)}`;
  const exits = command.exits === undefined ? '' : `\n\nexit code ${command.exits}`;
  const argument = command.argument === undefined ? '' : ` ${command.argument}`;
  return `realpod ${command.name}: ${command.summary}\n\nusage: realpod ${command.name}${argument} [OPTIONS]\n\n${rowsOf(own)}${more}${exits}\n\nEach option ${ENVIRONMENT}\n`;
}

type Row = [key: string, option: Option<unknown>];

/** The command's own options, and those that count with `--helper embedded` only. */
export function optionGroups({ options, embedded = [] }: Command): [own: Row[], embedded: Row[]] {
  const rows = Object.entries(options);
  return [rows.filter(([key]) => !embedded.includes(key)), rows.filter(([key]) => embedded.includes(key))];
}

function rowsOf(rows: readonly Row[]): string {
  return rows
    .map(([key, { value, fallback, repeatable, meaning }]) => {
      const head = `  ${optionName(key)}${value === '' ? '' : ` ${value}`}`;
      const tail = `${repeatable ? '; repeatable' : ''}${fallback === undefined ? '' : ` [${fallback}]`}`;
      return `${head.padEnd(32)} ${meaning}${tail}`;
    })
    .join('\n');
}
