import assert from 'node:assert/strict';
import { Writable } from 'node:stream';
import { test } from 'node:test';
import { COMMAND } from '../../src/config/commands.ts';
import { UsageError } from '../../src/config/option.ts';
import { readOptions } from '../../src/config/read.ts';
import type { ShownLine } from '../../src/http/sidecar/recent.ts';
import { serverEvents } from '../../src/terminal/event-stream.ts';
import { runLookup } from '../../src/terminal/lookup.ts';
import { SidecarError } from '../../src/terminal/sidecar-client.ts';
import { type Look, lookOf, table } from '../../src/terminal/table.ts';
import { render, runTail } from '../../src/terminal/tail.ts';
import { PODS, servedDemo } from './serve-app.ts';

const PIPE: Look = { pretty: false, color: false };
const COLORED: Look = { pretty: true, color: true };
// biome-ignore lint/suspicious/noControlCharactersInRegex: what colours a terminal
const COLOR = /\x1b\[\d+m/g;

class Sink extends Writable {
  text = '';
  onText: () => void = () => {};
  override _write(chunk: Buffer, _: string, done: () => void): void {
    this.text += chunk.toString();
    this.onText();
    done();
  }
}

const args = (values: Record<string, string>): string[] =>
  Object.entries(values).flatMap(([name, value]) => [`--${name}`, value]);
const lookupOptions = (values: Record<string, string>, ...port: string[]) =>
  readOptions(COMMAND.lookup, [...args(values), ...port], {});
const tailOptions = (values: Record<string, string>) => readOptions(COMMAND.tail, args(values), {});

async function withSidecar(
  work: (sidecar: string, served: ReturnType<typeof servedDemo>) => Promise<void>,
): Promise<void> {
  const served = servedDemo();
  const port = await served.server.listen('127.0.0.1', 0);
  try {
    await work(`http://127.0.0.1:${port}`, served);
  } finally {
    await served.server.close();
  }
}

test('a port is answered in columns for people and in tabs for programs', () =>
  withSidecar(async (sidecar, { app }) => {
    const [line] = (await app.inject({ url: '/lines?limit=1' })).json().lines as [ShownLine];
    const { sport, ip, port, pod } = line.attempts[0]!;
    const [pipe, terminal] = [new Sink(), new Sink()];
    assert.equal(await runLookup(lookupOptions({ sidecar }, String(sport)), pipe, PIPE), 0);
    assert.equal(await runLookup(lookupOptions({ sidecar }, String(sport)), terminal, COLORED), 0);
    const cells = pipe.text.trimEnd().split('\t');
    assert.equal(cells.length, 8);
    assert.deepEqual([cells[0], cells[3]], [pod, `${ip}:${port}`]);
    const [head, row] = terminal.text.replace(COLOR, '').split('\n') as [string, string];
    assert.equal(head.indexOf('ADDRESS'), row.indexOf(ip!));
    assert.match(terminal.text, COLOR);
  }));

test('a bad port, a refusal and a sidecar that is away are each one line that says what to do', () =>
  withSidecar(async (sidecar) => {
    for (const port of ['0', '65536', 'x']) {
      await assert.rejects(runLookup(lookupOptions({ sidecar }, port), new Sink(), PIPE), UsageError);
    }
    await assert.rejects(runLookup(lookupOptions({ sidecar }), new Sink(), PIPE), /give a source port/);
    assert.throws(() => lookupOptions({ sidecar: 'nowhere' }, '80'), UsageError);
    await assert.rejects(
      runLookup(lookupOptions({ sidecar, time: 'noon' }, '80'), new Sink(), PIPE),
      (error) => error instanceof SidecarError && /time: noon/.test(error.message),
    );
    await assert.rejects(
      runLookup(lookupOptions({ sidecar: 'http://127.0.0.1:1' }, '80'), new Sink(), PIPE),
      (error) => error instanceof SidecarError && /--sidecar URL/.test(error.message),
    );
  }));

test('tail in a pipe gives the enriched lines of the pod that was asked for, and nothing else', () =>
  withSidecar(async (sidecar, { app }) => {
    const pod = [...PODS.values()][0]!;
    const { lines } = (await app.inject({ url: `/lines?limit=5&pod=${pod}` })).json() as {
      lines: ShownLine[];
    };
    const wanted = lines
      .reverse()
      .map(({ enriched }) => `${enriched}\n`)
      .join('');
    const ending = new AbortController();
    const out = new Sink();
    out.onText = () => {
      if (out.text.length >= wanted.length) ending.abort();
    };
    const said: string[] = [];
    const asked = tailOptions({ sidecar, pod, last: '5' });
    assert.equal(await runTail(asked, out, PIPE, (text) => said.push(text), ending.signal), 0);
    assert.equal(out.text, wanted);
    assert.deepEqual(said, []);
  }));

test('tail ends with an error where no sidecar answers at the beginning, or it refuses', () =>
  withSidecar(async (sidecar) => {
    const { signal } = new AbortController();
    const away = tailOptions({ sidecar: 'http://127.0.0.1:1' });
    await assert.rejects(
      runTail(away, new Sink(), PIPE, () => {}, signal),
      SidecarError,
    );
    const wrong = tailOptions({ sidecar, status: '9xx' });
    await assert.rejects(
      runTail(wrong, new Sink(), PIPE, () => {}, signal),
      /status/,
    );
  }));

test('a line in a terminal has its columns in place, and no control character of a stranger', async () => {
  const { app } = servedDemo();
  const { lines } = (await app.inject({ url: '/lines?limit=50' })).json() as { lines: ShownLine[] };
  const shown = lines.map((line) => render(line, COLORED).replace(COLOR, ''));
  const places = new Set(shown.map((text) => text.indexOf('request-id')));
  assert.equal(places.size, 1);
  const evil = { ...lines[0]!, path: '/\x1b]0;owned\x07\x9b31m' };
  assert.ok(render(evil, COLORED).includes('/\\x1b]0;owned\\x07\\x9b31m'));
  assert.equal(table(['A'], [['\x1b[2J']], PIPE), '\\x1b[2J\n');
});

test('colour is for terminals only, and NO_COLOR turns it off', () => {
  assert.deepEqual(lookOf({ isTTY: true }, {}), { pretty: true, color: true });
  assert.deepEqual(lookOf({ isTTY: true }, { NO_COLOR: '1' }), { pretty: true, color: false });
  assert.deepEqual(lookOf({}, {}), { pretty: false, color: false });
});

test('server-sent events come out whole, whatever the chunks', async () => {
  const text = 'retry: 2000\n\n:\n\ndata: {"a":"é😀"}\n\nevent: skipped\ndata: {"lines":3}\n\ndata: 2\n\n';
  const bytes = new TextEncoder().encode(text);
  for (let size = 1; size <= bytes.length; size++) {
    const chunks = (async function* () {
      for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
    })();
    const events = [];
    for await (const event of serverEvents(chunks)) events.push(event);
    assert.deepEqual(events, [
      { name: '', data: '{"a":"é😀"}' },
      { name: 'skipped', data: '{"lines":3}' },
      { name: '', data: '2' },
    ]);
  }
});

test('an event that the stream ends in is dropped; a stream that breaks or has no line end rejects', async () => {
  const read = async (chunks: AsyncIterable<Uint8Array>): Promise<string[]> => {
    const data: string[] = [];
    for await (const event of serverEvents(chunks)) data.push(event.data);
    return data;
  };
  async function* of(...texts: string[]): AsyncGenerator<Uint8Array> {
    for (const text of texts) yield Buffer.from(text);
  }
  assert.deepEqual(await read(of('data: 1\n\ndata: 2\n')), ['1']);
  async function* broken(): AsyncGenerator<Uint8Array> {
    yield Buffer.from('data: 1\n\n');
    throw new Error('reset by peer');
  }
  await assert.rejects(read(broken()), /reset by peer/);
  await assert.rejects(read(of(`data: ${'x'.repeat(5 * 1024 * 1024)}`)), /maximum buffer/);
});

test('a reader of events that stops early ends the stream', async () => {
  let ended = false;
  async function* endless(): AsyncGenerator<Uint8Array> {
    try {
      for (;;) yield Buffer.from('data: 1\n\n');
    } finally {
      ended = true;
    }
  }
  for await (const _ of serverEvents(endless())) break;
  await new Promise(setImmediate);
  assert.ok(ended);
});
