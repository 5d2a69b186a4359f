import type { Client } from '../model/client.ts';
import type { AddressSpan, ParsedLine } from '../model/line.ts';
import { isResolved, type Outcome } from '../model/outcome.ts';
import { formatHostPort } from '../parse/address.ts';
import { type ClientMode, replaceClient } from './client.ts';
import type { Edits } from './edits.ts';
import type { LineEditor, LogLine } from './style.ts';

/** The same bytes but for the resolved addresses. */
export class ReplaceStyle implements LineEditor {
  readonly #clientMode: ClientMode;

  constructor(clientMode: ClientMode = 'off') {
    this.#clientMode = clientMode;
  }

  edit(
    edits: Edits,
    line: LogLine,
    outcomes: readonly Outcome[] | undefined,
    _block: Buffer,
    client: Client | undefined,
  ): void {
    addReplacements(edits, line, outcomes);
    if (this.#clientMode === 'replace') replaceClient(edits, client);
  }
}

/** Replaces each resolved address in every `$upstream_addr` of the line. */
export function addReplacements(edits: Edits, line: LogLine, outcomes: readonly Outcome[] | undefined): void {
  const { parsed } = line;
  if (typeof parsed === 'string' || outcomes === undefined) return;
  const { attempts, copies } = parsed;
  replaceAt(edits, parsed, attempts, outcomes);
  if (copies === undefined) return;
  for (let i = 0; i < copies.length; i++) replaceAt(edits, parsed, copies[i]!, outcomes);
}

function replaceAt(
  edits: Edits,
  { attempts }: ParsedLine,
  spans: readonly AddressSpan[],
  outcomes: readonly Outcome[],
): void {
  for (let k = 0; k < attempts.length; k++) {
    const outcome = outcomes[k];
    if (outcome === undefined || !isResolved(outcome) || attempts[k]!.kind !== 'ip') continue;
    const { start, end } = spans[k]!;
    edits.add(start, end, addressText(outcome.ip, outcome.port));
  }
}

/** The last text of each address, as many lines name few pods. Emptied at the limit. */
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
