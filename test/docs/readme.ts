/**
 * The tables of README.md that are made from the code, between `<!-- generated: NAME -->` and `<!-- end -->`.
 * `npm run docs` writes them; a test fails while they differ.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { COMMANDS } from '../../src/options/commands.ts';
import type { OptionSpec } from '../../src/options/option.ts';

export const README = fileURLToPath(new URL('../../README.md', import.meta.url));

const cell = (text: string): string => text.replaceAll('|', '\\|');

function row(spec: OptionSpec): string {
  const value =
    spec.value ?? (typeof spec.kind === 'object' && 'oneOf' in spec.kind ? spec.kind.oneOf.join('|') : '');
  const fallback = spec.fallback === undefined ? '' : `\`${cell(spec.fallback)}\``;
  // The article's format is too long for a table.
  const shown = spec.name === 'log-format' ? "the article's, see `--help`" : fallback;
  return `| \`--${spec.name}${value === '' ? '' : ` ${cell(value)}`}\` | ${shown} | ${cell(spec.meaning)}${spec.repeatable ? '; repeatable' : ''} |`;
}

function options(): string {
  return COMMANDS.map(({ name, summary, options: specs, positionals }) => {
    const own = specs.filter((spec) => !spec.meaning.endsWith('(embedded helper)'));
    const note =
      own.length < specs.length
        ? '\nWith `--helper embedded` also the options of `helper` from `--sources` on.\n'
        : '';
    const head = `**\`realpod ${[name, ...(positionals ?? [])].join(' ')}\`**: ${summary}\n`;
    return `${head}\n| option | default | meaning |\n| --- | --- | --- |\n${own.map(row).join('\n')}\n${note}`;
  }).join('\n');
}

const TABLES: Record<string, () => string> = { options };

/** The text with every generated part made anew. */
export function regenerate(text: string): string {
  return text.replace(
    /(<!-- generated: ([a-z-]+) -->\n)[\s\S]*?(<!-- end -->)/g,
    (_, head: string, name: string, tail: string) => {
      const table = TABLES[name];
      if (!table) throw new Error(`README.md asks for a table that nobody makes: ${name}`);
      return `${head}${table()}${tail}`;
    },
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  writeFileSync(README, regenerate(readFileSync(README, 'utf8')));
