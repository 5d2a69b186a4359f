/**
 * Backends that do not speak plain HTTP/1: `protocol-backend.ts FASTCGI UWSGI GRPC HTTPS LOG DIR`, four ports. DIR holds
 * `key.pem` and `cert.pem`. Each answers with X-Pod-Ip, X-Pod-Port and X-Client-Port and keeps a log, as the other backends do.
 */
import { appendFileSync, readFileSync } from 'node:fs';
import { createServer as createHttp2 } from 'node:http2';
import { createServer as createHttps } from 'node:https';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';

const [fastcgi, uwsgi, grpc, https] = process.argv.slice(2, 6).map(Number);
const [servedLog, dir] = process.argv.slice(6);
if (!fastcgi || !uwsgi || !grpc || !https || !servedLog || !dir) {
  console.error('usage: protocol-backend.ts FASTCGI UWSGI GRPC HTTPS LOG DIR');
  process.exit(2);
}

const address = (ip: string | undefined) => (ip ?? '').replace('::ffff:', '');
const BODY = 'an answer of another protocol\n';

/** Logs a request and returns the headers that say who answers it. */
function served(socket: Socket, id: string | undefined, method: string, uri: string): Record<string, string> {
  const pod = { ip: address(socket.localAddress), port: String(socket.localPort) };
  const client = `${address(socket.remoteAddress)}:${socket.remotePort}`;
  appendFileSync(
    servedLog!,
    `${id || '-'} ${pod.ip}:${pod.port} ${client} ${method} ${uri} ${Date.now() / 1000}\n`,
  );
  return { 'x-pod-ip': pod.ip, 'x-pod-port': pod.port, 'x-client-port': String(socket.remotePort) };
}

function cgiAnswer(headers: Record<string, string>): string {
  const fields = Object.entries({ 'content-type': 'text/plain', ...headers });
  return `${fields.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n${BODY}`;
}

/** Record types of the FastCGI specification, section 8. */
const BEGIN_REQUEST = 1;
const END_REQUEST = 3;
const PARAMS = 4;
const STDIN = 5;
const STDOUT = 6;
const KEEP_CONNECTION = 1;

function record(type: number, id: number, content: Buffer): Buffer {
  const head = Buffer.from([1, type, id >> 8, id & 255, content.length >> 8, content.length & 255, 0, 0]);
  return Buffer.concat([head, content]);
}

/** Section 3.4: lengths of 1 or 4 bytes, then name and value. */
function readParams(bytes: Buffer): Map<string, string> {
  const params = new Map<string, string>();
  let at = 0;
  const length = (): number => {
    if (bytes[at]! < 128) return bytes[at++]!;
    const long = bytes.readUInt32BE(at) & 0x7fffffff;
    at += 4;
    return long;
  };
  while (at < bytes.length) {
    const name = length();
    const value = length();
    params.set(
      bytes.toString('latin1', at, at + name),
      bytes.toString('latin1', at + name, at + name + value),
    );
    at += name + value;
  }
  return params;
}

function fastcgiServer(): Server {
  return createServer((socket) => {
    let pending: Buffer = Buffer.alloc(0);
    let params: Buffer[] = [];
    let keep = false;
    socket.on('error', () => socket.destroy());
    socket.on('data', (piece: Buffer) => {
      pending = Buffer.concat([pending, piece]);
      while (pending.length >= 8) {
        const size = pending.readUInt16BE(4);
        const whole = 8 + size + pending[6]!;
        if (pending.length < whole) return;
        const type = pending[1]!;
        const id = pending.readUInt16BE(2);
        const content = pending.subarray(8, 8 + size);
        pending = pending.subarray(whole);
        if (type === BEGIN_REQUEST) {
          keep = (content[2]! & KEEP_CONNECTION) !== 0;
          params = [];
        } else if (type === PARAMS) params.push(content);
        else if (type === STDIN && size === 0) {
          const all = readParams(Buffer.concat(params));
          const who = served(
            socket,
            all.get('HTTP_X_REQUEST_ID'),
            all.get('REQUEST_METHOD') ?? '-',
            all.get('REQUEST_URI') ?? '-',
          );
          socket.write(
            Buffer.concat([
              record(STDOUT, id, Buffer.from(cgiAnswer(who))),
              record(STDOUT, id, Buffer.alloc(0)),
              record(END_REQUEST, id, Buffer.alloc(8)),
            ]),
          );
          if (!keep) socket.end();
        }
      }
    });
  });
}

/** A packet of the uwsgi protocol: modifier, size (little-endian), modifier, then names and values with their lengths. */
function uwsgiServer(): Server {
  return createServer((socket) => {
    let pending: Buffer = Buffer.alloc(0);
    let answered = false;
    socket.on('error', () => socket.destroy());
    socket.on('data', (piece: Buffer) => {
      pending = Buffer.concat([pending, piece]);
      if (answered || pending.length < 4) return;
      const end = 4 + pending.readUInt16LE(1);
      if (pending.length < end) return;
      const vars = new Map<string, string>();
      for (let at = 4; at < end; ) {
        const next = (): string => {
          const from = at + 2;
          at = from + pending.readUInt16LE(at);
          return pending.toString('latin1', from, at);
        };
        const name = next();
        vars.set(name, next());
      }
      if (pending.length < end + Number(vars.get('CONTENT_LENGTH') || 0)) return;
      answered = true;
      const who = served(
        socket,
        vars.get('HTTP_X_REQUEST_ID'),
        vars.get('REQUEST_METHOD') ?? '-',
        vars.get('REQUEST_URI') ?? '-',
      );
      socket.end(`HTTP/1.1 200 OK\r\n${cgiAnswer(who)}`);
    });
  });
}

const header = (value: string | string[] | undefined) => (Array.isArray(value) ? value[0] : value);

function grpcServer() {
  const server = createHttp2();
  server.on('stream', (stream, headers) => {
    const who = served(
      stream.session!.socket as Socket,
      header(headers['x-request-id']),
      headers[':method'] ?? '-',
      headers[':path'] ?? '-',
    );
    stream.on('error', () => stream.destroy());
    stream.respond({ ':status': 200, 'content-type': 'application/grpc', ...who });
    stream.end(BODY);
  });
  return server;
}

function httpsServer() {
  const pem = (name: string) => readFileSync(join(dir!, name));
  return createHttps({ key: pem('key.pem'), cert: pem('cert.pem') }, (request, response) => {
    const { method = '-', url = '-' } = request;
    response.writeHead(200, served(request.socket, header(request.headers['x-request-id']), method, url));
    response.end(BODY);
  });
}

let left = 4;
for (const [server, port] of [
  [fastcgiServer(), fastcgi],
  [uwsgiServer(), uwsgi],
  [grpcServer(), grpc],
  [httpsServer(), https],
] as const) {
  server.on('error', (error: Error) => {
    console.error(`protocol backend: ${error.message}`);
    process.exit(1);
  });
  server.listen({ port, host: '::', backlog: 1024 }, () => {
    left--;
    if (left === 0) process.stdout.write('ready\n');
  });
}
