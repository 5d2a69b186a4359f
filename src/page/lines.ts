import type { ShownLine } from '../http/sidecar/recent.ts';
import { search } from './api.ts';
import { LineDetail } from './detail.ts';
import { byId, element, setText } from './dom.ts';
import { clockTime, milliseconds, podLabel } from './format.ts';

const MAX_ROWS = 300;
/** Lines that the page requests when the list starts or restarts. */
const BEGIN_WITH = 100;
const TYPING_MS = 250;

/** The live list: newest first, at most MAX_ROWS. */
export class LineList {
  readonly #body = document.querySelector<HTMLElement>('#line-table tbody')!;
  readonly #filter = byId<HTMLFormElement>('filter');
  readonly #pause = byId('pause');
  readonly #note = byId('lines-note');
  readonly #detail = new LineDetail((port) => this.onPort(port));
  #source: EventSource | undefined;
  #incoming: ShownLine[] = [];
  #held = 0;
  #skipped = 0;
  #paused = false;
  #frame = 0;
  #typing = 0;
  /** Called to look up a source port. */
  onPort: (port: number, time?: string) => void = () => {};

  constructor() {
    this.#filter.addEventListener('input', () => {
      clearTimeout(this.#typing);
      this.#typing = window.setTimeout(() => this.start(), TYPING_MS);
    });
    this.#filter.addEventListener('submit', (event) => {
      event.preventDefault();
      this.start();
    });
    // The browser clears the fields after this event.
    this.#filter.addEventListener('reset', () => setTimeout(() => this.start()));
    this.#pause.addEventListener('click', () => this.#setPaused(!this.#paused));
    this.#restore();
  }

  /** Shows the lines of one pod. */
  showPod(pod: string): void {
    (this.#filter.elements.namedItem('pod') as HTMLInputElement).value = pod;
    this.start();
    byId('lines').scrollIntoView({ block: 'start' });
    byId('lines').focus({ preventScroll: true });
  }

  /** Restarts with the present filter. An invalid filter has no effect. */
  start(): void {
    if (!this.#filter.reportValidity()) return;
    const wanted = Object.fromEntries(
      [...new FormData(this.#filter)].map(([name, value]) => [name, String(value).trim()]),
    );
    history.replaceState(null, '', `#${search(wanted)}`);
    this.#source?.close();
    this.#clear();
    const source = new EventSource(`lines/stream?${search({ last: String(BEGIN_WITH), ...wanted })}`);
    this.#source = source;
    // After a reconnect the stream starts with the latest lines again.
    source.addEventListener('open', () => this.#clear());
    source.addEventListener('message', ({ data }: MessageEvent<string>) => {
      this.#incoming.push(JSON.parse(data) as ShownLine);
      this.#schedule();
    });
    source.addEventListener('skipped', (event) => {
      this.#skipped += (JSON.parse((event as MessageEvent<string>).data) as { lines: number }).lines;
      this.#schedule();
    });
  }

  #clear(): void {
    this.#incoming = [];
    this.#held = 0;
    this.#skipped = 0;
    this.#body.replaceChildren();
    byId('no-lines').hidden = false;
    this.#say();
  }

  #setPaused(paused: boolean): void {
    this.#paused = paused;
    this.#pause.setAttribute('aria-pressed', String(paused));
    setText(this.#pause, paused ? 'Go on' : 'Pause');
    this.#schedule();
  }

  #schedule(): void {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#render();
    });
  }

  #render(): void {
    if (this.#incoming.length > MAX_ROWS) this.#incoming = this.#incoming.slice(-MAX_ROWS);
    if (this.#paused) {
      this.#held = this.#incoming.length;
    } else {
      const rows = this.#incoming.map((line) => this.#row(line)).reverse();
      this.#incoming = [];
      this.#held = 0;
      this.#body.prepend(...rows);
      while (this.#body.childElementCount > MAX_ROWS) this.#body.lastElementChild!.remove();
      byId('no-lines').hidden = this.#body.childElementCount > 0;
    }
    this.#say();
  }

  #say(): void {
    const parts = [];
    if (this.#held > 0) parts.push(this.#held < MAX_ROWS ? `${this.#held} new` : `${MAX_ROWS} or more new`);
    if (this.#skipped > 0) parts.push(`${this.#skipped.toLocaleString()} not shown: too many at a time`);
    setText(this.#note, parts.join(' · '));
  }

  #row(line: ShownLine): HTMLElement {
    const { time, status, method, path } = line;
    const when = time ? clockTime(time) : '–';
    const attempt = line.attempts.at(-1);
    const button = element('button', { type: 'button', class: 'link', title: 'How it was matched' }, when);
    const row: HTMLElement = element(
      'tr',
      {
        onclick: () => {
          this.#body.querySelector('.chosen')?.classList.remove('chosen');
          row.classList.add('chosen');
          this.#detail.show(line, button);
        },
      },
      element('td', {}, button),
      element('td', { class: status ? `s${Math.floor(status / 100)}` : '' }, status ? String(status) : '–'),
      element('td', { class: 'request' }, path === undefined ? line.line : `${method ?? ''} ${path}`),
      podCell(line),
      element(
        'td',
        { class: attempt?.evidence ? 'quiet' : 'unresolved' },
        attempt?.evidence ?? attempt?.reason ?? line.unparsed ?? '',
      ),
      element('td', { class: 'number' }, milliseconds(attempt?.responseMs ?? line.requestMs)),
    );
    return row;
  }

  #restore(): void {
    for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
      const field = this.#filter.elements.namedItem(name);
      if (field instanceof HTMLInputElement) field.value = value;
    }
  }
}

function podCell({ attempts }: ShownLine): HTMLElement {
  const last = attempts.at(-1);
  if (!last) return element('td', { class: 'quiet' }, '–');
  const text = last.ip ? podLabel(last) : last.upstream;
  const before = attempts.length > 1 ? `${attempts.length - 1} tried before, ` : '';
  return element('td', { title: before + (last.ip ? `${last.upstream} → ${last.ip}` : last.upstream) }, text);
}
