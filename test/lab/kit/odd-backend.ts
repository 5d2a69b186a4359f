/**
 * A backend that misbehaves on request, on plain sockets. Run in a pod: `odd-backend.ts PORT LOG [DELAY [FAILING]]`.
 * Like the fast backend it keeps a log of what it was asked: `ID IP:PORT CLIENT:PORT METHOD URI SECONDS`. DELAY is the longest
 * wait in ms before an answer whose request says nothing of it, FAILING the share of such answers that is 503 (default 0 each).
 *
 * The query string of a request says what to do with it:
 *   delay=MS     wait before the answer; A-B: between  size=N     body of N bytes (default 40)
 *   status=N     status code                       drip=N,MS   body in N pieces, MS apart
 *   do=close     close without an answer           do=half     close in the middle of the body
 *   do=early     answer before reading the body    do=http10   answer as HTTP/1.0 and close
 *   do=upgrade   101, then echo until the end      do=reset    reset instead of an answer
 *   chance=P     do=, status= and delay= count for P of 100 requests only
 * Every answer carries X-Pod-Ip, X-Pod-Port and X-Client-Port, as the fast backend's do.
 */
import { appendFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';

const port = Number(process.argv[2]);
const servedLog = process.argv[3];
const slowestMs = Number(process.argv[4] ?? 0);
const failing = Number(process.argv[5] ?? 0);
if (!Number.isInteger(port) || port < 1 || port > 65535 || !servedLog) {
  console.error('usage: odd-backend.ts PORT LOG [DELAY [FAILING]]');
  process.exit(2);
}

interface Head {
  method: string;
  target: string;
  id: string;
  query: URLSearchParams;
  bodyBytes: number;
  chunked: boolean;
  http10: boolean;
  keepAlive: boolean;
}

function parseHead(text: string): Head {
  const [line = '', ...fields] = text.split('\r\n');
  const [method = '', target = '/', version = ''] = line.split(' ');
  let bodyBytes = 0;
  let chunked = false;
  let connection = '';
  let id = '-';
  for (const field of fields) {
    const colon = field.indexOf(':');
    const name = field.slice(0, colon).toLowerCase();
    const value = field.slice(colon + 1).trim();
    if (name === 'content-length') bodyBytes = Number(value);
    if (name === 'transfer-encoding') chunked = true;
    if (name === 'x-request-id' && id === '-') id = value;
    // Where a scene tells requests apart by an id of its own.
    if (name === 'x-lab-id') id = value;
    if (name === 'connection') connection = value.toLowerCase();
  }
  const mark = target.indexOf('?');
  return {
    method,
    target,
    id,
    query: chosen(new URLSearchParams(mark < 0 ? '' : target.slice(mark + 1))),
    bodyBytes,
    chunked,
    http10: version === 'HTTP/1.0',
    keepAlive: version === 'HTTP/1.1' && connection !== 'close',
  };
}

function delayOf(asked: string | null): number {
  if (asked === null) return slowestMs * (0.5 + Math.random() / 2);
  const [least = 0, most = least] = asked.split('-').map(Number);
  return least + Math.random() * (most - least);
}

function chosen(query: URLSearchParams): URLSearchParams {
  if (Math.random() * 100 >= Number(query.get('chance') ?? 100))
    for (const name of ['do', 'status', 'delay']) query.delete(name);
  return query;
}

const address = (ip: string | undefined) => (ip ?? '').replace('::ffff:', '');

function answer(socket: Socket, head: Head, done: () => void): void {
  const { query, method } = head;
  const act = query.get('do');
  if (act === 'close') return void socket.end();
  if (act === 'reset') return void socket.resetAndDestroy();
  const size = Number(query.get('size') ?? 40);
  const version = act === 'http10' || head.http10 ? 'HTTP/1.0' : 'HTTP/1.1';
  const keep = head.keepAlive && act !== 'http10' && act !== 'half';
  const status = query.get('status') ?? (Math.random() < failing ? 503 : 200);
  const who = `X-Pod-Ip: ${address(socket.localAddress)}\r\nX-Pod-Port: ${socket.localPort}\r\nX-Client-Port: ${socket.remotePort}\r\n`;
  if (act === 'upgrade') {
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n${who}\r\n`,
    );
    socket.removeAllListeners('data');
    socket.on('data', (piece) => socket.write(piece));
    return;
  }
  const body = Buffer.alloc(method === 'HEAD' ? 0 : size, 'y');
  socket.write(
    `${version} ${status} Lab\r\nContent-Type: text/plain\r\nContent-Length: ${size}\r\nConnection: ${keep ? 'keep-alive' : 'close'}\r\n${who}\r\n`,
  );
  if (act === 'half') {
    socket.end(body.subarray(0, size >> 1));
    return;
  }
  const finish = () => (keep ? done() : void socket.end());
  const [pieces = 1, gapMs = 0] = (query.get('drip') ?? '1,0').split(',').map(Number);
  const step = Math.max(1, Math.ceil(body.length / pieces));
  const send = (from: number): void => {
    if (socket.destroyed) return;
    if (from < body.length) socket.write(body.subarray(from, from + step));
    if (from + step >= body.length) finish();
    else setTimeout(send, gapMs, from + step);
  };
  send(0);
}

const LAST_CHUNK = Buffer.from('0\r\n\r\n');

const server = createServer((socket) => {
  socket.setNoDelay(true);
  let pending: Buffer = Buffer.alloc(0);
  let skip = 0;
  let inChunks = false;
  let busy = false;
  const proceed = (): void => {
    for (;;) {
      if (inChunks) {
        // The lab's bodies never contain the text of the last chunk.
        const last = pending.indexOf(LAST_CHUNK);
        pending = pending.subarray(last < 0 ? -LAST_CHUNK.length : last + LAST_CHUNK.length);
        if (last < 0) return;
        inChunks = false;
      }
      const taken = Math.min(skip, pending.length);
      pending = pending.subarray(taken);
      skip -= taken;
      if (busy || skip > 0) return;
      const end = pending.indexOf('\r\n\r\n');
      if (end < 0) return;
      const head = parseHead(pending.subarray(0, end).toString('latin1'));
      pending = pending.subarray(end + 4);
      skip = head.bodyBytes;
      inChunks = head.chunked;
      busy = true;
      const here = `${address(socket.localAddress)}:${socket.localPort}`;
      const peer = `${address(socket.remoteAddress)}:${socket.remotePort}`;
      appendFileSync(
        servedLog,
        `${head.id} ${here} ${peer} ${head.method} ${head.target} ${Date.now() / 1000}\n`,
      );
      const reply = () =>
        answer(socket, head, () => {
          busy = false;
          setImmediate(proceed);
        });
      const waitMs = delayOf(head.query.get('delay'));
      const whenRead = (): void => {
        if ((skip > 0 || inChunks) && head.query.get('do') !== 'early' && !socket.destroyed) {
          socket.once('data', () => setImmediate(whenRead));
          return;
        }
        if (waitMs > 0) setTimeout(reply, waitMs);
        else reply();
      };
      // After this loop has taken what is here of the body.
      setImmediate(whenRead);
    }
  };
  socket.on('data', (piece: Buffer) => {
    pending = pending.length === 0 ? piece : Buffer.concat([pending, piece]);
    proceed();
  });
  socket.on('error', () => socket.destroy());
});
server.on('error', (error) => {
  console.error(`odd backend: ${error.message}`);
  process.exit(1);
});
server.listen({ port, host: '::', backlog: 1024 }, () => process.stdout.write('ready\n'));
