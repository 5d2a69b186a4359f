import type { LookupMatch } from '../http/sidecar/lookup.ts';
import type { ShownLine } from '../http/sidecar/recent.ts';
import { get, SidecarError, search } from './api.ts';
import { lineParts } from './detail.ts';
import { byId, element } from './dom.ts';
import { address, dateTime, podLabel } from './format.ts';

/** The two forms that request `/lookup`. */
export class Lookup {
  readonly #byPort = byId<HTMLFormElement>('by-port');
  readonly #answer = byId('answer');

  constructor() {
    for (const form of [this.#byPort, byId<HTMLFormElement>('by-id')]) {
      form.addEventListener('submit', (event) => {
        event.preventDefault();
        void this.#ask(form);
      });
    }
  }

  /** Looks up a source port in the form of the page. */
  port(port: number): void {
    this.#byPort.reset();
    (this.#byPort.elements.namedItem('port') as HTMLInputElement).value = String(port);
    void this.#ask(this.#byPort);
    byId('lookup').scrollIntoView({ block: 'nearest' });
  }

  async #ask(form: HTMLFormElement): Promise<void> {
    const asked = Object.fromEntries(
      [...new FormData(form)].map(([name, value]) => [name, String(value).trim()]),
    );
    try {
      const answer = await get<{ matches: LookupMatch[] } | ShownLine>(`lookup?${search(asked)}`);
      this.#answer.replaceChildren(
        ...('matches' in answer ? [table(answer.matches)] : lineParts(answer, (port) => this.port(port))),
      );
    } catch (error) {
      const next = error instanceof SidecarError ? error.next : 'check that realpod is running';
      const message = error instanceof SidecarError ? error.message : 'nobody answers';
      this.#answer.replaceChildren(
        element(
          'p',
          { class: 'refusal' },
          element('b', {}, message),
          element('span', { class: 'where' }, next),
        ),
      );
    }
  }
}

function table(matches: readonly LookupMatch[]): HTMLElement {
  const head = ['Pod', 'Address', 'Node', 'Dialled', 'From', 'Opened', 'Closed', 'Seen by'];
  return element(
    'table',
    {},
    element('caption', { class: 'hidden' }, 'Connections from that port'),
    element('thead', {}, element('tr', {}, ...head.map((name) => element('th', { scope: 'col' }, name)))),
    element(
      'tbody',
      {},
      ...matches.map((match) => {
        const { ip, port, namespace, node, vip, vport, src, sport, from, to, via } = match;
        const cells = [
          address(ip, port),
          node || '–',
          vip === undefined ? '–' : address(vip, vport ?? 0),
          address(src, sport),
          from === null ? 'before the record began' : dateTime(from),
          to === null ? 'open' : dateTime(to),
          via,
        ];
        return element(
          'tr',
          {},
          element(
            'th',
            { scope: 'row' },
            podLabel(match),
            element('span', { class: 'where' }, namespace ?? ''),
          ),
          ...cells.map((text) => element('td', {}, text)),
        );
      }),
    ),
  );
}
