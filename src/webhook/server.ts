import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import { isOwnHost } from '../http/host.ts';
import type { InjectOptions } from '../inject/plan.ts';
import type { Log } from '../log.ts';
import { type Decision, review } from './admission.ts';
import type { Pair } from './certificate.ts';

/** The API server sends objects of at most 3 MiB. */
const MAX_BODY_BYTES = 4 * 1024 * 1024;
const MAX_OPEN_CONNECTIONS = 256;
const REQUEST_MS = 10_000;

export type ReviewResult = Decision['outcome'] | 'invalid' | 'failed';

export interface WebhookServer {
  server: Server;
  /** Serves another certificate from the next connection on. */
  use(pair: Pair): void;
  counts: Record<ReviewResult, number>;
}

/** POST /inject, GET /healthz, /readyz, /metrics over TLS. */
export function createWebhookServer(pair: Pair, options: InjectOptions, log: Log): WebhookServer {
  const counts: Record<ReviewResult, number> = {
    injected: 0,
    unchanged: 0,
    refused: 0,
    invalid: 0,
    failed: 0,
  };
  const server = createServer(
    { cert: pair.certificate, key: pair.key, minVersion: 'TLSv1.2', requestTimeout: REQUEST_MS },
    (request, response) => {
      serve(request, response, options, counts).catch((error: unknown) => {
        counts.failed++;
        log('warn', `a review failed: ${error instanceof Error ? error.message : String(error)}`);
        if (!response.headersSent) response.writeHead(500);
        response.end();
      });
    },
  );
  server.maxConnections = MAX_OPEN_CONNECTIONS;
  server.headersTimeout = REQUEST_MS;
  // Port scans and probes abort the handshake: no error of the webhook.
  server.on('tlsClientError', (_error, socket) => socket.destroy());
  return {
    server,
    counts,
    use: ({ certificate, key }) => server.setSecureContext({ cert: certificate, key, minVersion: 'TLSv1.2' }),
  };
}

async function serve(
  request: IncomingMessage,
  response: ServerResponse,
  options: InjectOptions,
  counts: Record<ReviewResult, number>,
): Promise<void> {
  const [path] = (request.url ?? '').split('?', 1);
  const answer = (status: number, type: string, text: string): void => {
    response.writeHead(status, { 'content-type': type }).end(text);
  };
  if (!isOwnHost(request.headers.host ?? '', [])) {
    answer(421, 'text/plain', 'use the address, or the name of the Service\n');
  } else if (request.method === 'POST' && path === '/inject') {
    const text = await bodyOf(request);
    const decision = text === undefined ? undefined : review(parsed(text), options);
    counts[decision?.outcome ?? 'invalid']++;
    if (decision) answer(200, 'application/json', JSON.stringify(decision.review));
    else if (text === undefined) answer(413, 'text/plain', 'too large\n');
    else answer(400, 'text/plain', 'not an AdmissionReview of admission.k8s.io/v1\n');
  } else if (path === '/healthz' || path === '/readyz') answer(200, 'text/plain', 'ok\n');
  else if (path === '/metrics') answer(200, 'text/plain; version=0.0.4', metrics(counts));
  else answer(404, 'text/plain', 'not found\n');
}

/** The body of a request; undefined if it is too large. */
async function bodyOf(request: IncomingMessage): Promise<string | undefined> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    bytes += part.length;
    if (bytes > MAX_BODY_BYTES) return undefined;
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function metrics(counts: Record<ReviewResult, number>): string {
  const name = 'realpod_webhook_reviews_total';
  const lines = Object.entries(counts).map(([outcome, count]) => `${name}{outcome="${outcome}"} ${count}`);
  return [`# HELP ${name} Admission reviews by result.`, `# TYPE ${name} counter`, ...lines, ''].join('\n');
}
