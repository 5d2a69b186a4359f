/**
 * Load with a count, a rate and a seed: `load.ts '{"host":…}'` (a LoadPlan as JSON), run in the client's namespace.
 * Prints one LoadResult as JSON at the end. For plain saturation the lab uses wrk.
 */
import { connect, type Socket } from 'node:net';

export interface LoadPlan {
  host: string;
  port: number;
  connections: number;
  /** Requests in all. */
  total: number;
  /** Requests a second; without it every connection sends its next request when the last is answered. */
  ratePerSecond?: number;
  /** Client connections stay open. Default true. */
  keepalive?: boolean;
  /** The client's own addresses, each connection from the next one. Default: the system's choice. */
  localAddresses?: readonly string[];
  /** For the choice among `requests`. */
  seed?: number;
  requests: readonly RequestPlan[];
  /** The whole run is cut off after this. Default 60,000. */
  limitMs?: number;
}

export interface RequestPlan {
  /** Default 1. */
  weight?: number;
  /** Default GET. */
  method?: string;
  /** `{n}` becomes the request's number in the run, `{r}` one of 65,536 by chance, `{r40}` one of 40, `{port}` the client's port, `{local}` its address, `{pad}` 32,000 letters. */
  path: string;
  bodyBytes?: number;
  /** The body goes in chunks of this many bytes, 2 ms apart, without its length. */
  chunkBytes?: number;
  /** Announce the body with `Expect: 100-continue` and send it when the server says so. */
  expect?: boolean;
  /** Raw header lines, without line ends. `{n}` and `{r}` as in the path. */
  headers?: readonly string[];
  /** The client goes away this long after sending. */
  abortAfterMs?: number;
}

export interface LoadResult {
  sent: number;
  completed: number;
  aborted: number;
  failed: number;
  statuses: Record<string, number>;
  elapsedMs: number;
}

/** A small generator of its own (mulberry32), so that a seed gives the same run everywhere. */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Follows the framing of one response: how many more bytes belong to it (RFC 9112, section 6.3). */
class ResponseReader {
  status = 0;
  /** Called at `100 Continue`. */
  continued: () => void = () => {};
  private readonly bodiless: boolean;
  private head = '';
  private left = 0;
  private chunked = false;
  private untilClose = false;
  private inBody = false;
  private tail = '';

  constructor(method: string) {
    this.bodiless = method === 'HEAD';
  }

  /** Takes the next bytes; true when the response is complete. */
  push(bytes: Buffer): boolean {
    let body = bytes;
    if (!this.inBody) {
      this.head += bytes.toString('latin1');
      const end = this.head.indexOf('\r\n\r\n');
      if (end < 0) return false;
      body = Buffer.from(this.head.slice(end + 4), 'latin1');
      this.readHead(this.head.slice(0, end).toLowerCase());
      this.inBody = true;
      if (this.status < 200 && this.status !== 101) {
        this.inBody = false;
        this.head = '';
        this.continued();
        return body.length > 0 && this.push(body);
      }
      if (this.bodiless || this.status === 204 || this.status === 304) return true;
    }
    if (this.chunked) {
      // The last chunk is empty; the lab's bodies never contain its text.
      this.tail = (this.tail + body.toString('latin1')).slice(-7);
      return this.tail === '\r\n0\r\n\r\n' || this.tail === '0\r\n\r\n';
    }
    if (this.untilClose) return false;
    this.left -= body.length;
    return this.left <= 0;
  }

  /** The peer closed: was the response complete with that? */
  close(): boolean {
    return this.inBody && this.untilClose;
  }

  private readHead(head: string): void {
    this.status = Number(head.slice(9, 12));
    const length = /\r\ncontent-length: *(\d+)/.exec(head);
    this.chunked = head.includes('\r\ntransfer-encoding: chunked');
    this.left = length ? Number(length[1]) : 0;
    this.untilClose = !length && !this.chunked;
  }
}

const DRAWN = /\{r(\d*)\}/;

function drawn(r: number, count: string): string {
  return String(count === '' ? r : r % Number(count));
}

function encodeHead(
  plan: LoadPlan,
  request: RequestPlan,
  n: number,
  r: number,
  { localPort, localAddress }: Socket,
): Buffer {
  const method = request.method ?? 'GET';
  const path = request.path
    .replace('{n}', String(n))
    .replace(DRAWN, (_, count) => drawn(r, count))
    .replace('{port}', String(localPort ?? 0))
    .replace('{local}', localAddress ?? '')
    .replace('{pad}', 'p'.repeat(32_000));
  const lines = [
    `${method} ${path} HTTP/1.1`,
    'Host: lab',
    `Connection: ${plan.keepalive === false ? 'close' : 'keep-alive'}`,
    ...(request.headers ?? []).map((header) =>
      header.replace('{n}', String(n)).replace(DRAWN, (_, count) => drawn(r, count)),
    ),
  ];
  if (request.chunkBytes) lines.push('Transfer-Encoding: chunked');
  else if (request.bodyBytes !== undefined) lines.push(`Content-Length: ${request.bodyBytes}`);
  if (request.expect) lines.push('Expect: 100-continue');
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
}

/** The body in the pieces it is sent in. */
function encodeBody({ bodyBytes = 0, chunkBytes }: RequestPlan): Buffer[] {
  if (!chunkBytes) return bodyBytes > 0 ? [Buffer.alloc(bodyBytes, 'b')] : [];
  const pieces: Buffer[] = [];
  for (let left = bodyBytes; left > 0; left -= chunkBytes) {
    const size = Math.min(left, chunkBytes);
    pieces.push(Buffer.from(`${size.toString(16)}\r\n${'b'.repeat(size)}\r\n`, 'latin1'));
  }
  return [...pieces, Buffer.from('0\r\n\r\n', 'latin1')];
}

/** How far apart chunks are sent (ms). */
const CHUNK_MS = 2;

function from({ localAddresses = [] }: LoadPlan, n: number): { localAddress?: string } {
  return localAddresses.length === 0 ? {} : { localAddress: localAddresses[n % localAddresses.length]! };
}

export function runLoad(plan: LoadPlan): Promise<LoadResult> {
  const result: LoadResult = { sent: 0, completed: 0, aborted: 0, failed: 0, statuses: {}, elapsedMs: 0 };
  const started = performance.now();
  const chance = random(plan.seed ?? 1);
  const weights = plan.requests.map((request) => request.weight ?? 1);
  const whole = weights.reduce((sum, weight) => sum + weight, 0);
  const pick = (): RequestPlan => {
    let at = chance() * whole;
    for (let i = 0; i < weights.length; i++) {
      at -= weights[i]!;
      if (at < 0) return plan.requests[i]!;
    }
    return plan.requests[0]!;
  };
  let dialed = 0;
  const idle: (Socket | undefined)[] = Array.from({ length: plan.connections });

  return new Promise((resolve) => {
    let pacer: NodeJS.Timeout | undefined;
    const finish = (): void => {
      clearInterval(pacer);
      clearTimeout(limit);
      result.elapsedMs = Math.round(performance.now() - started);
      for (const socket of idle) socket?.destroy();
      resolve(result);
    };
    const limit = setTimeout(finish, plan.limitMs ?? 60_000);

    const release = (socket: Socket | undefined): void => {
      idle.push(socket);
      if (result.completed + result.aborted + result.failed >= plan.total) finish();
      else if (!plan.ratePerSecond) start();
    };

    const start = (): void => {
      if (result.sent >= plan.total || idle.length === 0) return;
      const kept = idle.pop();
      const socket =
        kept && !kept.destroyed
          ? kept
          : connect({ host: plan.host, port: plan.port, noDelay: true, ...from(plan, dialed++) });
      const request = pick();
      const reader = new ResponseReader(request.method ?? 'GET');
      let abort: NodeJS.Timeout | undefined;
      const settle = (how: 'completed' | 'aborted' | 'failed'): void => {
        clearTimeout(abort);
        socket.removeAllListeners();
        socket.on('error', () => socket.destroy());
        result[how]++;
        if (how === 'completed') {
          result.statuses[reader.status] = (result.statuses[reader.status] ?? 0) + 1;
          // nginx closes a connection by itself at times; a request sent on it then would fail.
          if (plan.keepalive !== false && !socket.readableEnded) {
            socket.once('end', () => socket.destroy());
            release(socket);
            return;
          }
        }
        socket.destroy();
        release(undefined);
      };
      socket.on('data', (bytes: Buffer) => reader.push(bytes) && settle('completed'));
      socket.on('end', () => settle(reader.close() ? 'completed' : 'failed'));
      socket.on('error', () => settle('failed'));
      const number = result.sent++;
      const draw = [request.path, ...(request.headers ?? [])].some((text) => DRAWN.test(text))
        ? Math.floor(chance() * 65_536)
        : 0;
      const sendBody = (pieces: readonly Buffer[]): void => {
        const [piece, ...rest] = pieces;
        if (piece === undefined || socket.destroyed) return;
        socket.write(piece);
        if (rest.length > 0) setTimeout(sendBody, CHUNK_MS, rest);
      };
      const body = encodeBody(request);
      const send = (): void => {
        const head = encodeHead(plan, request, number, draw, socket);
        const [piece, ...rest] = body;
        if (request.expect) {
          reader.continued = () => sendBody(body);
          socket.write(head);
        } else {
          // Head and body in one piece, as most clients do.
          socket.write(piece ? Buffer.concat([head, piece]) : head);
          sendBody(rest);
        }
      };
      if (socket.connecting) socket.once('connect', send);
      else send();
      if (request.abortAfterMs !== undefined) abort = setTimeout(settle, request.abortAfterMs, 'aborted');
    };

    const rate = plan.ratePerSecond;
    if (rate) {
      pacer = setInterval(() => {
        const due = Math.min(plan.total, Math.floor(((performance.now() - started) * rate) / 1000) + 1);
        while (result.sent < due && idle.length > 0) start();
      }, 1);
    } else {
      for (let i = 0; i < plan.connections; i++) start();
    }
  });
}

const argument = process.argv[2];
if (/load\.[jt]s$/.test(process.argv[1] ?? '') && argument !== undefined)
  console.log(JSON.stringify(await runLoad(JSON.parse(argument) as LoadPlan)));
