/**
 * Long runs of the sidecar over a log that a writer of our own keeps writing, as root, after a build:
 * `npm run test:long -- exactly-once|backlog|reclaim|hour`. Each prints its figures and fails when its promise is broken.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  fstatSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const CLI = fileURLToPath(new URL('../../dist/cli.js', import.meta.url));
const FORMAT =
  '$remote_addr - $remote_user [$time_local] "$request" $status $upstream_addr $body_bytes_sent "$http_referer" "$http_user_agent" "$http_x_forwarded_for" "$request_id" $msec $request_time';
const AGENT = 'Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0';

/** Lines like nginx's, about 290 bytes, each with its number. */
function lines(first: number, count: number): Buffer {
  const now = Date.now();
  const parts: string[] = [];
  for (let n = first; n < first + count; n++) {
    parts.push(
      `10.244.0.9 - - [23/Nov/2026:04:49:30 +0000] "GET /catalog/article/${n}?page=${n % 97} HTTP/1.1" 200 10.105.148.195:80 ${n % 65_536} "-" "${AGENT}" "-" "${n.toString(16).padStart(32, '0')}" ${(now / 1000).toFixed(3)} 0.00${n % 10}\n`,
    );
  }
  return Buffer.from(parts.join(''));
}

class Children {
  readonly #running = new Set<ChildProcess>();

  start(args: string[]): ChildProcess {
    const child = spawn(process.execPath, [CLI, ...args], { stdio: ['ignore', 'inherit', 'pipe'] });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      for (const line of text.split('\n')) if (/ ERROR |^\s+at /.test(line)) console.log(`  ${line}`);
    });
    this.#running.add(child);
    child.once('exit', () => this.#running.delete(child));
    return child;
  }

  async end(child: ChildProcess, signal: NodeJS.Signals): Promise<number | null> {
    if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
    const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
    child.kill(signal);
    return ended;
  }

  async endAll(): Promise<void> {
    for (const child of [...this.#running]) await this.end(child, 'SIGKILL');
  }
}

interface Place {
  dir: string;
  log: string;
  output: string;
  children: Children;
  startHelper(): ChildProcess;
  startSidecar(...more: string[]): ChildProcess;
}

/** Memory that the process has and had at most, MB. */
function memory(child: ChildProcess): { now: number; peak: number } {
  const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
  const read = (name: string): number =>
    Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1] ?? 0) / 1024;
  return { now: read('VmRSS'), peak: read('VmHWM') };
}

async function until(what: string, seconds: number, condition: () => boolean): Promise<void> {
  for (let i = 0; i < seconds * 20; i++) {
    if (condition()) return;
    await delay(50);
  }
  throw new Error(`${what}: not within ${seconds} s`);
}

const sizeOf = (path: string): number => (existsSync(path) ? statSync(path).size : 0);

/** Compares the output with the input files one after another, byte for byte. */
function sameBytes(inputs: readonly string[], output: string): string | undefined {
  const out = openSync(output, 'r');
  const a = Buffer.alloc(1 << 20);
  const b = Buffer.alloc(1 << 20);
  let at = 0;
  try {
    for (const input of inputs) {
      const fd = openSync(input, 'r');
      try {
        for (let n = readSync(fd, a); n > 0; n = readSync(fd, a)) {
          const m = readSync(out, b, 0, n, at);
          if (m !== n || a.compare(b, 0, n, 0, n) !== 0) return `differs within the MiB at ${at} (${input})`;
          at += n;
        }
      } finally {
        closeSync(fd);
      }
    }
    return fstatSync(out).size === at ? undefined : `output has ${fstatSync(out).size} bytes, input ${at}`;
  } finally {
    closeSync(out);
  }
}

/** Writes at a rate in steps of 10 ms, as a steady nginx would; `each` is called after every step. */
async function write(
  plan: { rate: number; total: number; each?: (written: number, ms: number) => Promise<void> | void },
  file: { fd: number },
): Promise<void> {
  const begun = performance.now();
  for (let written = 0; written < plan.total; ) {
    const ms = performance.now() - begun;
    const due = Math.min(plan.total, Math.floor((ms / 1000) * plan.rate)) - written;
    if (due > 0) {
      const bytes = lines(written, due);
      for (let at = 0; at < bytes.length; ) at += writeSync(file.fd, bytes, at);
      written += due;
    }
    await plan.each?.(written, ms);
    await delay(10);
  }
}

async function exactlyOnce(place: Place): Promise<void> {
  const { log, output, children, dir } = place;
  const file = { fd: openSync(log, 'a') };
  let sidecar = place.startSidecar();
  let helper = place.startHelper();
  const done = { rotations: 0, kills: 0, restarts: 0 };
  const rotated: string[] = [];
  await write(
    {
      rate: 20_000,
      total: 1_000_000,
      async each(_written, ms) {
        if (ms > (done.rotations + 1) * 3_000) {
          const name = join(dir, `access.log.${++done.rotations}`);
          renameSync(log, name);
          rotated.push(name);
          const old = file.fd;
          file.fd = openSync(log, 'a');
          closeSync(old);
        }
        if (ms > (done.kills + 1) * 10_000) {
          done.kills++;
          await children.end(sidecar, 'SIGKILL');
          sidecar = place.startSidecar();
        }
        if (ms > (done.restarts + 1) * 15_000) {
          done.restarts++;
          await children.end(helper, 'SIGKILL');
          helper = place.startHelper();
        }
      },
    },
    file,
  );
  closeSync(file.fd);
  const inputs = [...rotated, log];
  const bytes = inputs.reduce((sum, path) => sum + statSync(path).size, 0);
  await until('the last line', 60, () => sizeOf(output) >= bytes);
  const code = await children.end(sidecar, 'SIGTERM');
  const difference = sameBytes(inputs, output);
  console.log(
    `exactly once: 1,000,000 lines, ${bytes} bytes, ${done.rotations} rotations, ${done.kills} kill -9, ${done.restarts} helper restarts: ${difference ?? 'output equals input, byte for byte'}; exit ${code}`,
  );
  if (difference || code !== 0) throw new Error('the promise is broken');
}

async function backlog(place: Place): Promise<void> {
  const { log, output, children } = place;
  const fd = openSync(log, 'a');
  let n = 0;
  for (let size = 0; size < 2 * 1024 ** 3; ) {
    const bytes = lines(n, 20_000);
    n += 20_000;
    size += writeSync(fd, bytes);
  }
  closeSync(fd);
  place.startHelper();
  const begun = performance.now();
  const sidecar = place.startSidecar();
  let peak = 0;
  await until('the backlog', 600, () => {
    peak = Math.max(peak, memory(sidecar).peak);
    return sizeOf(output) >= sizeOf(log);
  });
  const seconds = (performance.now() - begun) / 1000;
  await children.end(sidecar, 'SIGTERM');
  const difference = sameBytes([log], output);
  console.log(
    `backlog: ${n} lines, 2 GiB in ${seconds.toFixed(1)} s (${Math.round(n / seconds)} lines/s), at most ${peak.toFixed(0)} MB resident: ${difference ?? 'output equals input'}`,
  );
  if (difference || peak >= 150) throw new Error('the promise is broken');
}

async function reclaim(place: Place): Promise<void> {
  const { log, output, children } = place;
  const file = { fd: openSync(log, 'a') };
  place.startHelper();
  const sidecar = place.startSidecar('--reclaim');
  let most = 0;
  await write(
    {
      rate: 20_000,
      total: Math.ceil((2.05 * 1024 ** 3) / 250),
      each() {
        most = Math.max(most, fstatSync(file.fd).blocks * 512);
      },
    },
    file,
  );
  const { size } = fstatSync(file.fd);
  await until('the last line', 60, () => sizeOf(output) >= size);
  const code = await children.end(sidecar, 'SIGTERM');
  closeSync(file.fd);
  console.log(
    `reclaim: apparent size ${(size / 1024 ** 2).toFixed(0)} MiB, at most ${(most / 1024 ** 2).toFixed(1)} MiB allocated, output ${sizeOf(output) === size ? 'complete' : `of ${sizeOf(output)} bytes`}; exit ${code}`,
  );
  if (most >= 64 * 1024 ** 2 || size < 2 * 1024 ** 3 || sizeOf(output) !== size)
    throw new Error('the promise is broken');
}

const RUNS: Record<string, (place: Place) => Promise<void>> = {
  'exactly-once': exactlyOnce,
  backlog,
  reclaim,
};

const names = process.argv.slice(2);
for (const name of names.length > 0 ? names : Object.keys(RUNS)) {
  const run = RUNS[name];
  if (!run) throw new Error(`there is no long run ${name}; there are ${Object.keys(RUNS).join(', ')}`);
  const dir = mkdtempSync(join(process.env.REALPOD_LONG_DIR ?? tmpdir(), 'realpod-long-'));
  const children = new Children();
  const port = 20_000 + (process.pid % 20_000);
  const log = join(dir, 'access.log');
  const output = join(dir, 'enriched.log');
  try {
    await run({
      dir,
      log,
      output,
      children,
      startHelper: () =>
        children.start([
          'helper',
          '--sources',
          'conntrack',
          '--auth',
          'none',
          '--listen',
          `127.0.0.1:${port}`,
        ]),
      startSidecar: (...more) =>
        children.start([
          'sidecar',
          ...[
            '--access-log',
            log,
            '--output',
            output,
            '--log-format',
            FORMAT,
            '--source-address',
            '127.0.0.1',
          ],
          ...['--helper', `http://127.0.0.1:${port}`, '--listen', `127.0.0.1:${port + 1}`, ...more],
        ]),
    });
  } finally {
    await children.endAll();
    rmSync(dir, { recursive: true, force: true });
  }
}
