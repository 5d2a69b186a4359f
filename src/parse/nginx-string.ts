/** Escapes in words of nginx's configuration (ngx_conf_read_token, src/core/ngx_conf_file.c). */

const ESCAPED: Readonly<Record<string, string>> = {
  '"': '"',
  "'": "'",
  '\\': '\\',
  t: '\t',
  r: '\r',
  n: '\n',
};

/**
 * The word that nginx reads where `raw` is written, quotes around it left out. nginx keeps a backslash before any other
 * character, as regular expressions rely on it.
 */
export function unescapeNginxString(raw: string): string {
  let out = '';
  let from = 0;
  for (let at = raw.indexOf('\\'); at >= 0 && at + 1 < raw.length; at = raw.indexOf('\\', from)) {
    const escaped = ESCAPED[raw[at + 1]!];
    out += raw.slice(from, at) + (escaped ?? raw.slice(at, at + 2));
    from = at + 2;
  }
  return out + raw.slice(from);
}

/** Where the quote at `start` is closed, or -1. A quote behind a backslash closes nothing. */
export function closingQuote(text: string, start: number): number {
  const quote = text[start]!;
  for (let at = start + 1; at < text.length; at++) {
    if (text[at] === '\\') at++;
    else if (text[at] === quote) return at;
  }
  return -1;
}
