/**
 * nginx configuration text → tree, by the rules of nginx's parser (`ngx_conf_read_token` and `ngx_conf_parse` in
 * src/core/ngx_conf_file.c). Every token has its place in the text, so that a change can be written as a patch.
 *
 * Directives are not checked against a list: `nginx -t` checks what nginx's modules accept.
 */
import { closingQuote, unescapeNginxString } from '../parse/nginx-string.ts';
import { endOfLua } from './lua-block.ts';

/** One configuration file. `text` has one character for each byte (latin1), so that a patch is exact byte for byte. */
export interface SourceFile {
  path: string;
  text: string;
}

export interface Token {
  /** Without quotes and escapes. */
  text: string;
  /** Span in the file, quotes included. */
  start: number;
  end: number;
  quote: '' | '"' | "'";
}

export interface Directive {
  name: string;
  args: readonly Token[];
  file: SourceFile;
  /** From the first character of the name to after the `;` or `}`. */
  start: number;
  end: number;
  /** Offset after the `{`, for a directive with a block. */
  open?: number;
  children?: readonly Directive[];
  /** For `include`: the directives of the files, or null if they were not read. */
  included?: readonly Directive[] | null;
}

/** nginx would not accept the text, or input is missing. The message is one line for people. */
export class ConfError extends Error {}

const MAX_BLOCK_DEPTH = 100;
const lineStarts = new WeakMap<SourceFile, readonly number[]>();

function startsOf(file: SourceFile): readonly number[] {
  let starts = lineStarts.get(file);
  if (!starts) {
    const found = [0];
    for (let i = file.text.indexOf('\n'); i >= 0; i = file.text.indexOf('\n', i + 1)) found.push(i + 1);
    starts = found;
    lineStarts.set(file, starts);
  }
  return starts;
}

/** `path:line` of an offset; lines count from 1. */
export function placeOf(file: SourceFile, offset: number): string {
  const starts = startsOf(file);
  let low = 0;
  let high = starts.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (starts[middle]! <= offset) low = middle + 1;
    else high = middle;
  }
  return `${file.path}:${low}`;
}

function isSpace(c: string | undefined): boolean {
  return c === ' ' || c === '\t' || c === '\r' || c === '\n';
}

type Lexeme = Token | ';' | '{' | '}' | 'end';

class Lexer {
  readonly #file: SourceFile;
  pos = 0;

  constructor(file: SourceFile) {
    this.#file = file;
  }

  fail(message: string, offset: number): ConfError {
    return new ConfError(`${placeOf(this.#file, offset)}: ${message}`);
  }

  next(): Lexeme {
    const text = this.#file.text;
    for (;;) {
      while (isSpace(text[this.pos])) this.pos++;
      if (text[this.pos] !== '#') break;
      const eol = text.indexOf('\n', this.pos);
      this.pos = eol < 0 ? text.length : eol + 1;
    }
    const c = text[this.pos];
    if (c === undefined) return 'end';
    if (c === ';' || c === '{' || c === '}') {
      this.pos++;
      return c;
    }
    return c === '"' || c === "'" ? this.#quoted(c) : this.#bare();
  }

  #quoted(quote: '"' | "'"): Token {
    const text = this.#file.text;
    const start = this.pos;
    const i = closingQuote(text, start);
    if (i < 0) throw this.fail(`a string that begins here with ${quote} never ends`, start);
    const after = text[i + 1];
    if (after !== undefined && !isSpace(after) && after !== ';' && after !== '{' && after !== ')') {
      throw this.fail(`unexpected "${after}" right after a quoted string`, i + 1);
    }
    this.pos = i + 1;
    return { text: unescapeNginxString(text.slice(start + 1, i)), start, end: i + 1, quote };
  }

  /** `}`, `#` and quotes have no special meaning inside a bare word; `${` does not open a block. */
  #bare(): Token {
    const text = this.#file.text;
    const start = this.pos;
    let i = start;
    let dollar = false;
    while (i < text.length) {
      const c = text[i];
      if (isSpace(c) || c === ';' || (c === '{' && !dollar)) break;
      dollar = c === '$';
      i += c === '\\' ? 2 : 1;
    }
    const end = Math.min(i, text.length);
    this.pos = end;
    return { text: unescapeNginxString(text.slice(start, end)), start, end, quote: '' };
  }
}

/**
 * @throws ConfError naming file and line
 */
export function parseConf(file: SourceFile): Directive[] {
  const lexer = new Lexer(file);
  const root: Directive[] = [];
  const open: { words: Token[]; after: number; children: Directive[] }[] = [];
  let siblings = root;
  let words: Token[] = [];

  for (;;) {
    const lexeme = lexer.next();
    if (typeof lexeme === 'object') {
      words.push(lexeme);
    } else if (lexeme === 'end') {
      if (words.length > 0)
        throw lexer.fail('the file ends inside a directive: ";" or "}" is missing', words[0]!.start);
      const block = open.pop();
      if (block)
        throw lexer.fail(
          `the block "${block.words[0]!.text}" is never closed: "}" is missing`,
          block.after - 1,
        );
      return root;
    } else if (lexeme === ';') {
      if (words.length === 0) throw lexer.fail('unexpected ";"', lexer.pos - 1);
      siblings.push({ ...directive(words), file, end: lexer.pos });
      words = [];
    } else if (lexeme === '{') {
      if (words.length === 0) throw lexer.fail('unexpected "{"', lexer.pos - 1);
      if (open.length >= MAX_BLOCK_DEPTH)
        throw lexer.fail(`blocks are nested more than ${MAX_BLOCK_DEPTH} deep`, lexer.pos - 1);
      const after = lexer.pos;
      if (words[0]!.text.endsWith('_by_lua_block')) {
        const end = endOfLua(file.text, after);
        if (end < 0) throw lexer.fail(`the Lua block "${words[0]!.text}" is never closed`, after - 1);
        lexer.pos = end + 1;
        siblings.push({ ...directive(words), file, end: lexer.pos, open: after, children: [] });
      } else {
        const children: Directive[] = [];
        open.push({ words, after, children: siblings });
        siblings = children;
      }
      words = [];
    } else {
      const block = open.pop();
      if (words.length > 0) throw lexer.fail('unexpected "}": is a ";" missing before it?', lexer.pos - 1);
      if (!block) throw lexer.fail('unexpected "}": no block is open', lexer.pos - 1);
      block.children.push({
        ...directive(block.words),
        file,
        end: lexer.pos,
        open: block.after,
        children: siblings,
      });
      siblings = block.children;
    }
  }
}

function directive(words: readonly Token[]): Pick<Directive, 'name' | 'args' | 'start'> {
  return { name: words[0]!.text, args: words.slice(1), start: words[0]!.start };
}
