import { isResolved, type Outcome } from '../model/outcome.ts';
import { formatHostPort } from '../parse/address.ts';
import { Edits } from './edits.ts';
import type { LogLine, Style } from './style.ts';

/** The same bytes; only the addresses that were resolved differ. */
export class ReplaceStyle implements Style {
  readonly #edits = new Edits();

  render(
    block: Buffer,
    lines: readonly LogLine[],
    outcomes: readonly (readonly Outcome[] | undefined)[],
  ): Buffer[] {
    if (lines.length === 0) return [];
    this.#edits.clear();
    for (let i = 0; i < lines.length; i++) addReplacements(this.#edits, lines[i]!, outcomes[i]);
    return [this.#edits.apply(block, lines[0]!.start, endOfRun(block, lines))];
  }
}

/** Edits that put the address found in the place of each one that was resolved. */
export function addReplacements(edits: Edits, line: LogLine, outcomes: readonly Outcome[] | undefined): void {
  const { parsed } = line;
  if (typeof parsed === 'string' || outcomes === undefined) return;
  const { attempts } = parsed;
  for (let k = 0; k < attempts.length; k++) {
    const outcome = outcomes[k];
    const attempt = attempts[k]!;
    if (outcome === undefined || !isResolved(outcome) || attempt.kind !== 'ip') continue;
    edits.add(attempt.start, attempt.end, addressText(outcome.ip, outcome.port));
  }
}

/** Where the run of lines ends in `block`: behind the last one's newline, if it has one. */
export function endOfRun(block: Buffer, lines: readonly LogLine[]): number {
  return Math.min(lines[lines.length - 1]!.end + 1, block.length);
}

/** The text made last for each address, as many lines name few pods. Emptied when full. */
const MAX_TEXTS = 4096;
const texts = new Map<string, { port: number; text: string }>();

function addressText(ip: string, port: number): string {
  const known = texts.get(ip);
  if (known?.port === port) return known.text;
  if (texts.size >= MAX_TEXTS) texts.clear();
  const text = formatHostPort(ip, port);
  texts.set(ip, { port, text });
  return text;
}
