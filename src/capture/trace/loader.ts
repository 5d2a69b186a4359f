/** The program that reads nginx's memory (bpf/loader.c), as a child process: commands to it, lines from it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { CaptureError } from '../error.ts';
import type { ProbePlaces } from './nginx-binary.ts';
import type { Place } from './processes.ts';

/** `npm run build:trace` makes it; the helper's image has it. */
const PROGRAM = fileURLToPath(new URL('../../../bpf/realpod-trace', import.meta.url));
/** Time limits for its first word and for an answer (ms). Beyond, it is ended and started again. */
const READY_MS = 10_000;
const ANSWER_MS = 10_000;
/** Bytes of one line of it; a longer one is none of it. */
const MAX_TEXT = 64 * 1024;

/** What it counted since its start. */
export interface LoaderCounts {
  /** Lines that did not fit into the ring, or could not be read. */
  lost: number;
  /** Attempts that contradicted an earlier one, as where the end of a request was not seen. */
  contradicted: number;
  /** Readings of nginx's memory that did not look as expected. */
  unexpected: number;
  lines: number;
}

export interface LoaderParts {
  /** Each line that begins with `line `. */
  onLine(text: string): void;
  /** It has ended; one line says why. Nothing comes after it. */
  onEnd(why: string): void;
}

export interface Loader {
  /** Lines of nginx with this address in this network namespace are reported, or not any more. */
  watch(change: 'add' | 'remove', place: Place): void;
  /** Resolves with undefined when the probes are in place, or with the reason why not. */
  attach(id: number, places: ProbePlaces, path: string): Promise<string | undefined>;
  detach(id: number): void;
  /** Resolves when every line that was written before this call has been passed on; undefined: it has ended. */
  sync(): Promise<LoaderCounts | undefined>;
  close(): void;
}

/** Rejects with `CaptureError` where the program is missing, or the kernel or its rights do not allow it. */
export async function startLoader(parts: LoaderParts, program = PROGRAM): Promise<Loader> {
  if (!existsSync(program))
    throw new CaptureError(
      'trace-missing',
      `the source trace needs ${program}; make it with: npm run build:trace`,
    );
  const child = spawn(program, [], { stdio: ['pipe', 'pipe', 'pipe'], env: {} });
  const running = new RunningLoader(child, parts);
  await running.ready;
  return running;
}

class RunningLoader implements Loader {
  readonly ready: Promise<void>;
  readonly #child: ChildProcess;
  readonly #parts: LoaderParts;
  readonly #answers = new Map<string, (rest: string | undefined) => void>();
  #syncs = 0;
  #rest = '';
  #said = '';
  #ended = false;
  #isReady = false;

  constructor(child: ChildProcess, parts: LoaderParts) {
    this.#child = child;
    this.#parts = parts;
    this.ready = this.#answer('ready', READY_MS).then((answer) => {
      if (answer === undefined)
        throw new CaptureError(
          'trace',
          `the source trace cannot start: ${this.#said.trim() || 'it does not answer'}`,
        );
      this.#isReady = true;
    });
    child.stdout!.setEncoding('latin1').on('data', (text: string) => this.#read(text));
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.#said = (this.#said + text).slice(-1024);
    });
    // Its end is told by 'close'.
    child.stdin!.on('error', () => {});
    child.on('error', (error) => {
      this.#said = error.message;
      this.#end('it cannot be started');
    });
    child.on('close', (code, signal) => this.#end(`it ended with ${signal ?? `code ${code}`}`));
  }

  watch(change: 'add' | 'remove', { namespace, address }: Place): void {
    this.#send(`${change} ${namespace} ${address}`);
  }

  async attach(
    id: number,
    { chain, free, writes, buffered }: ProbePlaces,
    path: string,
  ): Promise<string | undefined> {
    const answer = this.#answer(`attached ${id}`, ANSWER_MS);
    const failure = this.#answer(`failed ${id}`, ANSWER_MS);
    const { logged, module } = buffered ?? { logged: 0, module: 0 };
    this.#send(`attach ${id} ${chain} ${free} ${logged} ${module} ${writes.join()} ${path}`);
    const result = await Promise.race([
      answer.then((rest) => (rest === undefined ? 'it does not answer' : undefined)),
      failure.then((rest) => rest ?? 'it does not answer'),
    ]);
    this.#answers.get(`attached ${id}`)?.('');
    this.#answers.get(`failed ${id}`)?.('');
    return result;
  }

  detach(id: number): void {
    this.#send(`detach ${id}`);
  }

  async sync(): Promise<LoaderCounts | undefined> {
    if (this.#ended) return undefined;
    const number = ++this.#syncs;
    const answer = this.#answer(`synced ${number}`, ANSWER_MS);
    this.#send(`sync ${number}`);
    const rest = await answer;
    if (rest === undefined) {
      this.#child.kill('SIGKILL');
      return undefined;
    }
    const [lost = 0, contradicted = 0, , unexpected = 0, lines = 0] = rest.split(' ').map(Number);
    return { lost, contradicted, unexpected, lines };
  }

  close(): void {
    this.#ended = true;
    this.#child.stdin!.end();
    this.#child.kill('SIGTERM');
  }

  #send(command: string): void {
    if (!this.#ended) this.#child.stdin!.write(`${command}\n`);
  }

  /** Resolves with the rest of the line that begins with `text`; undefined at its end, or after `ms`. */
  #answer(text: string, ms: number): Promise<string | undefined> {
    return new Promise((resolve) => {
      // Where this process was held up, the answer may be there: it is read before this goes on.
      const timer = setTimeout(() => setImmediate(() => done(undefined)), ms);
      const done = (rest: string | undefined): void => {
        clearTimeout(timer);
        this.#answers.delete(text);
        resolve(rest);
      };
      this.#answers.set(text, done);
    });
  }

  #read(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop()!;
    if (this.#rest.length > MAX_TEXT) this.#child.kill('SIGKILL');
    for (const line of lines) {
      if (line.startsWith('line ')) {
        this.#parts.onLine(line);
        continue;
      }
      const [word, number, ...rest] = line.split(' ');
      this.#answers.get(number === undefined ? word! : `${word} ${number}`)?.(rest.join(' '));
    }
  }

  #end(why: string): void {
    const wasReady = this.#isReady && !this.#ended;
    this.#ended = true;
    for (const answer of [...this.#answers.values()]) answer(undefined);
    if (wasReady) this.#parts.onEnd(this.#said.trim() === '' ? why : `${why}: ${this.#said.trim()}`);
  }
}
