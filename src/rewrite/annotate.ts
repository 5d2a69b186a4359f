import type { Client } from '../model/client.ts';
import { isResolved, type Outcome, type PodName } from '../model/outcome.ts';
import { formatHostPort } from '../parse/address.ts';
import { type ClientMode, clientNote, replaceClient } from './client.ts';
import type { Edits } from './edits.ts';
import { addReplacements } from './replace.ts';
import type { LineEditor, LogLine } from './style.ts';

/**
 * As ReplaceStyle, and ` pod=NAMESPACE/NAME evidence=EVIDENCE` at the end of each line that was parsed.
 *
 * With several attempts both are lists in step with them, joined by `,`. Resolved without a name: the address, `ip:port`.
 * Not resolved: `-` for the pod, or its name where the address was the pod's own, and `-:REASON` for the evidence. So, after
 * one attempt that failed and one that answered: `pod=-,shop/cart-0 evidence=-:no-flow,request-id`
 *
 * Then, where `$remote_addr` is a node's address and `--client` is `annotate`, ` client=ADDRESS`: the real client. Not known:
 * `client=-:REASON`.
 */
export class AnnotateStyle implements LineEditor {
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
    if (typeof line.parsed === 'string' || outcomes === undefined) return;
    addReplacements(edits, line, outcomes);
    if (this.#clientMode === 'replace') replaceClient(edits, client);
    const noted = client && this.#clientMode === 'annotate' ? clientNote(client) : '';
    edits.add(line.end, line.end, note(outcomes) + noted);
  }
}

function note(outcomes: readonly Outcome[]): string {
  let pods = '';
  let evidence = '';
  for (let k = 0; k < outcomes.length; k++) {
    const outcome = outcomes[k]!;
    const comma = k === 0 ? '' : ',';
    if (isResolved(outcome)) {
      pods += comma + (podOf(outcome.name) ?? formatHostPort(outcome.ip, outcome.port));
      evidence += comma + outcome.evidence;
    } else {
      pods += comma + (podOf(outcome.name) ?? '-');
      evidence += `${comma}-:${outcome.reason}`;
    }
  }
  return ` pod=${pods} evidence=${evidence}`;
}

function podOf(name: PodName | undefined): string | undefined {
  // Kubernetes names are ASCII without spaces (RFC 1123); other text would break the line.
  if (!name || !NAME.test(name.pod) || !NAME.test(name.namespace)) return undefined;
  return `${name.namespace}/${name.pod}`;
}

const NAME = /^[A-Za-z0-9.-]+$/;
