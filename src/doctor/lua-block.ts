/**
 * Finds the end of a Lua body. `*_by_lua_block { … }` contains Lua, whose braces, quotes and `#` have no meaning in nginx.
 * Lexical rules: Lua 5.1 reference manual §2.1 (strings, long brackets, comments).
 */

/** Level of the long bracket `[==[` at `at` (0 for `[[`), or -1 without one. */
function longBracket(text: string, at: number): number {
  if (text[at] !== '[') return -1;
  let end = at + 1;
  while (text[end] === '=') end++;
  return text[end] === '[' ? end - at - 1 : -1;
}

/** Offset after the long bracket of `level` that begins at `at`; -1 if it does not end. */
function afterLongBracket(text: string, at: number, level: number): number {
  const close = `]${'='.repeat(level)}]`;
  const found = text.indexOf(close, at + level + 2);
  return found < 0 ? -1 : found + close.length;
}

function afterString(text: string, at: number): number {
  const quote = text[at];
  for (let i = at + 1; i < text.length; i++) {
    if (text[i] === '\\') i++;
    else if (text[i] === quote) return i + 1;
  }
  return -1;
}

/**
 * @param start offset after the opening brace
 * @returns offset of the brace that closes the block, or -1 if the text ends first
 */
export function endOfLua(text: string, start: number): number {
  let depth = 1;
  let i = start;
  while (i >= 0 && i < text.length) {
    const c = text[i];
    const level = longBracket(text, i);
    if (level >= 0) {
      i = afterLongBracket(text, i, level);
    } else if (c === '"' || c === "'") {
      i = afterString(text, i);
    } else if (c === '-' && text[i + 1] === '-') {
      const commentLevel = longBracket(text, i + 2);
      if (commentLevel >= 0) {
        i = afterLongBracket(text, i + 2, commentLevel);
      } else {
        const eol = text.indexOf('\n', i);
        i = eol < 0 ? -1 : eol + 1;
      }
    } else {
      if (c === '{') depth++;
      if (c === '}' && --depth === 0) return i;
      i++;
    }
  }
  return -1;
}
