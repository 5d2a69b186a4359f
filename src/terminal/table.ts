/** What a terminal can show. */
export interface Look {
  color: boolean;
  /** Aligned with headings for people; else one record a line, separated by tabs, for programs. */
  pretty: boolean;
}

export type Color = 'red' | 'yellow' | 'green' | 'cyan' | 'dim' | 'bold';

const CODES: Readonly<Record<Color, number>> = { red: 31, yellow: 33, green: 32, cyan: 36, dim: 2, bold: 1 };

/** NO_COLOR as on https://no-color.org: any value but the empty one. */
export function lookOf(stream: { isTTY?: boolean }, env: NodeJS.ProcessEnv): Look {
  const pretty = stream.isTTY === true;
  return { pretty, color: pretty && !env.NO_COLOR && env.TERM !== 'dumb' };
}

export function paint(text: string, color: Color | undefined, look: Look): string {
  return color === undefined || !look.color ? text : `\x1b[${CODES[color]}m${text}\x1b[0m`;
}

/** What a terminal would take for a command is shown as `\xHH`: the text comes from strangers. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return text.replace(/[\x00-\x1f\x7f-\x9f]/g, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`);
}

/** Rows under a heading. */
export function table(head: readonly string[], rows: readonly (readonly string[])[], look: Look): string {
  const clean = rows.map((row) => row.map(printable));
  if (!look.pretty) return clean.map((row) => `${row.join('\t')}\n`).join('');
  const widths = head.map((name, c) => Math.max(name.length, ...clean.map((row) => row[c]!.length)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, c) => cell.padEnd(widths[c]!))
      .join('  ')
      .trimEnd();
  return `${paint(line(head), 'dim', look)}\n${clean.map((row) => `${line(row)}\n`).join('')}`;
}
