import { isResolved, type Outcome, type Resolved } from '../model/outcome.ts';
import { formatHostPort } from '../parse/address.ts';
import { Edits } from './edits.ts';
import { addReplacements, endOfRun } from './replace.ts';
import type { LogLine, Style } from './style.ts';

/**
 * As ReplaceStyle, and ` pod=NAMESPACE/NAME evidence=EVIDENCE` at the end of each line that was parsed.
 *
 * With several attempts both are lists in step with them, joined by `,`. The name is not known: the address, `ip:port`.
 * Not resolved: `-` for the pod, and `-:REASON` for the evidence. So, after one attempt that failed and one that answered:
 * `pod=-,shop/cart-0 evidence=-:no-flow,request-id`
 */
export class AnnotateStyle implements Style {
  readonly #edits = new Edits();

  render(
    block: Buffer,
    lines: readonly LogLine[],
    outcomes: readonly (readonly Outcome[] | undefined)[],
  ): Buffer[] {
    if (lines.length === 0) return [];
    this.#edits.clear();
    for (let i = 0; i < lines.length; i++) {
      const line = lines[i]!;
      const found = outcomes[i];
      if (typeof line.parsed === 'string' || found === undefined) continue;
      addReplacements(this.#edits, line, found);
      this.#edits.add(line.end, line.end, note(found));
    }
    return [this.#edits.apply(block, lines[0]!.start, endOfRun(block, lines))];
  }
}

function note(outcomes: readonly Outcome[]): string {
  let pods = '';
  let evidence = '';
  for (let k = 0; k < outcomes.length; k++) {
    const outcome = outcomes[k]!;
    const comma = k === 0 ? '' : ',';
    if (isResolved(outcome)) {
      pods += comma + podOf(outcome);
      evidence += comma + outcome.evidence;
    } else {
      pods += `${comma}-`;
      evidence += `${comma}-:${outcome.reason}`;
    }
  }
  return ` pod=${pods} evidence=${evidence}`;
}

function podOf({ ip, port, name }: Resolved): string {
  // Names of Kubernetes are ASCII without spaces (RFC 1123); anything else would break the line.
  if (!name || !NAME.test(name.pod) || !NAME.test(name.namespace)) return formatHostPort(ip, port);
  return `${name.namespace}/${name.pod}`;
}

const NAME = /^[A-Za-z0-9.-]+$/;
