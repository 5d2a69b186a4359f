/**
 * The tables of the documentation that are made from the code, between `<!-- generated: NAME -->` and `<!-- end -->`.
 * `npm run docs` writes them; a test fails while they differ.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { COMMANDS } from '../../src/config/commands.ts';
import { optionGroups } from '../../src/config/help.ts';
import { type Option, optionName } from '../../src/config/option.ts';
import {
  ATTRIBUTES,
  type AttributeType,
  OWN_ATTRIBUTES,
  SPLIT_ATTRIBUTES,
} from '../../src/rewrite/attributes.ts';
import { CONVENTIONS_VERSION, stabilityOf } from './conventions.ts';
import { layout } from './layout.ts';

const ROOT = new URL('../../', import.meta.url);
export const README = fileURLToPath(new URL('README.md', ROOT));
/** Every file that has such tables. */
export const GENERATED = [
  fileURLToPath(new URL('k8s/collect/FIELDS.md', ROOT)),
  fileURLToPath(new URL('docs/design.md', ROOT)),
  fileURLToPath(new URL('docs/options.md', ROOT)),
];

const cell = (text: string): string => text.replaceAll('|', '\\|');

function row([key, { value, fallback, meaning, repeatable }]: [string, Option<unknown>]): string {
  // A format is too long for a table.
  const shown =
    key === 'logFormat'
      ? '`combined` with `$upstream_addr`, see `--help`'
      : fallback === undefined
        ? ''
        : `\`${cell(fallback)}\``;
  return `| \`${optionName(key)}${value === '' ? '' : ` ${cell(value)}`}\` | ${shown} | ${cell(meaning)}${repeatable ? '; repeatable' : ''} |`;
}

function options(): string {
  return COMMANDS.map((command) => {
    const [own, embedded] = optionGroups(command);
    const first = embedded[0]?.[0];
    const note =
      first === undefined
        ? ''
        : `\nWith \`--helper embedded\` also the options of \`helper\` from \`${optionName(first)}\` to \`${optionName(embedded.at(-1)![0])}\`.\n`;
    const name = [command.name, command.argument].filter(Boolean).join(' ');
    const exits = command.exits === undefined ? '' : `\nExit code ${command.exits}.\n`;
    const head = `## \`realpod ${name}\`\n\n${command.summary}\n${exits}`;
    return `${head}\n| option | default | meaning |\n| --- | --- | --- |\n${own.map(row).join('\n')}\n${note}`;
  }).join('\n');
}

/** How stable a name of the conventions is, or that it is realpod's own. */
const standing = (name: string): string => stabilityOf(name) ?? 'own';

const TYPES: Record<AttributeType, string> = { string: 'text', number: 'number', strings: 'list of texts' };

/** The fields of `--style json`: what each variable becomes, then those that come from none. */
function fields(): string {
  const fixed = Object.entries(ATTRIBUTES).map(([variable, { name, type }]) => ({ variable, name, type }));
  const split = Object.entries(SPLIT_ATTRIBUTES).flatMap(([variable, names]) =>
    names.map((name) => ({ variable, name, type: 'string' as const })),
  );
  const rest = [
    { variable: 'http_NAME', name: 'http.request.header.NAME', type: 'strings' as const },
    { variable: 'sent_http_NAME', name: 'http.response.header.NAME', type: 'strings' as const },
    { variable: 'NAME', name: 'nginx.NAME', type: 'string' as const },
  ];
  const sorted = [...fixed, ...split].sort((a, b) => (a.variable < b.variable ? -1 : 1));
  const rows = [...sorted, ...rest].map(
    ({ variable, name, type }) => `| \`$${variable}\` | \`${name}\` | ${TYPES[type]} | ${standing(name)} |`,
  );
  const own = Object.entries(OWN_ATTRIBUTES).map(
    ([name, meaning]) => `| \`${name}\` | ${meaning} | ${standing(name)} |`,
  );
  return `Names are compared with version ${CONVENTIONS_VERSION} of the conventions.

| variable | field | type | in the conventions |
| --- | --- | --- | --- |
${rows.join('\n')}

| field from no variable | is | in the conventions |
| --- | --- | --- |
${own.join('\n')}
`;
}

const TABLES: Record<string, () => string> = { options, fields, layout };

/** The text with every generated part made anew. */
export function regenerate(text: string): string {
  return text.replace(
    /(<!-- generated: ([a-z-]+) -->\n)[\s\S]*?(<!-- end -->)/g,
    (_, head: string, name: string, tail: string) => {
      const table = TABLES[name];
      if (!table) throw new Error(`a table is asked for that nobody makes: ${name}`);
      return `${head}${table()}${tail}`;
    },
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  for (const path of GENERATED) writeFileSync(path, regenerate(readFileSync(path, 'utf8')));
