import { hexDigit } from './address.ts';
import type { Escaping } from './format-text.ts';

/** One-letter escapes of ngx_escape_json (src/core/ngx_string.c). */
const JSON_LETTERS: Readonly<Record<string, string>> = {
  '"': '"',
  '\\': '\\',
  n: '\n',
  r: '\r',
  t: '\t',
  b: '\b',
  f: '\f',
};

/**
 * The bytes of a logged value as they were before nginx escaped them, one character a byte (latin1).
 *
 * `default`: `\xHH` for `"`, `\` and all that is not printable ASCII (ngx_http_log_escape). `json`: the letters above and
 * `\u00HH` for other control characters; bytes from 0x80 on stand as they were. `none`: nothing is escaped.
 * A backslash that begins no such escape is left as it stands.
 */
export function unescapeValue(text: string, escaping: Escaping): string {
  let at = escaping === 'none' ? -1 : text.indexOf('\\');
  if (at < 0) return text;
  let plain = '';
  let copied = 0;
  while (at >= 0) {
    let char: string | undefined;
    let length = 2;
    const letter = text[at + 1] ?? '';
    if (escaping === 'default' && letter === 'x') {
      length = 4;
      char = hexChar(text, at + 2);
    } else if (escaping === 'json' && letter === 'u') {
      length = 6;
      char = text.startsWith('00', at + 2) ? hexChar(text, at + 4) : undefined;
    } else if (escaping === 'json') char = JSON_LETTERS[letter];
    if (char === undefined) length = 1;
    else {
      plain += text.slice(copied, at) + char;
      copied = at + length;
    }
    at = text.indexOf('\\', at + length);
  }
  return plain + text.slice(copied);
}

/** The character of the two hexadecimal digits at `at`. */
function hexChar(text: string, at: number): string | undefined {
  if (at + 2 > text.length) return undefined;
  const high = hexDigit(text.charCodeAt(at));
  const low = hexDigit(text.charCodeAt(at + 1));
  return high < 0 || low < 0 ? undefined : String.fromCharCode(high * 16 + low);
}
