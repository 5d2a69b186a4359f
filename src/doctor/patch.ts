/** Changes to text files. Each line has its number in the original, so that the diff is exact. */

/** Replaces `remove` characters at `at` by `insert` inside one line; with `wholeLine` adds a line before that at `at`. */
export interface Edit {
  path: string;
  at: number;
  remove: number;
  insert: string;
  wholeLine: boolean;
}

interface Line {
  text: string;
  /** 0-based line of the original file; undefined for an added one. */
  origin: number | undefined;
  /** Text of that line before any change. */
  before: string;
}

/** One changed place: the removed and the added text at a line (1-based) of the original. */
export interface Change {
  path: string;
  line: number;
  removed: string | undefined;
  added: string;
}

const CONTEXT = 3;

export class PatchedFile {
  readonly path: string;
  readonly #lines: Line[];
  readonly #endsWithNewline: boolean;

  constructor(path: string, text: string) {
    this.path = path;
    this.#endsWithNewline = text.endsWith('\n');
    const body = this.#endsWithNewline ? text.slice(0, -1) : text;
    this.#lines = body.split('\n').map((line, origin) => ({ text: line, origin, before: line }));
  }

  /** A file that contains lines of other files, each with an indentation before it. */
  static around(
    path: string,
    text: string,
    parts: readonly { file: PatchedFile; firstLine: number; lines: number; indent: string }[],
  ): PatchedFile {
    const whole = new PatchedFile(path, text);
    for (const { file, firstLine, lines, indent } of [...parts].sort((a, b) => b.firstLine - a.firstLine)) {
      const before = whole.#lines.slice(firstLine, firstLine + lines);
      const now = file.#lines.map((line): Line => {
        if (line.origin === undefined) return { ...line, text: indent + line.text };
        const old = before[line.origin] ?? line;
        const text = line.text === line.before ? old.before : indent + line.text;
        return { text, origin: firstLine + line.origin, before: old.before };
      });
      whole.#lines.splice(firstLine, lines, ...now);
    }
    return whole;
  }

  get text(): string {
    return this.#lines.map((l) => l.text).join('\n') + (this.#endsWithNewline ? '\n' : '');
  }

  /** Edits with offsets into the present `text`. If two replace the same characters, the first one is used. */
  apply(edits: readonly Edit[]): void {
    const seen = new Set<string>();
    const unique = edits.filter((e) => {
      const key = e.remove > 0 ? `${e.at}` : `${e.at} ${e.insert}`;
      return !seen.has(key) && seen.add(key);
    });
    const ordered = unique.map((edit, i) => ({ edit, i })).sort((a, b) => b.edit.at - a.edit.at || b.i - a.i);
    for (const { edit } of ordered) this.#applyOne(edit);
  }

  #applyOne(edit: Edit): void {
    let start = 0;
    let index = 0;
    while (index < this.#lines.length - 1 && start + this.#lines[index]!.text.length < edit.at) {
      start += this.#lines[index]!.text.length + 1;
      index++;
    }
    const line = this.#lines[index]!;
    if (edit.wholeLine) {
      const text = line.text.endsWith('\r') ? `${edit.insert}\r` : edit.insert;
      this.#lines.splice(index, 0, { text, origin: undefined, before: '' });
      return;
    }
    const column = edit.at - start;
    line.text = line.text.slice(0, column) + edit.insert + line.text.slice(column + edit.remove);
  }

  changes(): Change[] {
    let origin = 0;
    const changes: Change[] = [];
    for (const line of this.#lines) {
      if (line.origin === undefined) {
        changes.push({ path: this.path, line: origin + 1, removed: undefined, added: line.text });
      } else {
        if (line.text !== line.before) {
          changes.push({ path: this.path, line: line.origin + 1, removed: line.before, added: line.text });
        }
        origin = line.origin + 1;
      }
    }
    return changes;
  }

  /** Unified diff with three lines of context; empty when nothing changed. */
  diff(): string {
    const marks: { mark: ' ' | '-' | '+'; text: string; last: boolean }[] = [];
    for (const [i, line] of this.#lines.entries()) {
      const last = i === this.#lines.length - 1 && !this.#endsWithNewline;
      if (line.origin === undefined) marks.push({ mark: '+', text: line.text, last });
      else if (line.text === line.before) marks.push({ mark: ' ', text: line.text, last });
      else marks.push({ mark: '-', text: line.before, last }, { mark: '+', text: line.text, last });
    }
    const near = marks.map((_, i) =>
      marks.slice(Math.max(0, i - CONTEXT), i + CONTEXT + 1).some((m) => m.mark !== ' '),
    );
    let out = '';
    let oldLine = 1;
    let newLine = 1;
    for (let i = 0; i < marks.length; ) {
      if (!near[i]) {
        oldLine++;
        newLine++;
        i++;
        continue;
      }
      let body = '';
      let removed = 0;
      let added = 0;
      for (; near[i]; i++) {
        const { mark, text, last } = marks[i]!;
        body += `${mark}${text}\n${last ? '\\ No newline at end of file\n' : ''}`;
        if (mark !== '+') removed++;
        if (mark !== '-') added++;
      }
      out += `@@ -${oldLine},${removed} +${newLine},${added} @@\n${body}`;
      oldLine += removed;
      newLine += added;
    }
    const name = this.path.replace(/^\/+/, '');
    return out && `--- ${name}\n+++ ${name}\n${out}`;
  }
}
