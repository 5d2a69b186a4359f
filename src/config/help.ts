import { COMMANDS } from './commands.ts';
import type { CommandSpec, OptionKind } from './option.ts';

export function helpText(command: CommandSpec | undefined): string {
  if (!command) {
    const rows = COMMANDS.map(({ name, summary }) => `  ${name.padEnd(10)} ${summary}`);
    return `realpod: the pod that really answered, in nginx's access log\n\nusage: realpod COMMAND [OPTIONS]\n\n${rows.join('\n')}\n\nrealpod COMMAND --help lists a command's options. Each is also REALPOD_OPTION_NAME; the command line wins.\n`;
  }
  const rows = command.options.map((spec) => {
    const head = `  --${spec.name}${spec.value ? ` ${spec.value}` : valueHint(spec.kind)}`;
    const tail = `${spec.repeatable ? '; repeatable' : ''}${spec.fallback === undefined ? '' : ` [${spec.fallback}]`}`;
    return `${head.padEnd(32)} ${spec.meaning}${tail}`;
  });
  const positionals = (command.positionals ?? []).map((name) => ` ${name}`).join('');
  return `realpod ${command.name}: ${command.summary}\n\nusage: realpod ${command.name}${positionals} [OPTIONS]\n\n${rows.join('\n')}\n\nEach option is also REALPOD_OPTION_NAME; the command line wins.\n`;
}

function valueHint(kind: OptionKind): string {
  return typeof kind === 'object' && 'oneOf' in kind ? ` ${kind.oneOf.join('|')}` : '';
}
