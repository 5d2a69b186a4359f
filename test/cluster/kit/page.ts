import { readFileSync } from 'node:fs';

export interface Query {
  /** The heading above it. */
  title: string;
  language: 'logsql' | 'promql';
  text: string;
}

/** The queries of a page of docs: fenced blocks in one of the two languages, each below a heading of its own. */
export function queriesOf(page: string | URL): Query[] {
  const found: Query[] = [];
  let title = '';
  let open: Query | undefined;
  for (const line of readFileSync(page, 'utf8').split('\n')) {
    const language = /^```(logsql|promql)$/.exec(line)?.[1] as Query['language'] | undefined;
    if (language) {
      open = { title, language, text: '' };
      found.push(open);
    } else if (line.startsWith('```')) open = undefined;
    else if (open) open.text += `${line}\n`;
    else title = /^#+ (.*)$/.exec(line)?.[1] ?? title;
  }
  return found;
}

/** Rows as a table of Markdown, with the columns in the order in which they are first seen. */
export function tableOf(rows: readonly Record<string, string>[], most = 10): string {
  if (rows.length === 0) return 'Nothing.\n';
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const lines = [columns, columns.map(() => '---')];
  for (const row of rows.slice(0, most)) lines.push(columns.map((column) => row[column] ?? ''));
  return `${lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n')}\n`;
}
