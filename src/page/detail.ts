import type { ShownAttempt, ShownLine } from '../http/sidecar/recent.ts';
import { byId, element } from './dom.ts';
import { EVIDENCE, REASON, UNPARSED } from './explain.ts';
import { address, milliseconds, podLabel } from './format.ts';

/** One line beside the list: its attempts and their evidence. The focus moves there and, on closing, back. */
export class LineDetail {
  readonly #node = byId('detail');
  readonly #onPort: (port: number) => void;
  #from: HTMLElement | undefined;

  constructor(onPort: (port: number) => void) {
    this.#onPort = onPort;
    this.#node.addEventListener('keydown', (event) => {
      if (event.key === 'Escape') this.#close();
    });
  }

  /** `from`: the chosen element of the list. */
  show(line: ShownLine, from: HTMLElement): void {
    this.#from = from;
    const heading = element('h3', {}, 'How it was matched');
    heading.tabIndex = -1;
    const close = element('button', { type: 'button', label: 'Close', onclick: () => this.#close() }, '×');
    this.#node.replaceChildren(
      element('div', { class: 'top' }, heading, close),
      ...lineParts(line, this.#onPort),
    );
    this.#node.hidden = false;
    heading.focus();
  }

  #close(): void {
    this.#node.hidden = true;
    // The list may have dropped the line meanwhile.
    (this.#from?.isConnected ? this.#from : byId('lines')).focus();
  }
}

/** A line's attempts and its text before and after. */
export function lineParts(line: ShownLine, onPort: (port: number) => void): HTMLElement[] {
  const attempts =
    line.attempts.length === 0
      ? element(
          'p',
          {},
          line.unparsed
            ? (UNPARSED[line.unparsed] ?? line.unparsed)
            : 'nginx sent no request to an upstream.',
        )
      : element('ol', {}, ...line.attempts.map((attempt) => attemptItem(attempt, onPort)));
  const parts: HTMLElement[] = [
    attempts,
    element('h4', {}, 'As nginx wrote it'),
    element('pre', {}, line.line),
  ];
  if (line.enriched !== line.line) {
    parts.push(element('h4', {}, 'With the real pod'), marked(line));
  }
  return parts;
}

function attemptItem(attempt: ShownAttempt, onPort: (port: number) => void): HTMLElement {
  const { upstream, ip, port, pod, namespace, node, evidence, reason, src, sport, status, responseMs } =
    attempt;
  const result = [
    status === undefined ? '' : `status ${status}`,
    responseMs === undefined ? '' : `${milliseconds(responseMs)} ms`,
  ].filter(Boolean);
  const item = element('li', {}, element('code', {}, upstream));
  if (ip !== undefined && port !== undefined) {
    const where = [pod ? address(ip, port) : '', namespace, node].filter(Boolean).join(' · ');
    item.append(' → ', element('b', {}, podLabel(attempt)), element('span', { class: 'where' }, where));
  }
  if (result.length > 0) item.append(element('p', { class: 'quiet' }, result.join(', ')));
  if (evidence) item.append(element('p', {}, element('b', {}, evidence), `. ${EVIDENCE[evidence] ?? ''}`));
  if (reason) {
    item.append(element('p', { class: 'unresolved' }, element('b', {}, reason), `. ${REASON[reason] ?? ''}`));
  }
  if (src !== undefined && sport !== undefined) {
    item.append(
      element(
        'p',
        {},
        'Connection from ',
        element('code', {}, address(src, sport)),
        ' ',
        element(
          'button',
          { type: 'button', class: 'link', onclick: () => onPort(sport) },
          element('u', {}, 'look it up'),
        ),
      ),
    );
  }
  return item;
}

/** The enriched line, with its changes marked. */
function marked({ enriched, attempts }: ShownLine): HTMLElement {
  const pre = element('pre');
  let rest = enriched;
  for (const { ip, port } of attempts) {
    if (ip === undefined || port === undefined) continue;
    const text = address(ip, port);
    const at = rest.indexOf(text);
    if (at < 0) continue;
    pre.append(rest.slice(0, at), element('mark', {}, text));
    rest = rest.slice(at + text.length);
  }
  pre.append(rest);
  return pre;
}
