/**
 * The text of nginx's `log_format`, as an operator pastes it → literals and variables in order.
 *
 * Understood: the whole directive (`log_format main escape=json '…' '…';`), its quoted pieces alone, the bare string,
 * each with or without `escape=…`, and `combined`. Quoting follows ngx_conf_read_token (src/core/ngx_conf_file.c),
 * variables ngx_http_log_compile_format (src/http/modules/ngx_http_log_module.c).
 */

import { closingQuote, unescapeNginxString } from './nginx-string.ts';

/** How nginx writes the bytes of a value that could be taken for something else. */
export type Escaping = 'default' | 'json' | 'none';

export type FormatPiece = { readonly literal: string } | { readonly variable: string };

export interface FormatText {
  readonly escaping: Escaping;
  readonly pieces: readonly FormatPiece[];
}

/** The format cannot be used. `message` is one line for the operator: what is wrong, and what to do. */
export class LogFormatError extends Error {
  override readonly name = 'LogFormatError';
}

/** nginx's built-in format, which needs no `log_format`. */
export const COMBINED =
  '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"';

/** Throws LogFormatError. */
export function readFormatText(text: string): FormatText {
  const trimmed = text.trim();
  if (trimmed === '')
    throw new LogFormatError('the log format is empty; paste the text of nginx’s log_format');
  if (trimmed === 'combined') return { escaping: 'default', pieces: piecesOf(COMBINED) };
  if (/^log_format\s/.test(trimmed)) return readDirective(trimmed);
  let escaping: Escaping = 'default';
  let rest = trimmed;
  const option = /^escape=(\S*)\s+/.exec(trimmed);
  if (option) {
    escaping = escapeOf(option[1]!);
    rest = trimmed.slice(option[0].length);
  }
  // A bare format may itself begin with a double quote; only one with \" in it can be nginx's own quoting.
  const quoted = rest.startsWith("'") || (rest.startsWith('"') && rest.includes('\\"'));
  return { escaping, pieces: piecesOf(quoted ? tokens(rest).join('') : rest) };
}

function readDirective(text: string): FormatText {
  const words = tokens(text).slice(2);
  let escaping: Escaping = 'default';
  if (words[0]?.startsWith('escape=')) {
    escaping = escapeOf(words[0].slice('escape='.length));
    words.shift();
  }
  if (words.length === 0) {
    throw new LogFormatError("log_format has no text; expected: log_format NAME '$remote_addr …';");
  }
  return { escaping, pieces: piecesOf(words.join('')) };
}

function escapeOf(word: string): Escaping {
  if (word === 'default' || word === 'json' || word === 'none') return word;
  throw new LogFormatError(`unknown escape=${word} in the log format; nginx knows default, json and none`);
}

/** The words of one directive, up to its `;` or the end of the text. */
function tokens(text: string): string[] {
  const words: string[] = [];
  let at = 0;
  while (at < text.length) {
    const char = text[at]!;
    if (/\s/.test(char)) at++;
    else if (char === ';') {
      const rest = text.slice(at + 1).trim();
      if (rest !== '' && !rest.startsWith('#')) {
        throw new LogFormatError(
          `the log format goes on after its “;”: ${shorten(rest)}; give one format only`,
        );
      }
      return words;
    } else if (char === '#') at = endOf(text, '\n', at);
    else if (char === "'" || char === '"') {
      const [word, next] = quotedToken(text, at);
      words.push(word);
      at = next;
    } else {
      const end = at + /^[^\s;]*/.exec(text.slice(at))![0].length;
      words.push(unescapeNginxString(text.slice(at, end)));
      at = end;
    }
  }
  return words;
}

function quotedToken(text: string, start: number): [word: string, next: number] {
  const quote = text[start]!;
  const end = closingQuote(text, start);
  if (end < 0) {
    throw new LogFormatError(
      `the log format has an opening ${quote} without its closing one; check its quotes`,
    );
  }
  const after = text[end + 1];
  if (after !== undefined && !/[\s;]/.test(after)) {
    throw new LogFormatError(
      `the log format has “${after}” right after a closing ${quote}; check its quotes`,
    );
  }
  return [unescapeNginxString(text.slice(start + 1, end)), end + 1];
}

function piecesOf(text: string): FormatPiece[] {
  const pieces: FormatPiece[] = [];
  let literal = '';
  let at = 0;
  while (at < text.length) {
    if (text[at] !== '$') {
      const next = endOf(text, '$', at);
      literal += text.slice(at, next);
      at = next;
      continue;
    }
    const match = /^\$(?:\{(\w+)\}|(\w+))/.exec(text.slice(at, at + 256));
    if (!match) {
      throw new LogFormatError(
        `“${shorten(text.slice(at))}” in the log format is no variable; nginx writes $name or \${name}`,
      );
    }
    if (literal !== '') pieces.push({ literal });
    literal = '';
    pieces.push({ variable: (match[1] ?? match[2])!.toLowerCase() });
    at += match[0].length;
  }
  if (literal !== '') pieces.push({ literal });
  for (const piece of pieces) {
    if ('literal' in piece && piece.literal.includes('\n')) {
      throw new LogFormatError('the log format has a line break inside; realpod reads one record a line');
    }
  }
  return pieces;
}

function endOf(text: string, char: string, from: number): number {
  const at = text.indexOf(char, from);
  return at < 0 ? text.length : at;
}

function shorten(text: string): string {
  const line = text.split('\n', 1)[0]!;
  return line.length > 40 ? `${line.slice(0, 40)}…` : line;
}
