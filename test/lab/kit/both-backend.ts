/**
 * A backend that speaks HTTP/1 and HTTP/2 on one port: `both-backend.ts PORT LOG`. Answers with X-Pod-Ip, X-Pod-Port and
 * X-Client-Port and keeps a log, as the other backends do. Paths `…/wait/MS` are answered after so many milliseconds.
 */
import { appendFileSync } from 'node:fs';
import { createServer as createHttp1 } from 'node:http';
import { createServer as createHttp2 } from 'node:http2';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

const port = Number(process.argv[2]);
const servedLog = process.argv[3];
if (!port || !servedLog) {
  console.error('usage: both-backend.ts PORT LOG');
  process.exit(2);
}

const address = (ip: string | undefined) => (ip ?? '').replace('::ffff:', '');
const BODY = 'an answer by one of two protocols\n';

function served(inner: Socket, id: string, method: string, uri: string): Record<string, string> {
  const socket = outer.get(keyOf(inner.localPort!, inner.remotePort!))!;
  const ip = address(socket.localAddress);
  const client = `${address(socket.remoteAddress)}:${socket.remotePort}`;
  appendFileSync(servedLog!, `${id || '-'} ${ip}:${port} ${client} ${method} ${uri} ${Date.now() / 1000}\n`);
  return { 'x-pod-ip': ip, 'x-pod-port': String(port), 'x-client-port': String(socket.remotePort) };
}

const waitOf = (uri: string): number => Number(/\/wait\/(\d+)$/.exec(uri)?.[1] ?? 0);

const http1 = createHttp1((request, response) => {
  const { method = '-', url = '-' } = request;
  const who = served(request.socket, String(request.headers['x-request-id'] ?? ''), method, url);
  request.resume().once('end', () =>
    setTimeout(() => {
      response.writeHead(200, who);
      response.end(BODY);
    }, waitOf(url)),
  );
});
http1.keepAliveTimeout = 0;
const http2 = createHttp2();
http2.on('stream', (stream, headers) => {
  const path = String(headers[':path'] ?? '-');
  const socket = stream.session!.socket as Socket;
  const who = served(socket, String(headers['x-request-id'] ?? ''), String(headers[':method']), path);
  stream.on('error', () => stream.destroy());
  stream.resume().once('end', () =>
    setTimeout(() => {
      if (stream.destroyed) return;
      stream.respond({ ':status': 200, 'content-type': 'application/grpc', ...who });
      stream.end(BODY);
    }, waitOf(path)),
  );
});

/** Outer ends of the connections, by both ports of their inner ends: one port may lead to both servers at a time. */
const outer = new Map<string, Socket>();
const keyOf = (inner: number, from: number): string => `${inner} ${from}`;

// Node's HTTP/2 reads from the descriptor, so what was looked at cannot be given back: each connection is handed on whole.
const server = createServer((socket) => {
  socket.on('error', () => socket.destroy());
  socket.once('data', (first) => {
    socket.pause();
    const { port: inner } = (
      first.toString('latin1', 0, 3) === 'PRI' ? http2 : http1
    ).address() as AddressInfo;
    const next = connect(inner, '127.0.0.1', () => {
      const key = keyOf(inner, next.localPort!);
      outer.set(key, socket);
      next.once('close', () => {
        if (outer.get(key) === socket) outer.delete(key);
      });
      next.write(first);
      socket.pipe(next).pipe(socket);
    });
    next.on('error', () => socket.destroy());
    socket.once('close', () => next.destroy());
    next.once('close', () => socket.end());
  });
});
http1.listen(0, '127.0.0.1');
http2.listen(0, '127.0.0.1');
server.listen({ port, host: '::', backlog: 1024 }, () => process.stdout.write('ready\n'));
